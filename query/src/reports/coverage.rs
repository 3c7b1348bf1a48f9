//! `recordings`: which calls are recorded, and what was recorded.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde_json::{Map, Value, json};
use trunklog_storage::archive::{Snapshot, StoredTable};
use trunklog_storage::event::{Micros, format_time};

use super::answer::Answer;
use super::calendar::Interval;
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::counts::{group_columns, group_of, group_reads};
use super::dimension::{Dimension, Filters};
use super::family::{Basis, CallFamily, Family, Keep, OfCalls};
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column, most_first};
use crate::error::QueryError;

/// The columns after the group's.
pub(crate) const COLUMNS: [StaticColumn; 6] = [
    column("calls", Type::Whole, Some("calls"), "calls/1", "calls, open ones too"),
    column("answered", Type::Whole, Some("calls"), "answered/1", "answered calls"),
    column("recorded", Type::Whole, Some("calls"), "recorded/1", "calls with a recording"),
    column("expected", Type::Whole, Some("calls"), "recorded/1", "calls whose recording has not come"),
    column("failed", Type::Whole, Some("calls"), "recorded/1", "calls whose recording failed"),
    column(
        "coverage",
        Type::Float,
        Some("fraction"),
        "coverage/1",
        "answered calls that are recorded by answered calls",
    ),
];

/// What the calls of a group come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    calls: u64,
    answered: u64,
    recorded: u64,
    expected: u64,
    failed: u64,
    answered_and_recorded: u64,
}

impl Measure for Recorded {
    fn merge(&mut self, other: &Recorded) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.recorded += other.recorded;
        self.expected += other.expected;
        self.failed += other.failed;
        self.answered_and_recorded += other.answered_and_recorded;
    }
}

/// The question about calls.
pub(crate) struct Coverage {
    group_by: Vec<Dimension>,
    attribution: Attribution,
}

impl Coverage {
    /// The question of this request.
    pub fn of(request: &Request) -> Coverage {
        Coverage { group_by: request.group_by.clone(), attribution: request.attribution() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(request).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    /// The answer; `totals` is about the recordings themselves, unless a filter is about calls only.
    pub fn answer(request: &Request, total: OfCalls<Cells<Recorded>>, totals: Option<Totals>) -> Answer {
        let mut rows = total.inner.into_rows();
        if request.group_by.is_empty() && rows.is_empty() {
            rows.push((Vec::new(), Recorded::default()));
        }
        rows.sort_unstable_by(|left, right| most_first((left.1.calls, &left.0), (right.1.calls, &right.0)));
        let rows = rows.iter().map(|(key, measure)| {
            let own = [
                Cell::count(measure.calls),
                Cell::count(measure.answered),
                Cell::count(measure.recorded),
                Cell::count(measure.expected),
                Cell::count(measure.failed),
                Cell::ratio(measure.answered_and_recorded, measure.answered),
            ];
            key.iter().map(Cell::from).chain(own).collect()
        });
        let table = Table { rows: rows.collect(), columns: Coverage::columns(request) };
        let mut params = request.params();
        if let Some(totals) = totals {
            totals.tell(&mut params);
        }
        Answer::new(table, params, total.open)
    }
}

impl CallFamily for Coverage {
    type Partial = Cells<Recorded>;

    fn begin(&self) -> Self::Partial {
        Cells::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        group_reads(&self.group_by).chain(["recording_state"]).collect()
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn add(&self, partial: &mut Self::Partial, call: &Call<'_>, _open: bool, _within: Interval) {
        let mut key: Vec<Key> = Vec::with_capacity(self.group_by.len());
        group_of(&self.group_by, call, &mut key);
        let measure = partial.at(&key);
        let (answered, recorded) = (call.disposition == "answered", call.recording_state == "available");
        measure.calls += 1;
        measure.answered += u64::from(answered);
        measure.recorded += u64::from(recorded);
        measure.expected += u64::from(call.recording_state == "expected");
        measure.failed += u64::from(call.recording_state == "failed");
        measure.answered_and_recorded += u64::from(answered && recorded);
    }

    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial) {
        partial.merge(other);
    }

    fn bytes(&self, partial: &Self::Partial) -> usize {
        partial.bytes()
    }
}

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
    fn tell(&self, params: &mut Map<String, Value>) {
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
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let whole = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let received = batch.column_by_name("received_at");
        let received = received.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let Some(received) = received else { return };
        for row in keep.rows(batch, "recording_id") {
            if received.is_null(row) || !within.contains(received.value(row)) {
                continue;
            }
            let accepted = self.filters.0.iter().all(|(dimension, values)| {
                let columns: &[&str] = match dimension {
                    Dimension::Number => &["from_number", "to_number"],
                    Dimension::Endpoint => &["endpoint"],
                    _ => &["source"],
                };
                let mut found = columns.iter().filter_map(|name| text(name, row));
                found.any(|found| values.iter().any(|value| value == found))
            });
            if !accepted {
                continue;
            }
            totals.recordings += 1;
            totals.without_call += u64::from(text("call_id", row).is_none());
            totals.damaged += u64::from(text("status", row) == Some("damaged"));
            totals.bytes = totals.bytes.saturating_add(whole("bytes", row).unwrap_or_default());
            totals.duration_ms = totals.duration_ms.saturating_add(whole("duration_ms", row).unwrap_or_default());
            let at = Some(received.value(row));
            totals.oldest = [totals.oldest, at].into_iter().flatten().min();
        }
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
        if snapshot.offset.is_some() {
            snapshot.recordings_fresh()?.iter().for_each(|batch| self.add(partial, batch, keep, within));
        }
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
