//! FreeSWITCH hang-up causes: the outcome each stands for, and its number in ITU-T Q.850.

use trunklog_storage::call::Disposition;

/// What a hang-up cause says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A regular end: answered if anything was billed, else nobody answered.
    Regular,
    /// An end of this kind, unless something was billed.
    Ended(Disposition),
}

/// Name, Q.850 number (FreeSWITCH's own numbers above 127 are not Q.850), meaning.
const CAUSES: &[(&str, i64, Meaning)] = {
    use Disposition::{
        AnsweredElsewhere, Blocked, Busy, Canceled, Congestion, Failed, NoAnswer, NoLine, NotAllowed, Rejected,
        Unavailable,
    };
    use Meaning::{Ended, Regular};
    &[
        ("NONE", 0, Regular),
        ("UNALLOCATED_NUMBER", 1, Ended(Unavailable)),
        ("NO_ROUTE_TRANSIT_NET", 2, Ended(Unavailable)),
        ("NO_ROUTE_DESTINATION", 3, Ended(Unavailable)),
        ("CHANNEL_UNACCEPTABLE", 6, Ended(Failed)),
        ("CALL_AWARDED_DELIVERED", 7, Regular),
        ("NORMAL_CLEARING", 16, Regular),
        ("USER_BUSY", 17, Ended(Busy)),
        ("NO_USER_RESPONSE", 18, Ended(NoAnswer)),
        ("NO_ANSWER", 19, Ended(NoAnswer)),
        ("SUBSCRIBER_ABSENT", 20, Ended(Unavailable)),
        ("CALL_REJECTED", 21, Ended(Rejected)),
        ("NUMBER_CHANGED", 22, Ended(Unavailable)),
        ("REDIRECTION_TO_NEW_DESTINATION", 23, Regular),
        ("EXCHANGE_ROUTING_ERROR", 25, Ended(Failed)),
        ("DESTINATION_OUT_OF_ORDER", 27, Ended(Unavailable)),
        ("INVALID_NUMBER_FORMAT", 28, Ended(Unavailable)),
        ("FACILITY_REJECTED", 29, Ended(NotAllowed)),
        ("RESPONSE_TO_STATUS_ENQUIRY", 30, Regular),
        ("NORMAL_UNSPECIFIED", 31, Regular),
        ("NORMAL_CIRCUIT_CONGESTION", 34, Ended(Congestion)),
        ("NETWORK_OUT_OF_ORDER", 38, Ended(Failed)),
        ("NORMAL_TEMPORARY_FAILURE", 41, Ended(Congestion)),
        ("SWITCH_CONGESTION", 42, Ended(Congestion)),
        ("ACCESS_INFO_DISCARDED", 43, Ended(Failed)),
        ("REQUESTED_CHAN_UNAVAIL", 44, Ended(NoLine)),
        ("PRE_EMPTED", 45, Ended(Failed)),
        ("FACILITY_NOT_SUBSCRIBED", 50, Ended(NotAllowed)),
        ("OUTGOING_CALL_BARRED", 52, Ended(NotAllowed)),
        ("INCOMING_CALL_BARRED", 54, Ended(Blocked)),
        ("BEARERCAPABILITY_NOTAUTH", 57, Ended(NotAllowed)),
        ("BEARERCAPABILITY_NOTAVAIL", 58, Ended(Failed)),
        ("SERVICE_UNAVAILABLE", 63, Ended(Failed)),
        ("BEARERCAPABILITY_NOTIMPL", 65, Ended(Failed)),
        ("CHAN_NOT_IMPLEMENTED", 66, Ended(NotAllowed)),
        ("FACILITY_NOT_IMPLEMENTED", 69, Ended(NotAllowed)),
        ("SERVICE_NOT_IMPLEMENTED", 79, Ended(NotAllowed)),
        ("INVALID_CALL_REFERENCE", 81, Ended(Failed)),
        ("INCOMPATIBLE_DESTINATION", 88, Ended(Failed)),
        ("INVALID_MSG_UNSPECIFIED", 95, Ended(Failed)),
        ("MANDATORY_IE_MISSING", 96, Ended(Failed)),
        ("MESSAGE_TYPE_NONEXIST", 97, Ended(Failed)),
        ("WRONG_MESSAGE", 98, Ended(Failed)),
        ("IE_NONEXIST", 99, Ended(Failed)),
        ("INVALID_IE_CONTENTS", 100, Ended(Failed)),
        ("WRONG_CALL_STATE", 101, Ended(Failed)),
        ("RECOVERY_ON_TIMER_EXPIRE", 102, Ended(Failed)),
        ("MANDATORY_IE_LENGTH_ERROR", 103, Ended(Failed)),
        ("PROTOCOL_ERROR", 111, Ended(Failed)),
        ("INTERWORKING", 127, Ended(Failed)),
        ("SUCCESS", 142, Regular),
        ("ORIGINATOR_CANCEL", 487, Ended(Canceled)),
        ("CRASH", 500, Ended(Failed)),
        ("SYSTEM_SHUTDOWN", 501, Regular),
        ("LOSE_RACE", 502, Ended(AnsweredElsewhere)),
        ("MANAGER_REQUEST", 503, Regular),
        ("BLIND_TRANSFER", 600, Regular),
        ("ATTENDED_TRANSFER", 601, Regular),
        ("ALLOTTED_TIMEOUT", 602, Regular),
        ("USER_CHALLENGE", 603, Ended(Failed)),
        ("MEDIA_TIMEOUT", 604, Regular),
        ("PICKED_OFF", 605, Ended(AnsweredElsewhere)),
        ("USER_NOT_REGISTERED", 606, Ended(Unavailable)),
        ("PROGRESS_TIMEOUT", 607, Ended(NoAnswer)),
        ("INVALID_GATEWAY", 608, Ended(Failed)),
        ("GATEWAY_DOWN", 609, Ended(NoLine)),
        ("INVALID_URL", 610, Ended(Failed)),
        ("INVALID_PROFILE", 611, Ended(Failed)),
        ("NO_PICKUP", 612, Ended(NoAnswer)),
        ("SRTP_READ_ERROR", 613, Regular),
        ("BOWOUT", 614, Regular),
        ("BUSY_EVERYWHERE", 615, Ended(Busy)),
        ("DECLINE", 616, Ended(Rejected)),
        ("DOES_NOT_EXIST_ANYWHERE", 617, Ended(Unavailable)),
        ("NOT_ACCEPTABLE", 618, Ended(Failed)),
        ("UNWANTED", 619, Ended(Rejected)),
        ("NO_IDENTITY", 620, Ended(Failed)),
        ("BAD_IDENTITY_INFO", 621, Ended(Failed)),
        ("UNSUPPORTED_CERTIFICATE", 622, Ended(Failed)),
        ("INVALID_IDENTITY", 623, Ended(Failed)),
        ("STALE_DATE", 624, Ended(Failed)),
        ("REJECT_ALL", 625, Ended(Rejected)),
    ]
};

/// The outcome of a leg that ended with `cause` after a conversation of length `billed`; `None` if that cannot be told.
pub(super) fn outcome(cause: &str, billed: Option<i64>) -> Option<Disposition> {
    match find(cause).map(|(_, _, meaning)| *meaning) {
        Some(Meaning::Ended(Disposition::AnsweredElsewhere)) => Some(Disposition::AnsweredElsewhere),
        // What was billed was answered, however it ended.
        _ if billed.is_some_and(|length| length > 0) => Some(Disposition::Answered),
        Some(Meaning::Ended(outcome)) => Some(outcome),
        Some(Meaning::Regular) => billed.map(|_| Disposition::NoAnswer),
        // An unknown cause says nothing.
        None => None,
    }
}

/// The cause's number in Q.850, if it has one.
pub(super) fn q850(cause: &str) -> Option<i64> {
    find(cause).map(|(_, number, _)| *number).filter(|number| (1..=127).contains(number))
}

/// Whether the caller gave up.
pub(super) fn released_by_caller(cause: &str) -> bool {
    cause.eq_ignore_ascii_case("ORIGINATOR_CANCEL")
}

fn find(cause: &str) -> Option<&'static (&'static str, i64, Meaning)> {
    CAUSES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_ends_are_answered_if_billed() {
        assert_eq!(outcome("NORMAL_CLEARING", Some(8)), Some(Disposition::Answered));
        assert_eq!(outcome("NORMAL_CLEARING", Some(0)), Some(Disposition::NoAnswer));
        assert_eq!(outcome("NORMAL_CLEARING", None), None);
        assert_eq!(outcome("user_busy", Some(0)), Some(Disposition::Busy));
        assert_eq!(outcome("user_busy", None), Some(Disposition::Busy));
        assert_eq!(outcome("user_busy", Some(3)), Some(Disposition::Answered));
        assert_eq!(outcome("LOSE_RACE", Some(3)), Some(Disposition::AnsweredElsewhere));
        assert_eq!(outcome("SOMETHING_NEW", Some(3)), Some(Disposition::Answered));
        assert_eq!(outcome("SOMETHING_NEW", Some(0)), None);
    }

    #[test]
    fn only_q850_numbers_are_q850() {
        assert_eq!(q850("NORMAL_CLEARING"), Some(16));
        assert_eq!(q850("INTERWORKING"), Some(127));
        assert_eq!(q850("ORIGINATOR_CANCEL"), None);
        assert_eq!(q850("NONE"), None);
        assert_eq!(q850("SOMETHING_NEW"), None);
    }
}
