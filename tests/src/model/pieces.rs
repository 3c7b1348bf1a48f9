//! The same rows once more, piece by piece: file by file without what memory supersedes, then memory.

use std::collections::{BTreeMap, HashSet};

use arrow::array::AsArray;
use futures::TryStreamExt;
use serde_json::{Value, json};
use trunklog_storage::archive::{Snapshot, StoredFile, StoredTable};

use super::read;

/// Where the pieces of calls and recordings differ from what should be shown, by id: home day and row.
pub(super) async fn differences(
    snapshot: &Snapshot,
    calls: &BTreeMap<String, (String, String)>,
    recordings: &BTreeMap<String, (String, String)>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for call in snapshot.fresh_calls() {
        let row = &call.shown.row;
        let shown =
            json!([row.direction.as_str(), row.disposition, row.state, row.talk_ms, row.ring_ms, row.legs.len()]);
        let wanted = calls.get(call.call_id).map(|(_, line)| outline(line));
        if wanted.as_ref() != Some(&shown) {
            differences.push(format!("calls in memory: {} is {shown} and should be {wanted:?}", call.call_id));
        }
    }
    let memory: Vec<String> = snapshot.fresh_calls().map(|call| call.call_id.to_owned()).collect();
    let shown = calls.iter().filter(|(_, (_, line))| !is_leg(line)).map(|(id, (_, line))| (id.as_str(), line.as_str()));
    compare("calls", snapshot, StoredTable::Calls, memory, shown.collect(), &mut differences).await;
    let fresh = snapshot.offset.map(|_| snapshot.recordings_fresh().unwrap()).unwrap_or_default();
    let memory = read::fresh(&fresh, "recording_id").into_iter().map(|(id, _)| id).collect();
    let shown = recordings.iter().map(|(id, (_, line))| (id.as_str(), line.as_str())).collect();
    compare("recordings", snapshot, StoredTable::Recordings, memory, shown, &mut differences).await;
    differences
}

/// What reports mostly read of a call.
fn outline(line: &str) -> Value {
    let row: Value = serde_json::from_str(line).unwrap();
    let legs = row["legs"].as_array().map_or(0, Vec::len);
    json!([row["direction"], row["disposition"], row["state"], row["talk_ms"], row["ring_ms"], legs])
}

fn is_leg(line: &str) -> bool {
    serde_json::from_str::<Value>(line).unwrap()["state"] == "leg"
}

async fn compare(
    name: &str,
    snapshot: &Snapshot,
    table: StoredTable,
    memory: Vec<String>,
    mut wanted: BTreeMap<&str, &str>,
    differences: &mut Vec<String>,
) {
    let id = if table == StoredTable::Calls { "call_id" } else { "recording_id" };
    let mut rows: Vec<(String, Option<String>)> = memory.into_iter().map(|id| (id, None)).collect();
    for file in snapshot.files(table).await.unwrap() {
        rows.extend(rows_of(&file, id, &wanted).await.into_iter().map(|(id, line)| (id, Some(line))));
    }
    for (id, line) in rows {
        match (wanted.remove(id.as_str()), line) {
            (None, _) => differences.push(format!("{name} in pieces: {id} should not be there, or not again")),
            (Some(wanted), Some(line)) if wanted != line => {
                differences.push(format!("{name} in pieces: {id} is {line} and should be {wanted}"));
            }
            (Some(_), _) => {}
        }
    }
    differences.extend(wanted.keys().map(|id| format!("{name} in pieces: {id} is missing")));
}

/// The rows of a file that count, as the tables' public columns.
async fn rows_of(file: &StoredFile, id: &str, wanted: &BTreeMap<&str, &str>) -> Vec<(String, String)> {
    let superseded: HashSet<&str> = file.maybe_superseded.iter().map(|id| &**id).collect();
    let batches = file.open(file.footer().await.unwrap()).unwrap().build().unwrap();
    let batches: Vec<arrow::array::RecordBatch> = batches.try_collect().await.unwrap();
    let public: HashSet<String> = wanted.values().next().map(|line| columns(line)).unwrap_or_default();
    let mut rows = Vec::new();
    for batch in batches {
        let ids = batch.column_by_name(id).unwrap().as_string::<i32>().clone();
        let schema = batch.schema();
        let shown = schema.fields().iter().enumerate().filter(|(_, field)| public.contains(field.name()));
        let shown: Vec<usize> = shown.map(|(index, _)| index).collect();
        let lines = read::lines(&batch.project(&shown).unwrap()).into_iter().enumerate();
        let lines = lines.map(|(row, line)| (ids.value(row).to_owned(), line));
        rows.extend(lines.filter(|(id, _)| !superseded.contains(id.as_str())));
    }
    rows
}

fn columns(line: &str) -> HashSet<String> {
    serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap().into_keys().collect()
}
