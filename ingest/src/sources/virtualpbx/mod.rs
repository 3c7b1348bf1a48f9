//! VirtualPBX: a Kazoo, so its routes and messages are Kazoo's, under a source of its own.

use axum::Router;
use trunklog_storage::event::{Event, Source};
use trunklog_storage::fact::Decoded;

use super::kazoo;
use crate::IngestState;
use crate::settings::TenantSettings;

/// The routes below `/in/virtualpbx`.
pub fn routes() -> Router<IngestState> {
    kazoo::routes(Source::Virtualpbx)
}

/// What a message of VirtualPBX means.
pub fn decode(event: &Event, settings: &TenantSettings) -> Decoded {
    kazoo::decode(event, settings)
}
