//! `recordings`: which calls are recorded.

use super::answer::Answer;
use super::call::Call;
use super::cells::{Cells, Measure};
use super::family::{Basis, OfCalls};
use super::grouped::{ByGroup, Grouped, group_columns};
use super::kept::Totals;
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column, most_first};

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
    attribution: Attribution,
}

impl Coverage {
    /// The question of this request.
    pub fn of(request: &Request) -> ByGroup<Coverage> {
        ByGroup { inner: Coverage { attribution: request.attribution() }, group_by: request.group_by.clone() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&request.group_by).into_iter().chain(COLUMNS.map(Column::from)).collect()
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

impl Grouped for Coverage {
    type Measure = Recorded;

    fn columns(&self) -> Vec<&'static str> {
        vec!["recording_state"]
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn measure(&self, measure: &mut Recorded, call: &Call<'_>) {
        let (answered, recorded) = (call.disposition == "answered", call.recording_state == "available");
        measure.calls += 1;
        measure.answered += u64::from(answered);
        measure.recorded += u64::from(recorded);
        measure.expected += u64::from(call.recording_state == "expected");
        measure.failed += u64::from(call.recording_state == "failed");
        measure.answered_and_recorded += u64::from(answered && recorded);
    }
}
