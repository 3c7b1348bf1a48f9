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

/// Compares the tenant's `calls` with the truth, and what comes from receive times with a naive fold over `events`.
pub async fn check(server: &Server, query_key: &str, truth: &[Call]) {
    let calls = server.sql(query_key, "SELECT * FROM calls").await.objects();
    let mut problems = compare(truth, &calls);
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

fn name(call: &Call) -> Name {
    let text = |column: &str| call.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("source"), text("call_key"))
}
