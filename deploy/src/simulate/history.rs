//! Bulk load: messages as structured CloudEvents, with the receipt times that they would have had.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trunklog_storage::event::format_time;

use super::wire::{KeyForm, Message};

/// The lines of a message: one, or one for each part that the archive would split it into.
pub fn lines(seed: u64, message: &Message) -> Vec<String> {
    if !message.is_event() {
        return Vec::new();
    }
    if message.parts.is_empty() {
        return vec![line(seed, message, 0, &redacted(message))];
    }
    message.parts.iter().enumerate().map(|(number, part)| line(seed, message, number, part)).collect()
}

/// The body as the archive stores it: the key's field is there, its value is not.
fn redacted(message: &Message) -> Bytes {
    match message.key {
        KeyForm::Field(name) => {
            let mut body = message.body.to_vec();
            body.extend_from_slice(format!("&{name}=REDACTED").as_bytes());
            body.into()
        }
        _ => message.body.clone(),
    }
}

fn line(seed: u64, message: &Message, part: usize, payload: &Bytes) -> String {
    let mut event = Map::new();
    let mut set = |name: &str, value: Value| event.insert(name.to_owned(), value);
    set("specversion", json!("1.0"));
    set("id", json!(id(seed, message, part, payload)));
    set("source", json!(message.source.as_str()));
    set("type", json!(message.kind));
    set("time", json!(format_time(message.at)));
    set("method", json!(message.method));
    set("path", json!(format!("/in{}", message.route)));
    if let Some(query) = &message.query {
        set("query", json!(query));
    }
    let headers: Map<String, Value> =
        message.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    if !headers.is_empty() {
        set("headers", json!(Value::Object(headers).to_string()));
    }
    if let Some(content_type) = message.content_type {
        set("datacontenttype", json!(content_type));
        // A JSON body as text would be a JSON string; as base64 it stays what it is.
        match std::str::from_utf8(payload) {
            Ok(text) if !content_type.ends_with("json") => set("data", json!(text)),
            _ => set("data_base64", json!(STANDARD.encode(payload))),
        };
    }
    Value::Object(event).to_string()
}

/// The same message of the same run has the same id, however often and in whatever order it is sent.
fn id(seed: u64, message: &Message, part: usize, payload: &Bytes) -> String {
    let mut hash = Sha256::new();
    let query = message.query.as_deref().unwrap_or_default();
    hash.update(format!("{seed}/{}/{}/{part}/{}/{query}/", message.call, message.at, message.kind));
    hash.update(payload);
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}
