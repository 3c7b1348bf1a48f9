//! A second, simple-minded fold for the columns that come from receive times: one pass over the `events` of a call,
//! written without a look at the archive's own fold.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::DateTime;
use serde_json::{Value, json};

use crate::server::Server;
use crate::simulate::Call;

/// One message with its fields.
pub struct Message {
    kind: String,
    received_at: String,
    offset: i64,
    fields: BTreeMap<String, String>,
}

impl Message {
    /// A message of this kind; `encoded` is its form or query.
    pub fn new(kind: String, received_at: String, offset: i64, encoded: &[u8]) -> Message {
        let fields = url::form_urlencoded::parse(encoded).into_owned().collect();
        Message { kind, received_at, offset, fields }
    }

    fn is(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.kind.as_str())
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Messages by source and call key.
pub type Messages = BTreeMap<(String, String), Vec<Message>>;

/// Differences between `calls` and the naive fold of what `events` has.
pub async fn check(server: &Server, query_key: &str, calls: &[Call]) -> Vec<String> {
    differences(&read(server, query_key).await, calls)
}

/// Differences between `calls` and the naive fold of their messages.
pub fn differences(messages: &Messages, calls: &[Call]) -> Vec<String> {
    let mut problems = Vec::new();
    for call in calls {
        let text = |column: &str| call.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(messages) = messages.get(&(text("source"), text("call_key"))) else { continue };
        let mut expected = bookkeeping(messages);
        match text("source").as_str() {
            "placetel" => placetel(messages, &mut expected),
            "planfix" => planfix(messages, &mut expected, text("state") != "open" && text("state") != "timed_out"),
            _ if text("clock") == "receipt" => start_by_receipt(messages, &mut expected),
            _ => {}
        }
        for (column, value) in expected {
            let found = call.get(column).unwrap_or(&Value::Null);
            if found != &value {
                let (source, key) = (text("source"), text("call_key"));
                problems.push(format!("{source} {key} {column}: the naive fold has {value}, the archive {found}"));
            }
        }
    }
    problems
}

/// Messages by source and call key. Those without a key (VOIspeed's without ids) are left out.
async fn read(server: &Server, query_key: &str) -> Messages {
    let sql = r#"SELECT source, call_key, type, received_at, "offset", query, payload FROM events
                 WHERE call_key IS NOT NULL AND NOT quarantined"#;
    let mut messages = Messages::new();
    for row in server.sql(query_key, sql).await.rows {
        let text = |index: usize| row[index].as_str().unwrap_or_default().to_owned();
        let payload = BASE64.decode(text(6)).unwrap();
        let encoded = if payload.is_empty() { text(5).into_bytes() } else { payload };
        let message = Message::new(text(2), text(3), row[4].as_i64().unwrap(), &encoded);
        messages.entry((text(0), text(1))).or_default().push(message);
    }
    messages
}

type Columns = Vec<(&'static str, Value)>;

fn bookkeeping(messages: &[Message]) -> Columns {
    let received = || messages.iter().map(|message| message.received_at.as_str());
    let offsets = || messages.iter().map(|message| message.offset);
    vec![
        ("first_received_at", json!(received().min())),
        ("last_received_at", json!(received().max())),
        ("first_offset", json!(offsets().min())),
        ("last_offset", json!(offsets().max())),
    ]
}

/// Earliest receipt of any of these.
fn earliest<'a>(messages: impl Iterator<Item = &'a Message>) -> Option<String> {
    messages.map(|message| message.received_at.clone()).min()
}

/// Of the sources that put times into their messages: the start of a call of which only a message without one is
/// known. A pivot request says it best, then what repeats or follows it.
fn start_by_receipt(messages: &[Message], expected: &mut Columns) {
    let by_kind = |kind: &'static str| messages.iter().filter(move |message| message.kind.ends_with(kind));
    let requests = by_kind(".debug")
        .filter(|message| message.fields.iter().any(|(key, value)| format!("{key}{value}").contains("\"uri\"")));
    let start = earliest(by_kind(".pivot")).or_else(|| earliest(requests.chain(by_kind(".ivr"))));
    expected.push(("started_at", json!(start)));
}

fn placetel(messages: &[Message], expected: &mut Columns) {
    let of = |kinds: &[&str]| earliest(messages.iter().filter(|message| message.is(kinds)));
    let start = of(&["placetel.IncomingCall", "placetel.OutgoingCall"]);
    let answer = of(&["placetel.CallAccepted"]);
    let end = of(&["placetel.HungUp"]);
    times(expected, start, answer, end);
}

/// `ended` says whether the archive holds the call to be over; until then it has no end.
fn planfix(messages: &[Message], expected: &mut Columns, ended: bool) {
    let mut legs: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in messages.iter().filter(|message| !message.is(&["planfix.record"])) {
        legs.entry(message.field("ext")).or_default().push(message);
    }
    let first = |leg: &Vec<&Message>, kinds: &[&str]| earliest(leg.iter().copied().filter(|message| message.is(kinds)));
    let success =
        |leg: &Vec<&Message>| leg.iter().any(|message| message.field("status").eq_ignore_ascii_case("success"));
    let answered = |leg: &Vec<&Message>| success(leg) || first(leg, &["planfix.ACCEPTED"]).is_some();
    let called_off =
        |leg: &Vec<&Message>| leg.iter().any(|message| message.field("status").to_lowercase().starts_with("cancel"));
    let taken = legs.values().any(answered);
    let start = legs.values().filter_map(|leg| first(leg, &["planfix.INCOMING", "planfix.OUTGOING"])).min();
    let answer = legs.values().filter_map(|leg| first(leg, &["planfix.ACCEPTED"])).min();
    let ending = legs.values().filter(|leg| !(taken && called_off(leg)));
    let end = ending.filter_map(|leg| first(leg, &["planfix.COMPLETED"])).max();
    times(expected, start, answer, end.filter(|_| ended));
}

/// Columns are compared where messages said them; a start or answer that was worked out from a duration is not.
fn times(expected: &mut Columns, start: Option<String>, answer: Option<String>, end: Option<String>) {
    if let (Some(start), Some(end)) = (&start, &end) {
        let length = micros(end) - micros(start);
        let length = if length < 0 { Value::Null } else { json!(length / 1_000) };
        expected.push(("duration_ms", length));
    }
    if let Some(start) = start {
        expected.extend([("started_at", json!(start)), ("clock", json!("receipt"))]);
    }
    if let Some(answer) = answer {
        expected.push(("answered_at", json!(answer)));
    }
    expected.push(("ended_at", json!(end)));
}

fn micros(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}
