//! Kazoo, as IP Telecoms and VirtualPBX run it: pivot requests, webhooks, pivot debug documents and recordings.
//!
//! A pivot request ([`pivot`]) says that a call started and asks how to route it; a webhook ([`hook`]) reports one
//! stage of one leg; a debug document ([`debug`]) repeats a pivot request that may have been missed; a recording
//! ([`recording`]) is uploaded when its call is over. The key of a call is its A-leg's call id. [`route`] takes the
//! requests and answers as the PBX expects.

mod account;
mod causes;
mod clock;
mod debug;
mod fields;
mod hook;
mod pivot;
mod record;
mod recording;
mod route;

#[cfg(test)]
mod tests;

use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use crate::settings::TenantSettings;
use fields::{Fields, Spelling};

pub use route::routes;

/// What a message of a Kazoo means, whichever of the two sources it came from.
pub fn decode(event: &Event, _settings: &TenantSettings) -> Decoded {
    let name = event.kind.split_once('.').map_or("", |(_, name)| name);
    match name {
        "pivot" => pivot::decode(event),
        "debug" => debug::decode(event),
        "hook" => hook::decode(event),
        "recording" => recording::decode(event),
        name if name.starts_with("channel_") => hook::decode(event),
        _ => decode_unknown(event),
    }
}

/// A message of which nobody said what it is: a webhook says so itself.
fn decode_unknown(event: &Event) -> Decoded {
    match Fields::of(event, Spelling::Hook) {
        Ok(fields) if fields.get("hookevent").is_some() => hook::decode(event),
        _ => Decoded::quarantined(event, format!("{}.unknown", event.source), "the kind of message is not known"),
    }
}
