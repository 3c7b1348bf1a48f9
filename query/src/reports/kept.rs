//! The recordings themselves, beside the calls that have some: how many, how long, how large.

use arrow::array::RecordBatch;
use serde_json::{Map, Value, json};
use trunklog_storage::archive::{Snapshot, StoredTable};
use trunklog_storage::event::{Micros, format_time};

use super::calendar::Interval;
use super::dimension::{Dimension, Filters};
use super::family::{Basis, Family, Keep};
use super::request::Request;
use crate::error::QueryError;
use crate::row::Row;

/// What recordings come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    recordings: u64,
    without_call: u64,
    damaged: u64,
    bytes: i64,
    duration_ms: i64,
    oldest: Option<Micros>,
}

impl Totals {
    /// Adds what they come to.
    pub fn tell(&self, params: &mut Map<String, Value>) {
        params.insert("recordings".into(), json!(self.recordings));
        params.insert("without_call".into(), json!(self.without_call));
        params.insert("damaged".into(), json!(self.damaged));
        params.insert("bytes".into(), json!(self.bytes));
        params.insert("duration_ms".into(), json!(self.duration_ms));
        params.insert("oldest_received_at".into(), json!(self.oldest.map(format_time)));
    }
}

/// The question about recordings.
pub(crate) struct Stored {
    filters: Filters,
}

impl Stored {
    /// The question of this request, unless a filter is about what recordings do not have.
    pub fn of(request: &Request) -> Option<Stored> {
        let has =
            |dimension: &Dimension| matches!(dimension, Dimension::Source | Dimension::Endpoint | Dimension::Number);
        let all = request.filters.0.iter().all(|(dimension, _)| has(dimension));
        all.then(|| Stored { filters: request.filters.clone() })
    }

    fn add(&self, totals: &mut Totals, batch: &RecordBatch, keep: &Keep, within: Interval) {
        for row in keep.rows(batch, "recording_id").map(|at| Row { batch, at }) {
            let Some(received_at) = row.time("received_at").filter(|at| within.contains(*at)) else { continue };
            if !self.accepts(row) {
                continue;
            }
            totals.recordings += 1;
            totals.without_call += u64::from(row.text("call_id").is_none());
            totals.damaged += u64::from(row.text("status") == Some("damaged"));
            totals.bytes = totals.bytes.saturating_add(row.whole("bytes").unwrap_or_default());
            totals.duration_ms = totals.duration_ms.saturating_add(row.whole("duration_ms").unwrap_or_default());
            totals.oldest = [totals.oldest, Some(received_at)].into_iter().flatten().min();
        }
    }

    fn accepts(&self, row: Row<'_>) -> bool {
        self.filters.0.iter().all(|(dimension, values)| {
            let columns: &[&str] = match dimension {
                Dimension::Number => &["from_number", "to_number"],
                Dimension::Endpoint => &["endpoint"],
                _ => &["source"],
            };
            let mut found = columns.iter().filter_map(|name| row.text(name));
            found.any(|found| values.iter().any(|value| value == found))
        })
    }
}

impl Family for Stored {
    type Partial = Totals;

    const TABLE: StoredTable = StoredTable::Recordings;

    fn begin(&self) -> Totals {
        Totals::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        vec![
            "tenant",
            "source",
            "recording_id",
            "call_id",
            "status",
            "bytes",
            "duration_ms",
            "received_at",
            "endpoint",
            "from_number",
            "to_number",
        ]
    }

    fn basis(&self) -> Basis {
        Basis::Within("received_at")
    }

    fn add_stored(&self, partial: &mut Totals, batch: &RecordBatch, keep: &Keep, within: Interval) {
        self.add(partial, batch, keep, within);
    }

    fn add_fresh(
        &self,
        partial: &mut Totals,
        snapshot: &Snapshot,
        keep: &Keep,
        within: Interval,
    ) -> Result<(), QueryError> {
        snapshot.recordings_fresh()?.iter().for_each(|batch| self.add(partial, batch, keep, within));
        Ok(())
    }

    fn merge(&self, partial: &mut Totals, other: &Totals) {
        partial.recordings += other.recordings;
        partial.without_call += other.without_call;
        partial.damaged += other.damaged;
        partial.bytes = partial.bytes.saturating_add(other.bytes);
        partial.duration_ms = partial.duration_ms.saturating_add(other.duration_ms);
        partial.oldest = [partial.oldest, other.oldest].into_iter().flatten().min();
    }

    fn bytes(&self, _: &Totals) -> usize {
        size_of::<Totals>()
    }
}
