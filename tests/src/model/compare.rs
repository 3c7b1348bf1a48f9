//! What a snapshot shows against the naive fold of the messages that it must hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use serde_json::{Value, json};
use trunklog_storage::archive::{Message, Snapshot, Superseded};
use trunklog_storage::event::{Offset, hex};
use trunklog_storage::fact::Decoder;
use trunklog_storage::rows::{self, Keyed, State};
use trunklog_storage::{Error, schema};

use super::fold::{Fold, day_name};
use super::{pieces, read, receipts};

/// So many differences are told of one table.
const TOLD: usize = 5;

/// How closely to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closer {
    /// Everything was folded and compacted: the final tier alone is all, and there are no parts.
    pub compacted: bool,
    /// Compare the headers of messages too.
    pub headers: bool,
}

/// Compares snapshots with the naive fold.
pub struct Comparison {
    session: SessionContext,
    decoder: Arc<dyn Decoder>,
}

/// One projection of a snapshot.
struct Side<'a> {
    name: &'static str,
    id: &'static str,
    schema: SchemaRef,
    stored: Arc<dyn TableProvider>,
    fresh: Result<Vec<RecordBatch>, Error>,
    superseded: Superseded,
    /// Home day and row by id.
    expected: &'a BTreeMap<String, (String, String)>,
}

impl Comparison {
    /// Rows are made with this decoder.
    pub fn new(decoder: Arc<dyn Decoder>) -> Comparison {
        Comparison { session: read::session(), decoder }
    }

    /// Where the snapshot differs from the fold of `messages`, the first of which has offset 0: nowhere, if all is well.
    pub async fn differences(&self, snapshot: &Snapshot, messages: &[Message], closer: Closer) -> Vec<String> {
        let fold = Fold::of(messages);
        let last = messages.len().checked_sub(1).map(|last| Offset(last as u64));
        let mut differences = Vec::new();
        if snapshot.offset != last {
            differences.push(format!("the snapshot is at {:?} and not at {last:?}", snapshot.offset));
        }
        let calls = self.expected(&fold.calls.values().cloned().collect::<Vec<_>>());
        let recordings = self.expected(&fold.recordings.values().cloned().collect::<Vec<_>>());
        let sides = [
            Side {
                name: "calls",
                id: "call_id",
                schema: schema::calls(),
                stored: snapshot.calls_stored(),
                fresh: snapshot.calls_fresh(),
                superseded: snapshot.calls_superseded(),
                expected: &calls,
            },
            Side {
                name: "recordings",
                id: "recording_id",
                schema: schema::recordings(),
                stored: snapshot.recordings_stored(),
                fresh: snapshot.recordings_fresh(),
                superseded: snapshot.recordings_superseded(),
                expected: &recordings,
            },
        ];
        for side in sides {
            differences.extend(self.states(side, closer.compacted).await);
        }
        differences.extend(shortened(pieces::differences(snapshot, &calls, &recordings).await));
        differences.extend(self.events(snapshot, messages, &fold, closer.headers).await);
        differences.extend(receipts::differences(messages, &fold));
        differences
    }

    /// Home day and row of each state.
    fn expected<S: State>(&self, states: &[Keyed<S>]) -> BTreeMap<String, (String, String)> {
        if states.is_empty() {
            return BTreeMap::new();
        }
        let lines = read::lines(&rows::shown(states, self.decoder.as_ref()).unwrap());
        let rows = states.iter().zip(lines);
        rows.map(|(keyed, line)| (keyed.id.to_string(), (day_name(keyed.day), line))).collect()
    }

    async fn states(&self, side: Side<'_>, compacted: bool) -> Vec<String> {
        let Side { name, id, .. } = side;
        let stored = read::stored(&self.session, side.stored, &side.schema, id).await;
        let mut differences = Vec::new();
        let (mut finals, mut whole) = (HashMap::new(), Vec::new());
        for row in stored {
            let home = side.expected.get(&row.id).map(|(day, _)| day);
            if home != Some(&row.day) {
                differences.push(format!("{name}: {} is stored in {} and not in {home:?}", row.id, row.day));
            }
            if row.tier != "part" {
                let days = side.superseded.days();
                if !side.superseded.contains(&row.id) {
                    whole.push((row.id.clone(), row.line.clone()));
                } else if days.is_some_and(|days| !days.contains(&row.day)) {
                    differences.push(format!("{name}: {} is superseded in {}, which is not named", row.id, row.day));
                }
                if finals.insert(row.id.clone(), row.line).is_some() {
                    differences.push(format!("{name}: {} has two final rows", row.id));
                }
            } else if compacted {
                differences.push(format!("{name}: {} still has a {} row in {}", row.id, row.tier, row.day));
            }
        }
        match &side.fresh {
            Ok(batches) => whole.extend(read::fresh(batches, id)),
            Err(error) => differences.push(format!("{name}: the fresh rows cannot be had: {error}")),
        }
        differences.extend(row_differences(name, whole, side.expected));
        if compacted {
            let finals = finals.into_iter().collect();
            differences.extend(row_differences(&format!("{name}, final tier alone"), finals, side.expected));
        }
        shortened(differences)
    }

    async fn events(&self, snapshot: &Snapshot, messages: &[Message], fold: &Fold, headers: bool) -> Vec<String> {
        let mut differences = Vec::new();
        let mut seen = HashSet::new();
        for shown in read::events(&self.session, snapshot, headers).await {
            let offset = shown["offset"].as_u64().and_then(|offset| usize::try_from(offset).ok());
            let Some((offset, message)) = offset.and_then(|offset| Some((offset, messages.get(offset)?))) else {
                differences.push(format!("events: offset {} should not be there", shown["offset"]));
                continue;
            };
            if !seen.insert(offset) {
                differences.push(format!("events: offset {offset} is shown twice"));
            }
            let expected = expected_event(offset, message, fold.duplicate_of[offset].as_deref(), headers);
            if shown != expected {
                let (wanted, found) = (expected.to_string(), shown.to_string());
                differences.push(format!("events: offset {offset}: {}", columns(&wanted, &found)));
            }
        }
        let missing = (0..messages.len()).filter(|offset| !seen.contains(offset));
        differences.extend(missing.map(|offset| format!("events: offset {offset} is missing")));
        shortened(differences)
    }
}

/// What is shown against what should be: each id once, each row equal, none missing.
fn row_differences(
    name: &str,
    shown: Vec<(String, String)>,
    expected: &BTreeMap<String, (String, String)>,
) -> Vec<String> {
    let mut differences = Vec::new();
    let mut seen = HashSet::new();
    for (id, line) in &shown {
        if !seen.insert(id.as_str()) {
            differences.push(format!("{name}: {id} is shown twice"));
        }
        match expected.get(id) {
            None => differences.push(format!("{name}: {id} should not be there: {line}")),
            Some((_, wanted)) if wanted != line => {
                differences.push(format!("{name}: {id}: {}; it should be {wanted}", columns(wanted, line)));
            }
            Some(_) => {}
        }
    }
    let missing = expected.iter().filter(|(id, _)| !seen.contains(id.as_str()));
    differences.extend(missing.map(|(id, (day, line))| format!("{name}: {id} of {day} is missing: {line}")));
    differences
}

fn expected_event(offset: usize, message: &Message, duplicate_of: Option<&str>, headers: bool) -> Value {
    let Message { event, decoded, .. } = message;
    let mut expected = json!({
        "tenant": event.tenant,
        "source": event.source.as_str(),
        "type": decoded.kind,
        "event_id": event.id,
        "call_key": decoded.call_key,
        "subject": decoded.call_key,
        "received_at": event.received_at,
        "occurred_at": decoded.occurred_at,
        "partition": 0,
        "offset": offset,
        "method": event.method,
        "path": event.path,
        "query": event.query,
        "content_type": event.content_type,
        "payload": hex(&event.payload),
        "fingerprint": hex(&decoded.fingerprint),
        "duplicate_of": duplicate_of,
        "quarantined": decoded.error.is_some(),
        "error": decoded.error,
    });
    if headers {
        expected["headers"] = json!(event.headers);
    }
    expected
}

/// The columns in which two rows differ.
fn columns(wanted: &str, found: &str) -> String {
    let parse = |line: &str| serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap();
    let (wanted, found) = (parse(wanted), parse(found));
    let differing = wanted.iter().filter_map(|(column, value)| {
        let other = found.get(column).unwrap_or(&Value::Null);
        (other != value).then(|| format!("{column} should be {value} and is {other}"))
    });
    differing.collect::<Vec<_>>().join("; ")
}

fn shortened(mut differences: Vec<String>) -> Vec<String> {
    let more = differences.len().saturating_sub(TOLD);
    differences.truncate(TOLD);
    if more > 0 {
        differences.push(format!("… and {more} more"));
    }
    differences
}
