//! The archive against the truth: every call that was played is there as it was, and no other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::expect::difference;
use crate::naive;
use crate::server::Server;
use crate::simulate::Call;

/// Not columns of `calls`, or not in the truth's form.
const SPECIAL: [&str; 2] = ["lost", "recordings"];

/// Source and key.
type Name = (String, String);

/// A recording by what it sounds like: SHA-256 and size of its bytes.
type Audio = (String, i64);

/// Compares the tenant's `calls` and `recordings` with the truth, and what comes from receive times with a naive fold
/// over `events`.
pub async fn check(server: &Server, query_key: &str, truth: &[Call]) {
    let calls = server.sql(query_key, "SELECT * FROM calls").await.objects();
    let recordings =
        server.sql(query_key, "SELECT call_id, recording_id, sha256, bytes FROM recordings").await.objects();
    let mut problems = compare(truth, &calls);
    problems.extend(compare_recordings(truth, &calls, &recordings));
    problems.extend(naive::check(server, query_key, &calls).await);
    let shown = problems.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} differences between archive and truth; the first:\n{shown}", problems.len());
}

fn compare(truth: &[Call], calls: &[Call]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut rows: BTreeMap<Name, &Call> = BTreeMap::new();
    for row in calls {
        if rows.insert(name(row), row).is_some() {
            problems.push(format!("{:?} has more than one row", name(row)));
        }
    }
    let known: BTreeSet<Name> = truth.iter().map(name).collect();
    problems.extend(rows.keys().filter(|key| !known.contains(*key)).map(|key| format!("{key:?} was never played")));
    for played in truth {
        let lost = played.get("lost") == Some(&Value::Bool(true));
        match rows.get(&name(played)) {
            Some(row) if !lost => problems.extend(differences(played, row)),
            None if !lost => problems.push(format!("{:?} is missing", name(played))),
            _ => {}
        }
    }
    problems
}

fn differences(played: &Call, row: &Call) -> Vec<String> {
    let columns = played.iter().filter(|(column, _)| !SPECIAL.contains(&column.as_str()));
    let differing = columns.filter_map(|(column, expected)| {
        assert!(row.contains_key(column), "the truth names a column that `calls` does not have: `{column}`");
        difference(expected, &row[column]).map(|text| format!("{:?} {column}: {text}", name(played)))
    });
    differing.collect()
}

/// Every recording that was uploaded is there, once, at its call, which names it; and no other.
fn compare_recordings(truth: &[Call], calls: &[Call], recordings: &[Call]) -> Vec<String> {
    let (mut audio, mut ids) = (BTreeMap::<String, Vec<Audio>>::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for recording in recordings {
        let call_id = text(recording, "call_id");
        audio.entry(call_id.clone()).or_default().push(heard(recording));
        ids.entry(call_id).or_default().insert(text(recording, "recording_id"));
    }
    let uploaded: BTreeMap<Name, Vec<Audio>> = truth.iter().map(|played| (name(played), stated(played))).collect();
    let mut problems = Vec::new();
    for call in calls {
        let call_id = text(call, "call_id");
        let expected = uploaded.get(&name(call)).cloned().unwrap_or_default();
        let mut found = audio.remove(&call_id).unwrap_or_default();
        found.sort();
        if found != expected {
            problems.push(format!("{:?} recordings: expected {expected:?}, found {found:?}", name(call)));
        }
        let named: BTreeSet<String> =
            list(call, "recordings").iter().filter_map(Value::as_str).map(Into::into).collect();
        let kept = ids.remove(&call_id).unwrap_or_default();
        if named != kept {
            problems.push(format!("{:?} names the recordings {named:?}, its recordings are {kept:?}", name(call)));
        }
    }
    problems.extend(audio.keys().map(|call_id| format!("a recording belongs to no call that is there: `{call_id}`")));
    problems
}

/// The recordings that the truth has of a call, sorted.
fn stated(played: &Call) -> Vec<Audio> {
    let mut stated: Vec<Audio> = list(played, "recordings").iter().filter_map(Value::as_object).map(heard).collect();
    stated.sort();
    stated
}

fn heard(recording: &Call) -> Audio {
    (text(recording, "sha256"), recording.get("bytes").and_then(Value::as_i64).unwrap_or(-1))
}

fn list<'a>(call: &'a Call, column: &str) -> &'a [Value] {
    call.get(column).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(call: &Call, column: &str) -> String {
    call.get(column).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn name(call: &Call) -> Name {
    (text(call, "source"), text(call, "call_key"))
}
