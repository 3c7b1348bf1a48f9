//! Messages as they go over the wire, and the encodings that they share.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use trunklog_storage::event::{Micros, Source};

use super::audio::Audio;
use super::truth::Truth;

/// Everything but unreserved characters is encoded.
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// Content type of forms.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// Content type of JSON.
pub const JSON: &str = "application/json";
/// Content type of reports.
pub const XML: &str = "application/xml";

/// How a sender carries the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`, the key as password.
    Basic,
    /// First segment after `/in/`.
    Path,
    /// Form field of this name.
    Field(&'static str),
}

/// One HTTP request to the archive.
#[derive(Clone, Debug)]
pub struct Message {
    /// Number of the call (for a body of several rows, of the first).
    pub call: u64,
    /// When the PBX sends it.
    pub at: Micros,
    /// Whose route it goes to.
    pub source: Source,
    /// `events.type`.
    pub kind: String,
    /// HTTP method.
    pub method: &'static str,
    /// Route after `/in`.
    pub route: Cow<'static, str>,
    /// Encoded query.
    pub query: Option<String>,
    /// Body, unless it is audio.
    pub body: Bytes,
    /// What is heard in the body.
    pub audio: Option<Audio>,
    /// Its type.
    pub content_type: Option<&'static str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Where the key stands.
    pub key: KeyForm,
    /// What the body is split into, if the archive splits it.
    pub parts: Vec<Bytes>,
    /// Whether the archive stores it (it answers `cmd=contact` and forgets).
    pub stored: bool,
}

impl Message {
    /// A request with these fields as its query.
    pub fn get(source: Source, kind: impl Into<String>, route: &'static str, fields: &Fields) -> Message {
        let mut message = Message::bare(source, kind.into(), "GET", route);
        message.query = Some(fields.encoded());
        message
    }

    /// A posted form.
    pub fn form(source: Source, kind: impl Into<String>, route: &'static str, fields: &Fields) -> Message {
        Message::post(source, kind, route, FORM, fields.encoded())
    }

    /// A posted body.
    pub fn post(
        source: Source,
        kind: impl Into<String>,
        route: &'static str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Message {
        let mut message = Message::bare(source, kind.into(), "POST", route);
        message.body = body.into();
        message.content_type = Some(content_type);
        message
    }

    /// An uploaded recording.
    pub fn upload(source: Source, route: String, content_type: &'static str, audio: Audio) -> Message {
        let mut message = Message::bare(source, format!("{source}.recording"), "PUT", route);
        message.audio = Some(audio);
        message.content_type = Some(content_type);
        message
    }

    fn bare(source: Source, kind: String, method: &'static str, route: impl Into<Cow<'static, str>>) -> Message {
        Message {
            call: 0,
            at: 0,
            source,
            kind,
            method,
            route: route.into(),
            query: None,
            body: Bytes::new(),
            audio: None,
            content_type: None,
            headers: Vec::new(),
            key: KeyForm::Bearer,
            parts: Vec::new(),
            stored: true,
        }
    }

    /// Carries the key in this form.
    pub fn with_key(mut self, key: KeyForm) -> Message {
        self.key = key;
        self
    }

    /// What is sent as its body. Audio is made anew each time.
    pub fn content(&self) -> Bytes {
        self.audio.map_or_else(|| self.body.clone(), |audio| audio.file())
    }

    /// Whether it can be loaded as an event; audio comes only over its own route.
    pub fn is_event(&self) -> bool {
        self.stored && self.audio.is_none()
    }

    /// A pivot request: answered 404 when no callflow is configured, stored all the same.
    pub fn is_pivot(&self) -> bool {
        self.route.ends_with("/pivot")
    }
}

/// One row of a VOIspeed report, before rows are put together into bodies.
#[derive(Clone, Debug)]
pub struct Row {
    /// Number of the call.
    pub call: u64,
    /// When a report that holds it can be made.
    pub at: Micros,
    /// `get_call_report`, `get_user_call_report` or `get_current_calls`.
    pub service: &'static str,
    /// `<call>…</call>`.
    pub xml: String,
}

/// All that one simulated call says, and what is true about it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Number of the call.
    pub call: u64,
    /// Its messages, in the order in which they are sent.
    pub messages: Vec<Message>,
    /// Its report rows.
    pub rows: Vec<Row>,
    /// What the archive must show.
    pub truths: Vec<Truth>,
}

impl Script {
    /// An empty script of this call.
    pub fn new(call: u64) -> Script {
        Script { call, ..Script::default() }
    }

    /// Sends at this time (Unix seconds); messages of one second keep their order.
    pub fn send(&mut self, at: i64, mut message: Message) {
        message.call = self.call;
        message.at = self.micros(at);
        self.messages.push(message);
    }

    /// Has a row ready for reports made from this time on.
    pub fn report(&mut self, at: i64, service: &'static str, xml: String) {
        let at = self.micros(at);
        self.rows.push(Row { call: self.call, at, service, xml });
    }

    fn micros(&self, at: i64) -> Micros {
        let spread = (self.call.wrapping_mul(7919) % 300_000) as i64;
        at * 1_000_000 + spread + 1000 * (self.messages.len() + self.rows.len()) as i64
    }
}

/// Names and values in the order in which they are sent. Values are text or flat objects of text.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Adds a field; numbers and booleans keep their type in JSON.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<Value>) -> &mut Fields {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Adds it unless it is empty.
    pub fn add_some(&mut self, name: impl Into<String>, value: Option<&str>) -> &mut Fields {
        if let Some(value) = value {
            self.add(name, value);
        }
        self
    }

    /// Sorted by name, as Placetel sends them.
    pub fn sorted(mut self) -> Fields {
        self.0.sort_by(|left, right| left.0.cmp(&right.0));
        self
    }

    /// As form or query: Kazoo's rules, which any decoder reads (names are not encoded, a space is `+`).
    pub fn encoded(&self) -> String {
        let mut pairs = Vec::new();
        for (name, value) in &self.0 {
            flatten(name, value, &mut pairs);
        }
        pairs.join("&")
    }

    /// As a JSON object.
    pub fn json(&self) -> String {
        Value::Object(self.0.iter().cloned().collect::<Map<String, Value>>()).to_string()
    }
}

fn flatten(name: &str, value: &Value, pairs: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&format!("{name}[{key}]"), value, pairs)),
        Value::Array(list) => list.iter().for_each(|value| flatten(&format!("{name}[]"), value, pairs)),
        Value::String(text) => pairs.push(format!("{name}={}", encode(text))),
        Value::Null => pairs.push(format!("{name}=")),
        other => pairs.push(format!("{name}={other}")),
    }
}

/// Percent-encoded, a space as `+`.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string().replace("%20", "+")
}
