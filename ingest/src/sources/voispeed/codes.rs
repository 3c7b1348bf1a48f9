//! VOIspeed's code tables: user events, system events, call outcomes (table 8) and entity types (table 1).

use trunklog_storage::call::Disposition;

/// What a user (an extension) sees.
pub(super) const USER_EVENTS: &[(i64, &str)] = &[
    (1, "cmd_failed"),
    (8, "incoming_call"),
    (9, "outgoing_call"),
    (10, "new_voicemail"),
    (12, "lost_call"),
    (14, "call_answered"),
    (15, "call_rejected"),
    (16, "call_disconnect_out"),
    (17, "call_disconnect_in"),
    (18, "call_transfer"),
];

/// What the PBX sees.
pub(super) const SYSTEM_EVENTS: &[(i64, &str)] = &[
    (1, "call_in"),
    (2, "call_progress"),
    (3, "call_out"),
    (4, "call_response"),
    (5, "disconnect_in"),
    (6, "disconnect_out"),
    (7, "call_transfer"),
    (8, "dtmf_out"),
    (9, "call_divert"),
    (10, "call_terminated"),
    (11, "call_held"),
    (12, "call_retrieved"),
];

/// Entity types that matter here.
pub(super) const USER: &str = "0";
/// A ring group.
pub(super) const RING_GROUP: &str = "1";
/// A line to the outside.
pub(super) const GATEWAY: &str = "2";
/// A device of a user.
pub(super) const TERMINAL: &str = "7";
/// A mailbox of the company.
pub(super) const VOICEMAIL: &str = "8";

/// What an outcome code says; `None` for no code or one that is in no table.
pub(super) fn outcome(code: &str) -> Option<Disposition> {
    let outcome = match code.split_whitespace().next().unwrap_or_default().parse::<i64>() {
        Ok(0) => Disposition::Unknown,
        Ok(1) => Disposition::Answered,
        Ok(2 | 10) => Disposition::Busy,
        Ok(3 | 11) => Disposition::Rejected,
        Ok(4 | 8 | 12) => Disposition::Unavailable,
        Ok(5 | 9) => Disposition::NoAnswer,
        Ok(6 | 13) => Disposition::NoLine,
        Ok(7) => Disposition::Dnd,
        Ok(_) => return None,
        Err(_) if code.trim().eq_ignore_ascii_case("ok") => Disposition::Answered,
        Err(_) => return None,
    };
    Some(outcome)
}

/// What tells an entity from all others: its type and its id within that type.
pub(super) fn entity(kind: Option<&str>, id: Option<&str>) -> Option<String> {
    let id = id?;
    Some(kind.map_or_else(|| id.to_owned(), |kind| format!("{kind}:{id}")))
}

/// Whether someone sits there: a user or one of his devices.
pub(super) fn is_person(kind: Option<&str>) -> bool {
    matches!(kind, Some(USER | TERMINAL))
}

/// The direction that two entity types make: from a gateway in, to a gateway out, with neither internal.
pub(super) fn direction(calling: Option<&str>, called: Option<&str>) -> Option<&'static str> {
    match (calling, called) {
        (Some(GATEWAY), Some(GATEWAY)) => None,
        (Some(GATEWAY), _) => Some("in"),
        (_, Some(GATEWAY)) => Some("out"),
        (Some(_), Some(_)) => Some("internal"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_those_of_table_8() {
        use Disposition::{Answered, Busy, Dnd, NoAnswer, NoLine, Rejected, Unavailable, Unknown};
        let table = [
            Unknown,
            Answered,
            Busy,
            Rejected,
            Unavailable,
            NoAnswer,
            NoLine,
            Dnd,
            Unavailable,
            NoAnswer,
            Busy,
            Rejected,
            Unavailable,
            NoLine,
        ];
        for (code, expected) in table.into_iter().enumerate() {
            assert_eq!(outcome(&code.to_string()), Some(expected), "{code}");
        }
        assert_eq!((outcome("14"), outcome("-1"), outcome("x"), outcome("OK")), (None, None, None, Some(Answered)));
    }
}
