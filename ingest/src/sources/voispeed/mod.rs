//! VOIspeed: event notifications of users ([`user`]) and of the system ([`system`]), callbacks of IVR nodes ([`ivr`])
//! and the rows of its reports ([`report`]).
//!
//! The vendor's guide lost all its parameter tables, so names are read with configurable aliases ([`params`]), and
//! prints XML that is none, so reports are read strictly first and tolerantly then ([`xml`]).

mod clock;
mod codes;
mod event;
mod ivr;
mod params;
mod report;
mod route;
mod system;
mod user;
mod xml;

#[cfg(test)]
mod tests;

use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use crate::settings::TenantSettings;
use report::Service;

pub use route::routes;

/// What a message of VOIspeed means.
pub fn decode(event: &Event, settings: &TenantSettings) -> Decoded {
    let name = event.kind.split_once('.').map_or("", |(_, name)| name);
    if name == "ivr" {
        return ivr::decode(event, settings);
    }
    match Service::parse(name) {
        Some(service) => report::decode(event, service, settings),
        // A report body that could not be cut is no event, however much it may look like a form.
        None if event.payload.trim_ascii_start().starts_with(b"<") => {
            Decoded::quarantined(event, "voispeed.unknown", "the payload is no event")
        }
        None => event::decode(event, settings),
    }
}
