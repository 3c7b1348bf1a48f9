//! An event as a Kafka record, and back: a CloudEvent in binary content mode (CloudEvents 1.0, Kafka protocol binding,
//! section 3.2). The value is the payload verbatim, attributes are headers with the prefix `ce_`, so that any Kafka
//! consumer can read it.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message, OwnedHeaders};
use sha2::{Digest, Sha256};

use crate::event::{Event, Headers, Micros, Source, format_time, hex, parse_time};

/// What a producer sends.
pub(super) struct Outgoing {
    pub key: String,
    pub headers: OwnedHeaders,
}

/// `/<tenant>/<source>`, the CloudEvent's source.
fn origin(event: &Event) -> String {
    format!("/{}/{}", event.tenant, event.source)
}

/// All messages of a call have one key, so they stay in one partition.
fn key(event: &Event) -> String {
    let mut key = origin(event);
    if let Some(subject) = &event.subject {
        // Writing into a text does not fail.
        let _ = write!(key, "/{subject}");
    }
    key
}

/// The record of this event; its value is the payload.
pub(super) fn outgoing(event: &Event) -> Outgoing {
    // Texts by text always have a form in JSON.
    let kept = (!event.headers.is_empty()).then(|| serde_json::to_string(&event.headers).unwrap_or_default());
    let (source, time) = (origin(event), format_time(event.received_at));
    let digest = hex(&Sha256::digest(&event.payload));
    let texts = [
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some(event.id.as_str())),
        ("ce_source", Some(&source)),
        ("ce_type", Some(&event.kind)),
        ("ce_time", Some(&time)),
        ("ce_sha256", Some(&digest)),
        ("ce_subject", event.subject.as_deref()),
        ("content-type", event.content_type.as_deref()),
        ("ce_method", event.method.as_deref()),
        ("ce_path", event.path.as_deref()),
        ("ce_query", event.query.as_deref()),
        ("ce_error", event.error.as_deref()),
        ("ce_structured", event.structured.then_some("true")),
        ("ce_headers", kept.as_deref()),
    ];
    let present = texts.into_iter().filter(|(_, value)| value.is_some());
    let headers = present.fold(OwnedHeaders::new_with_capacity(texts.len()), |headers, (key, value)| {
        headers.insert(Header { key, value })
    });
    Outgoing { key: key(event), headers }
}

/// The event of a record; `None` if trunklog did not write it.
pub(super) fn incoming(record: &BorrowedMessage<'_>) -> Option<Event> {
    let headers = record.headers()?;
    let mut found = Attributes::default();
    for header in headers.iter() {
        found.take(header.key, header.value.and_then(|value| std::str::from_utf8(value).ok())?);
    }
    found.event(Bytes::copy_from_slice(record.payload().unwrap_or_default()))
}

#[derive(Default)]
struct Attributes {
    id: Option<String>,
    origin: Option<(CompactString, Source)>,
    kind: Option<CompactString>,
    time: Option<Micros>,
    subject: Option<String>,
    structured: bool,
    method: Option<CompactString>,
    path: Option<CompactString>,
    query: Option<CompactString>,
    headers: Headers,
    content_type: Option<CompactString>,
    error: Option<String>,
}

impl Attributes {
    fn take(&mut self, name: &str, value: &str) {
        let text = || Some(value.to_owned());
        match name {
            "ce_id" => self.id = text(),
            "ce_source" => {
                let parts = value.strip_prefix('/').and_then(|parts| parts.rsplit_once('/'));
                self.origin = parts.and_then(|(tenant, source)| Some((tenant.into(), Source::parse(source)?)));
            }
            "ce_type" => self.kind = Some(value.into()),
            "ce_time" => self.time = parse_time(value),
            "ce_subject" => self.subject = text(),
            "ce_structured" => self.structured = value == "true",
            "ce_method" => self.method = Some(value.into()),
            "ce_path" => self.path = Some(value.into()),
            "ce_query" => self.query = Some(value.into()),
            "ce_headers" => self.headers = serde_json::from_str(value).unwrap_or_default(),
            "ce_error" => self.error = text(),
            "content-type" => self.content_type = Some(value.into()),
            _ => {}
        }
    }

    fn event(self, payload: Bytes) -> Option<Event> {
        let (tenant, source) = self.origin?;
        Some(Event {
            id: self.id?.into(),
            tenant,
            source,
            kind: self.kind?,
            received_at: self.time?,
            subject: self.subject.map(Into::into),
            structured: self.structured,
            method: self.method,
            path: self.path,
            query: self.query,
            headers: Arc::new(self.headers),
            content_type: self.content_type,
            error: self.error,
            payload,
        })
    }
}
