//! One line of a bulk load: a CloudEvent in structured mode, to an event that keeps its id and time.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use compact_str::CompactString;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use trunklog_storage::event::{Event, Headers, Micros, Source, now, parse_time};
use trunklog_storage::fact::MAX_KEY_BYTES;

use crate::accept::is_kept_header;

/// 2000-01-01T00:00:00Z.
const EARLIEST: Micros = 946_684_800_000_000;
/// Clocks of senders may be this far ahead.
const AHEAD: Micros = 24 * 3600 * 1_000_000;

/// Why a line is no event.
#[derive(Debug, PartialEq)]
pub enum BadLine {
    /// It belongs to another tenant than the key.
    OtherTenant,
    /// It cannot be understood.
    Invalid {
        /// In what.
        error: String,
        /// The system that it seems to come from.
        source: Option<Source>,
    },
}

fn invalid(error: impl Into<String>, source: Option<Source>) -> BadLine {
    BadLine::Invalid { error: error.into(), source }
}

/// The attributes as written; unknown extensions are left.
#[derive(Deserialize)]
pub struct Line<'a> {
    specversion: Option<String>,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: CompactString,
    time: Option<String>,
    datacontenttype: Option<CompactString>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    method: Option<CompactString>,
    path: Option<CompactString>,
    query: Option<CompactString>,
    headers: Option<Value>,
}

impl<'a> Line<'a> {
    /// Reads a line that a key of `tenant` sent.
    pub fn parse(text: &'a [u8], tenant: &str) -> Result<Line<'a>, BadLine> {
        serde_json::from_slice(text).map_err(|error| {
            // A line that is no event may still say whose it is.
            let value: Value = serde_json::from_slice(text).unwrap_or_default();
            let source = value.get("source").and_then(Value::as_str).unwrap_or_default();
            match named_tenant(source) {
                Some((named, _)) if named != tenant => BadLine::OtherTenant,
                _ => invalid(format!("no CloudEvent: {error}"), guess_source(text)),
            }
        })
    }

    /// The event, of the tenant of `template`. Text and JSON payloads are slices of `body`, byte for byte.
    pub fn into_event(self, template: &Event, body: &Bytes) -> Result<Event, BadLine> {
        let source = self.checked_source(&template.tenant)?;
        let wrong = |error: &str| invalid(error, Some(source));
        if self.specversion.as_deref().is_some_and(|version| version != "1.0") {
            return Err(wrong("`specversion` is not 1.0"));
        }
        if self.id.is_empty() || self.id.len() > MAX_KEY_BYTES {
            return Err(wrong("`id` is empty or too long"));
        }
        let received_at = checked_time(self.time.as_deref()).map_err(wrong)?;
        let payload = payload(self.data, self.data_base64.as_deref(), body).map_err(wrong)?;
        let headers = self.headers.map(headers).transpose().map_err(wrong)?.unwrap_or_default();
        Ok(Event {
            id: self.id.as_str().into(),
            tenant: template.tenant.clone(),
            source,
            kind: self.kind,
            received_at,
            subject: None,
            structured: true,
            method: self.method,
            path: self.path,
            query: self.query.filter(|query| !query.is_empty()),
            headers: Arc::new(headers),
            content_type: self.datacontenttype,
            error: None,
            payload,
        })
    }

    /// The type decides; `source` is that name, alone or after the tenant.
    fn checked_source(&self, tenant: &str) -> Result<Source, BadLine> {
        let by_type = source_of_type(&self.kind);
        let name = match named_tenant(&self.source) {
            Some((named, _)) if named != tenant => return Err(BadLine::OtherTenant),
            Some((_, name)) => name,
            None => self.source.as_str(),
        };
        let source = by_type.ok_or_else(|| invalid("`type` names no source", pbx(name)))?;
        if name == source.as_str() {
            Ok(source)
        } else {
            Err(invalid("`source` and `type` name different sources", Some(source)))
        }
    }
}

/// Tenant and name of a source that names both.
fn named_tenant(source: &str) -> Option<(&str, &str)> {
    source.strip_prefix('/')?.split_once('/')
}

fn pbx(name: &str) -> Option<Source> {
    Source::parse(name).filter(|source| *source != Source::Trunklog)
}

fn source_of_type(kind: &str) -> Option<Source> {
    pbx(kind.split_once('.')?.0)
}

/// The source of a line that is broken elsewhere, so that it is shown with its kind.
fn guess_source(text: &[u8]) -> Option<Source> {
    let text = String::from_utf8_lossy(text);
    Source::PBX.into_iter().find(|source| text.contains(&format!("\"{source}")))
}

fn checked_time(time: Option<&str>) -> Result<Micros, &'static str> {
    let Some(time) = time else { return Ok(now()) };
    let at = parse_time(time).ok_or("`time` is not RFC 3339")?;
    if (EARLIEST..=now() + AHEAD).contains(&at) { Ok(at) } else { Err("`time` lies before 2000 or in the future") }
}

fn payload(data: Option<&RawValue>, base64: Option<&str>, body: &Bytes) -> Result<Bytes, &'static str> {
    match (data, base64) {
        (Some(_), Some(_)) => Err("both `data` and `data_base64` are given"),
        (None, None) => Ok(Bytes::new()),
        (None, Some(base64)) => STANDARD.decode(base64).map(Bytes::from).map_err(|_| "`data_base64` is not base64"),
        (Some(data), None) if data.get().starts_with('"') => {
            let text: String = serde_json::from_str(data.get()).map_err(|_| "`data` is no text")?;
            Ok(Bytes::from(text))
        }
        (Some(data), None) => Ok(body.slice_ref(data.get().as_bytes())),
    }
}

/// JSON text of an object, or the object itself.
fn headers(value: Value) -> Result<Headers, &'static str> {
    const ERROR: &str = "`headers` is not an object of texts";
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|_| ERROR)?,
        other => other,
    };
    let Value::Object(object) = value else { return Err(ERROR) };
    let text = |(name, value): (String, Value)| match value {
        Value::String(value) => Ok((name.to_ascii_lowercase().into(), value.into())),
        _ => Err(ERROR),
    };
    let all = object.into_iter().map(text).collect::<Result<Headers, _>>()?;
    Ok(all.into_iter().filter(|(name, _)| is_kept_header(name)).collect())
}
