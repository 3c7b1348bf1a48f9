//! Events for the decoders' tests.

use bytes::Bytes;
use compact_str::format_compact;
use trunklog_storage::event::{Event, Micros, Source};

/// When the fixtures were received.
pub const AT: Micros = 1_767_323_045_000_006;

/// A form that was posted.
pub fn posted(source: Source, kind: &str, body: &str) -> Event {
    Event {
        id: "00000000-0000-7000-8000-000000000000".into(),
        tenant: "acme".into(),
        source,
        kind: kind.into(),
        received_at: AT,
        subject: None,
        structured: false,
        method: Some("POST".into()),
        path: Some(format_compact!("/in/{source}")),
        query: None,
        headers: Default::default(),
        content_type: Some("application/x-www-form-urlencoded".into()),
        error: None,
        payload: Bytes::copy_from_slice(body.as_bytes()),
    }
}
