//! Event notifications: told apart into user and system events, and given their key. The codes of the two overlap, so
//! a code says nothing without `event_type`.

use std::sync::Arc;

use trunklog_storage::call::{CallState, Rank, Stamp, Text};
use trunklog_storage::event::Event;
use trunklog_storage::fact::{CallRef, Decoded, SHORT_WINDOW};

use super::codes::{SYSTEM_EVENTS, USER_EVENTS};
use super::params::Params;
use super::{system, user};
use crate::settings::TenantSettings;
use crate::sources::values::kind_of;

/// Whose view of a call an event gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    User,
    System,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::User => "user",
            Level::System => "system",
        }
    }

    fn table(self) -> &'static [(i64, &'static str)] {
        match self {
            Level::User => USER_EVENTS,
            Level::System => SYSTEM_EVENTS,
        }
    }

    fn other(self) -> Level {
        match self {
            Level::User => Level::System,
            Level::System => Level::User,
        }
    }

    /// Parameters that may hold the key, best first.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Level::User => &["usercallid", "call_id", "callid", "entity_call_id", "local_id"],
            Level::System => &["call_id", "callid", "usercallid", "entity_call_id", "local_id"],
        }
    }

    fn find(self, name: &str) -> Option<&'static str> {
        self.table().iter().map(|(_, known)| *known).find(|known| known.eq_ignore_ascii_case(name))
    }

    fn find_code(self, code: i64) -> Option<&'static str> {
        self.table().iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
    }
}

/// One event as it was told apart; what [`user`] and [`system`] need to know of it.
pub(super) struct Notice<'a> {
    /// Its parameters.
    pub params: &'a Params<'a>,
    /// Its name.
    pub name: &'static str,
    /// The time that it carries, else its receipt.
    pub stamp: Stamp,
    /// Tells it from other events.
    pub fingerprint: [u8; 32],
}

/// What an event means.
pub(super) fn decode(event: &Event, settings: &TenantSettings) -> Decoded {
    let unknown = |error: String| Decoded::quarantined(event, "voispeed.unknown", error);
    let params = match Params::of(event, settings) {
        Ok(params) => params,
        Err(error) => return unknown(error),
    };
    let Some((level, name)) = classify(&params) else {
        return unknown("neither `event_type` nor `event_name` tells which event this is".to_owned());
    };
    let key = params.first(level.keys());
    if key.is_none() && level == Level::User && params.first(&["ext", "number", "request_id"]).is_none() {
        return unknown("no parameter tells which call this is about".to_owned());
    }
    let kind = kind_of(["voispeed", level.as_str(), name]);
    let mut decoded = Decoded::new(kind, &idempotency(event, &params, level, name, key));
    if key.is_none() || (params.get("datetime").is_none() && repeats(name)) {
        decoded.window = SHORT_WINDOW;
    }
    decoded.occurred_at = params.datetime();
    decoded.call_key = key.map(Arc::from);
    let stamp = decoded.occurred_at.map_or(Stamp(Rank::Receipt, event.received_at), |at| Stamp(Rank::Message, at));
    let notice = Notice { params: &params, name, stamp, fingerprint: decoded.fingerprint };
    let state = match level {
        Level::User => user::state(&notice),
        Level::System => system::state(&notice),
    };
    decoded.fact = state.and_then(|mut state| {
        attributes(&mut state, &params);
        let reference = match (&decoded.call_key, level) {
            (Some(key), _) => CallRef::Key(Arc::clone(key)),
            (None, Level::User) => user::open(&notice),
            // Nothing but its id tells one communication from another.
            (None, Level::System) => return None,
        };
        Some((reference, Arc::new(state)))
    });
    decoded
}

/// User or system event, and its name: by `event_type`, else by the name, never by the code alone.
fn classify(params: &Params<'_>) -> Option<(Level, &'static str)> {
    let name = params.get("event_name");
    let code = params.get("event").and_then(|code| code.parse().ok());
    let level = match params.get("event_type") {
        Some("2") => Level::User,
        Some("1") => Level::System,
        // `call_transfer` is in both tables; only users have an extension.
        _ if params.get("ext").is_some() => return by_name(Level::User, name?),
        _ => return by_name(Level::System, name?),
    };
    let by_code = || Some((level, level.find_code(code?)?));
    name.and_then(|name| by_name(level, name)).or_else(by_code)
}

fn by_name(first: Level, name: &str) -> Option<(Level, &'static str)> {
    [first, first.other()].into_iter().find_map(|level| Some((level, level.find(name)?)))
}

/// Events that a call may see several times and that only their time tells apart.
fn repeats(name: &str) -> bool {
    matches!(name, "call_held" | "call_retrieved" | "call_divert" | "call_progress")
}

/// Key, kind, entity and time; without a key the message itself.
fn idempotency<'a>(
    event: &'a Event,
    params: &'a Params<'_>,
    level: Level,
    name: &'a str,
    key: Option<&'a str>,
) -> Vec<&'a [u8]> {
    let Some(key) = key else {
        let query = event.query.as_deref().unwrap_or_default();
        return vec!["event".as_bytes(), query.as_bytes(), &event.payload[..]];
    };
    let mut parts = vec!["event", key, level.as_str(), name, params.text("datetime")];
    match level {
        Level::User => parts.push(params.text("ext")),
        Level::System => parts.extend(system::entity_parameters(name).iter().map(|name| params.text(name))),
    }
    parts.into_iter().map(str::as_bytes).collect()
}

/// The ids of the source, whichever of them is the key, and the application's own.
fn attributes(state: &mut CallState, params: &Params<'_>) {
    for name in ["usercallid", "call_id", "callid", "entity_call_id", "local_id", "request_id", "device", "note"] {
        state.attribute(name, params.text(name));
    }
    let external = params.first(&["extid", "external_id"]).unwrap_or_default();
    state.call.text(Text::ExternalId, Rank::Message, external);
}
