//! `service_level`: how soon queues were answered, and what was abandoned. Unit is the queue visit.

use super::answer::Answer;
use super::call::Call;
use super::cells::{Cells, Measure};
use super::dimension::Dimension;
use super::family::{Basis, OfCalls};
use super::grouped::{ByGroup, Grouped, group_columns, groups_without};
use super::options::Options;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column, most_first};
use super::visit::{self, Outcome, Visit};

/// The columns after the groups' and the queue's.
pub(crate) const COLUMNS: [StaticColumn; 8] = [
    column("offered", Type::Whole, Some("visits"), "offered/1", "visits that ended"),
    column("answered", Type::Whole, Some("visits"), "visits_answered/1", "answered ones"),
    column("answered_in_x", Type::Whole, Some("visits"), "answered_in_x/1", "answered within x seconds"),
    column("abandoned", Type::Whole, Some("visits"), "abandoned/1", "the caller hung up, short ones included"),
    column("short_abandoned", Type::Whole, Some("visits"), "short_abandoned/1", "of these the short ones"),
    column(
        "service_level",
        Type::Float,
        Some("fraction"),
        "service_level/1",
        "answered in time by answered and failed",
    ),
    column(
        "abandonment_rate",
        Type::Float,
        Some("fraction"),
        "abandonment_rate/1",
        "abandoned by offered, without short ones",
    ),
    column("asa_ms", Type::Float, Some("ms"), "asa/1", "average wait of answered visits"),
];

/// What the visits of a group come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visits {
    offered: u64,
    answered: u64,
    answered_in_x: u64,
    abandoned: u64,
    abandoned_short: u64,
    abandoned_in_x: u64,
    flowouts: u64,
    wait_ms: i64,
    waits: u64,
    unknown_outcomes: u64,
    unknown_waits: u64,
}

impl Measure for Visits {
    fn merge(&mut self, other: &Visits) {
        self.offered += other.offered;
        self.answered += other.answered;
        self.answered_in_x += other.answered_in_x;
        self.abandoned += other.abandoned;
        self.abandoned_short += other.abandoned_short;
        self.abandoned_in_x += other.abandoned_in_x;
        self.flowouts += other.flowouts;
        self.wait_ms = self.wait_ms.saturating_add(other.wait_ms);
        self.waits += other.waits;
        self.unknown_outcomes += other.unknown_outcomes;
        self.unknown_waits += other.unknown_waits;
    }
}

impl Visits {
    /// Service level: what counts as done in time, and what as offered.
    fn level(&self, options: &Options) -> Cell {
        let flowouts = if options.flag("flowouts") { self.flowouts } else { 0 };
        let (more, failures) = match options.choice("abandon_mode") {
            "exclude_all" => (0, 0),
            "count_as_failure" => (0, self.abandoned),
            "count_as_success_within_x" => (self.abandoned_in_x, self.abandoned),
            _ => (0, self.abandoned - self.abandoned_short),
        };
        Cell::ratio(self.answered_in_x + more, self.answered + failures + flowouts)
    }

    fn cells(&self, options: &Options) -> [Cell; 8] {
        [
            Cell::count(self.offered),
            Cell::count(self.answered),
            Cell::count(self.answered_in_x),
            Cell::count(self.abandoned),
            Cell::count(self.abandoned_short),
            self.level(options),
            Cell::ratio(self.abandoned - self.abandoned_short, self.offered - self.abandoned_short),
            Cell::float((self.waits > 0).then(|| self.wait_ms as f64 / self.waits as f64)),
        ]
    }
}

/// One question.
pub(crate) struct ServiceLevel {
    within_ms: i64,
    inclusive: bool,
    short_ms: i64,
}

impl ServiceLevel {
    /// The question of this request.
    pub fn of(request: &Request) -> ByGroup<ServiceLevel> {
        let options = &request.options;
        let inner = ServiceLevel {
            within_ms: options.whole("x_s") * 1000,
            inclusive: options.flag("inclusive"),
            short_ms: options.whole("short_abandon_s") * 1000,
        };
        ByGroup { inner, group_by: groups(request) }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&groups(request)).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    fn is_in_time(&self, wait_ms: i64) -> bool {
        wait_ms < self.within_ms || self.inclusive && wait_ms == self.within_ms
    }

    /// The answer.
    pub fn answer(request: &Request, total: OfCalls<Cells<Visits>>) -> Answer {
        let mut sum = Visits::default();
        let mut rows = total.inner.into_rows();
        rows.iter().for_each(|(_, measure)| sum.merge(measure));
        rows.sort_unstable_by(|left, right| most_first((left.1.offered, &left.0), (right.1.offered, &right.0)));
        let rows = rows.iter().map(|(key, measure)| {
            let group = key.iter().map(Cell::from);
            group.chain(measure.cells(&request.options)).collect()
        });
        let table = Table { rows: rows.collect(), columns: ServiceLevel::columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        for column in ["answered", "abandoned", "abandonment_rate"] {
            answer.unknown(column, sum.unknown_outcomes);
        }
        for column in ["answered_in_x", "short_abandoned", "service_level", "asa_ms"] {
            answer.unknown(column, sum.unknown_outcomes + sum.unknown_waits);
        }
        answer
    }
}

/// The queue is the report's own group, after those that were asked for.
fn groups(request: &Request) -> Vec<Dimension> {
    let mut groups = groups_without(request, |dimension| dimension == Dimension::Queue);
    groups.push(Dimension::Queue);
    groups
}

impl Grouped for ServiceLevel {
    type Measure = Visits;

    fn columns(&self) -> Vec<&'static str> {
        visit::READS.to_vec()
    }

    fn basis(&self) -> Basis {
        Basis::Within("started_at")
    }

    fn concerns(&self, call: &Call<'_>, _open: bool) -> bool {
        Visit::of(call).is_some()
    }

    fn measure(&self, measure: &mut Visits, call: &Call<'_>) {
        let Some(visit) = Visit::of(call) else { return };
        measure.offered += 1;
        let in_time = visit.wait_ms.is_some_and(|ms| self.is_in_time(ms));
        match visit.outcome {
            Some(Outcome::Answered) => {
                measure.answered += 1;
                measure.answered_in_x += u64::from(in_time);
                if let Some(ms) = visit.wait_ms {
                    measure.wait_ms = measure.wait_ms.saturating_add(ms);
                    measure.waits += 1;
                }
            }
            Some(Outcome::Abandoned) => {
                measure.abandoned += 1;
                measure.abandoned_in_x += u64::from(in_time);
                measure.abandoned_short += u64::from(visit.wait_ms.is_some_and(|ms| ms < self.short_ms));
            }
            Some(Outcome::Overflow | Outcome::Timeout | Outcome::Voicemail) => measure.flowouts += 1,
            Some(Outcome::Blocked) => {}
            None => measure.unknown_outcomes += 1,
        }
        let needs_wait = matches!(visit.outcome, Some(Outcome::Answered | Outcome::Abandoned));
        measure.unknown_waits += u64::from(needs_wait && visit.wait_ms.is_none());
    }
}
