//! The tables against what was sent: every acknowledged message once, every call once and as its messages say.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::script::Message;
use super::traffic::{Expected, Traffic};
use crate::answer::Table;
use crate::server::Server;

/// What `events` says about deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    /// Messages.
    pub messages: usize,
    /// Further deliveries of them: they were stored, and their sender was not told.
    pub repeated: usize,
    /// Calls.
    pub calls: usize,
}

/// Source, query, and SHA-256 of the body in base64.
type Name = (String, String, String);

/// Compares `events` and `calls` of the tenant with all messages that were given out, which must be acknowledged.
pub async fn check(server: &Server, query_key: &str, traffic: &Traffic) -> Delivered {
    let sql = r#"SELECT source, query, sha256(payload), duplicate_of IS NULL, "offset", quarantined
                 FROM events WHERE source <> 'trunklog'"#;
    let events = server.sql(query_key, sql).await;
    let mut problems = Vec::new();
    let repeated = compare_events(&events, traffic, &mut problems);
    let sql = "SELECT source, call_key, call_id, state, disposition FROM calls";
    let calls = server.sql(query_key, sql).await;
    compare_calls(&calls, traffic, &mut problems);
    let shown = problems.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    let log = if problems.is_empty() { String::new() } else { server.log() };
    assert!(problems.is_empty(), "{} differences from what was sent; the first:\n{shown}\n{log}", problems.len());
    Delivered { messages: traffic.released().len(), repeated, calls: calls.rows.len() }
}

/// Gives the number of repeated deliveries.
fn compare_events(events: &Table, traffic: &Traffic, problems: &mut Vec<String>) -> usize {
    // First deliveries and repeated ones.
    let mut found = BTreeMap::<Name, (usize, usize)>::new();
    let mut offsets = BTreeSet::new();
    for row in &events.rows {
        let counts = found.entry((text(&row[0]), text(&row[1]), text(&row[2]))).or_default();
        if row[3] == Value::Bool(true) {
            counts.0 += 1
        } else {
            counts.1 += 1
        }
        if !offsets.insert(row[4].as_i64().unwrap()) {
            problems.push(format!("offset {} is there twice", row[4]));
        }
        if row[5] != Value::Bool(false) {
            problems.push(format!("offset {} was not understood", row[4]));
        }
    }
    let mut repeated = 0;
    for message in traffic.released() {
        let digest = BASE64.encode(Sha256::digest(message.body.as_bytes()));
        match found.remove(&(message.source.to_owned(), message.query.clone(), digest)) {
            Some((1, again)) => repeated += again,
            Some((first, again)) => {
                problems.push(format!("{first} first and {again} repeated deliveries: {}", beginning(message)));
            }
            None => problems.push(format!("acknowledged and lost: {}", beginning(message))),
        }
    }
    problems.extend(found.keys().map(|name| format!("never sent: {name:?}")));
    repeated
}

fn compare_calls(calls: &Table, traffic: &Traffic, problems: &mut Vec<String>) {
    let mut rows = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for row in &calls.rows {
        let name = (text(&row[0]), text(&row[1]));
        if !ids.insert(text(&row[2])) {
            problems.push(format!("call id {} is there twice", row[2]));
        }
        if rows.insert(name.clone(), (text(&row[3]), text(&row[4]))).is_some() {
            problems.push(format!("call {name:?} is there twice"));
        }
    }
    for ((source, key), expected) in traffic.truth() {
        match rows.remove(&(source.to_owned(), key.to_owned())) {
            None => problems.push(format!("call {source} {key} is missing")),
            Some((state, disposition)) if !is_right(expected, &state, &disposition) => {
                problems.push(format!("call {source} {key} is {state}, {disposition}; known is {expected:?}"));
            }
            Some(_) => {}
        }
    }
    problems.extend(rows.keys().map(|name| format!("call {name:?} was never made")));
}

/// A call that began days ago and has not ended may have been given up.
fn is_right(expected: Expected, state: &str, disposition: &str) -> bool {
    match (expected.started, expected.ended) {
        (true, Some(ended)) => state == "closed" && disposition == ended,
        (true, None) => state == "open" && disposition == "unknown" || state == "timed_out",
        (false, Some(ended)) => state == "partial" && disposition == ended,
        (false, None) => false,
    }
}

/// A message as it is shown: some are very long.
fn beginning(message: &Message) -> String {
    format!("{message:?}").chars().take(400).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
