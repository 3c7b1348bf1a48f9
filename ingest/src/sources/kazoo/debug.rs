//! Pivot debug documents: what the PBX logged about its own pivot requests. A request document makes up for a pivot
//! request that never arrived; the others add to a call that is known.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use trunklog_storage::call::{CallState, Rank, Stamp};
use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use super::fields::{Fields, Spelling};
use super::{clock, pivot};

/// Fields of the documents worth showing, and the attribute each becomes.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("resp_status_code", "resp_status_code"),
    ("status_code", "resp_status_code"),
    ("has_schema_errors", "has_schema_errors"),
    ("has_json_errors", "has_json_errors"),
    ("node", "pivot_node"),
];

/// The documents of a pushed body, each as it was sent: one document, a list, or the API's whole answer with the
/// documents under `data`.
pub(super) fn split(body: &Bytes) -> Result<Vec<Bytes>, String> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let documents = match envelope(whole) {
        Some(data) if data.get().starts_with('[') => list(data)?,
        Some(data) if data.get() == "null" => Vec::new(),
        Some(data) => vec![data],
        None if whole.get().starts_with('[') => list(whole)?,
        None => vec![whole],
    };
    Ok(documents.into_iter().map(|document| body.slice_ref(document.get().as_bytes())).collect())
}

/// What stands under `data` if this is an answer of the API and not a document.
fn envelope(whole: &RawValue) -> Option<&RawValue> {
    if !whole.get().starts_with('{') {
        return None;
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(whole.get()).ok()?;
    let is_document = ["call_id", "uri", "resp_body"].iter().any(|name| members.contains_key(*name));
    if is_document { None } else { members.get("data").copied() }
}

fn list(raw: &RawValue) -> Result<Vec<&RawValue>, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("not a list: {error}"))
}

/// What a debug document means.
pub(super) fn decode(event: &Event) -> Decoded {
    let kind = format!("{}.debug", event.source);
    match Document::parse(&event.payload).and_then(|document| document.decode(event, &kind)) {
        Ok(decoded) => decoded,
        Err(error) => Decoded::quarantined(event, kind, error),
    }
}

/// The accounts that the logged request of a document names.
pub(super) fn accounts(event: &Event) -> Vec<String> {
    let Ok(document) = Document::parse(&event.payload) else { return Vec::new() };
    let fields = document.request(event);
    fields.map(|fields| pivot::accounts(&fields).map(str::to_owned).collect()).unwrap_or_default()
}

struct Document(Map<String, Value>);

impl Document {
    fn parse(payload: &[u8]) -> Result<Document, String> {
        match serde_json::from_slice(payload) {
            Ok(Value::Object(members)) => Ok(Document(members)),
            Ok(_) => Err("a debug document is a JSON object".to_owned()),
            Err(error) => Err(format!("not JSON: {error}")),
        }
    }

    /// The member as text, if it is text, a number or a boolean, and not empty.
    fn get(&self, name: &str) -> Option<String> {
        let text = match self.0.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    fn decode(&self, event: &Event, kind: &str) -> Result<Decoded, String> {
        let id = self.get("id").or_else(|| self.get("debug_id")).unwrap_or_default();
        let mut decoded = Decoded::new(kind, &[b"debug", id.as_bytes(), &event.payload]);
        decoded.occurred_at = self.get("created").and_then(|time| clock::gregorian(&time, event.received_at));
        let request = if self.0.contains_key("uri") { Some(self.request(event)?) } else { None };
        let in_request = || request.as_ref().and_then(|fields| fields.get("callid")).map(str::to_owned);
        let call_id = self.get("call_id").or_else(in_request).ok_or("no field names the call")?;
        let mut state = match &request {
            Some(fields) => {
                let guess = Stamp(Rank::Guess, event.received_at);
                pivot::visit(fields, decoded.occurred_at.map_or(guess, |created| Stamp(Rank::Message, created)))
            }
            None => CallState::default(),
        };
        self.attributes(&mut state, &id);
        decoded.about(call_id, state);
        Ok(decoded)
    }

    /// The fields of the logged request: its query, and the body if it was posted.
    fn request(&self, event: &Event) -> Result<Fields, String> {
        // The vendor prints URLs as `<http://…>`.
        let uri = self.get("uri").unwrap_or_default();
        let uri = uri.trim_start_matches('<').trim_end_matches('>').trim_end_matches('\\');
        let query = uri.split_once('?').map(|(_, query)| query.split('#').next().unwrap_or_default().into());
        let body = self.get("req_body").unwrap_or_default();
        let json = body.starts_with('{');
        let content_type = if json { "application/json" } else { "application/x-www-form-urlencoded" };
        let request = Event {
            query,
            content_type: (!body.is_empty()).then(|| content_type.into()),
            payload: Bytes::from(body),
            ..event.clone()
        };
        Fields::of(&request, Spelling::Pivot)
    }

    fn attributes(&self, state: &mut CallState, id: &str) {
        state.attribute("debug_id", id);
        for (name, attribute) in ATTRIBUTES {
            state.attribute(*attribute, self.get(name).unwrap_or_default());
        }
        if self.0.contains_key("schema_errors") {
            state.attribute("has_schema_errors", "true");
        }
        if let Some(errors) = self.0.get("json_errors") {
            state.attribute("has_json_errors", "true");
            let message = errors.get("message").and_then(Value::as_str).unwrap_or_default();
            state.attribute("json_error", message);
        }
    }
}
