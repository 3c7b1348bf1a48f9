//! How much was compared and how much of it would change.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use trunklog_storage::archive::{Change, Compared, Difference};

/// Counts of one table.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Rows as they are now.
    before: u64,
    /// Rows after folding again.
    after: u64,
    added: u64,
    removed: u64,
    changed: u64,
    /// Changed rows in which this column differs.
    columns: BTreeMap<String, u64>,
}

/// Counts of everything.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Messages folded again.
    messages: u64,
    calls: Counts,
    recordings: Counts,
}

impl Counts {
    fn new(compared: Compared) -> Counts {
        Counts { before: compared.before, after: compared.after, ..Counts::default() }
    }

    fn differing(&self) -> u64 {
        self.added + self.removed + self.changed
    }

    fn lines(&self, table: &str) -> Vec<String> {
        let Counts { before, after, added, removed, changed, columns } = self;
        let line = format!("{table} before={before} after={after} added={added} removed={removed} changed={changed}");
        let columns = columns.iter().map(|(name, rows)| format!("{table}.{name} changed={rows}"));
        std::iter::once(line).chain(columns).collect()
    }
}

impl Summary {
    pub fn new(messages: u64, calls: Compared, recordings: Compared) -> Summary {
        Summary { messages, calls: Counts::new(calls), recordings: Counts::new(recordings) }
    }

    /// Counts one row, its columns once each.
    pub fn count(&mut self, difference: &Difference) {
        let counts = if difference.table == "calls" { &mut self.calls } else { &mut self.recordings };
        match difference.change {
            Change::Added => counts.added += 1,
            Change::Removed => counts.removed += 1,
            Change::Changed => {
                counts.changed += 1;
                let names: BTreeSet<&str> = difference.columns.iter().map(|change| change.name.as_str()).collect();
                for name in names {
                    *counts.columns.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// Rows that would change.
    pub fn differing(&self) -> u64 {
        self.calls.differing() + self.recordings.differing()
    }

    pub fn differs(&self) -> bool {
        self.differing() > 0
    }

    /// As people read it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("messages={}", self.messages)];
        lines.extend(self.calls.lines("calls"));
        lines.extend(self.recordings.lines("recordings"));
        lines
    }

    /// In a sentence.
    pub fn verdict(&self) -> String {
        let (calls, recordings) = (self.calls.differing(), self.recordings.differing());
        format!("{calls} calls and {recordings} recordings would change; nothing was published")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunklog_storage::archive::ColumnChange;

    use super::*;

    #[test]
    fn a_column_counts_once_a_row() {
        let leg = |key: &str| ColumnChange {
            name: "legs.talk_ms".into(),
            element: Some(key.into()),
            before: json!(1),
            after: json!(2),
        };
        let mut difference = Difference {
            table: "calls",
            change: Change::Changed,
            id: "a".into(),
            key: "a".into(),
            tenant: "acme".into(),
            source: "kazoo".into(),
            columns: vec![leg("a"), leg("b")],
        };
        let mut summary = Summary::new(7, Compared { before: 3, after: 3 }, Compared::default());
        summary.count(&difference);
        difference.change = Change::Added;
        summary.count(&difference);
        assert_eq!(summary.differing(), 2);
        let expected = [
            "messages=7",
            "calls before=3 after=3 added=1 removed=0 changed=1",
            "calls.legs.talk_ms changed=1",
            "recordings before=0 after=0 added=0 removed=0 changed=0",
        ];
        assert_eq!(summary.lines(), expected);
    }
}
