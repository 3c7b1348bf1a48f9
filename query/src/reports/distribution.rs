//! `distribution`: how long callers wait, telephones ring and people talk.

use serde_json::json;

use super::answer::Answer;
use super::calendar::Interval;
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::counts::{group_columns, group_of, group_reads};
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::histogram::Histogram;
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column};
use super::visit::{self, Visit};

/// The columns after the group's.
pub(crate) const COLUMNS: [StaticColumn; 3] = [
    column("from_ms", Type::Whole, Some("ms"), "distribution/1", "shortest duration of the bin"),
    column("until_ms", Type::Whole, Some("ms"), "distribution/1", "the first duration after it"),
    column("calls", Type::Whole, Some("calls"), "distribution/1", "calls in the bin"),
];

/// The names of what is distributed.
pub(crate) const OF: &[&str] = &["wait", "ring", "talk"];

/// What the calls of a group come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    known: Histogram,
    unknown: u64,
}

impl Measure for Durations {
    fn merge(&mut self, other: &Durations) {
        self.known.merge(&other.known);
        self.unknown += other.unknown;
    }

    fn more_bytes(&self) -> usize {
        self.known.bytes()
    }
}

/// One question.
pub(crate) struct Distribution {
    of: &'static str,
    group_by: Vec<Dimension>,
    attribution: Attribution,
}

impl Distribution {
    /// The question of this request.
    pub fn of(request: &Request) -> Distribution {
        let of = request.options.choice("of");
        Distribution { of, group_by: request.group_by.clone(), attribution: request.attribution() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(request).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    /// The answer.
    pub fn answer(request: &Request, total: OfCalls<Cells<Durations>>) -> Answer {
        let width_ms = request.options.whole("width_s") * 1000;
        let mut params = request.params();
        let mut sum = Durations::default();
        let mut groups = total.inner.into_rows();
        groups.iter().for_each(|(_, measure)| sum.merge(measure));
        groups.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        params.insert("n".into(), json!(sum.known.count()));
        for percent in [50, 90, 95, 99] {
            params.insert(format!("p{percent}"), json!(sum.known.percentile(percent)));
        }
        let ends = sum.known.ends();
        params.insert("min_ms".into(), json!(ends.map(|ends| ends.0)));
        params.insert("max_ms".into(), json!(ends.map(|ends| ends.1)));
        params.insert("avg_ms".into(), json!(sum.known.average()));
        let rows = groups.iter().flat_map(|(key, measure)| {
            let bins = measure.known.wider(width_ms).into_iter();
            bins.map(move |(from, calls)| {
                let group = key.iter().map(Cell::from);
                group.chain([Cell::Whole(from), Cell::Whole(from + width_ms), Cell::count(calls)]).collect()
            })
        });
        let table = Table { rows: rows.collect(), columns: Distribution::columns(request) };
        let mut answer = Answer::new(table, params, total.open);
        answer.unknown("calls", sum.unknown);
        answer
    }
}

impl CallFamily for Distribution {
    type Partial = Cells<Durations>;

    fn begin(&self) -> Self::Partial {
        Cells::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        let own: &[&str] = match self.of {
            "wait" => &visit::READS,
            "ring" => &["ring_ms"],
            _ => &["talk_ms"],
        };
        group_reads(&self.group_by).chain(own.iter().copied()).collect()
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn add(&self, partial: &mut Self::Partial, call: &Call<'_>, open: bool, _within: Interval) {
        let duration = match self.of {
            "wait" => match Visit::of(call) {
                Some(visit) => visit.wait_ms,
                None => return,
            },
            "ring" if !open => call.ring_ms,
            "talk" if call.disposition == "answered" => call.talk_ms,
            _ => return,
        };
        let mut key: Vec<Key> = Vec::with_capacity(self.group_by.len());
        group_of(&self.group_by, call, &mut key);
        let measure = partial.at(&key);
        match duration {
            Some(ms) => measure.known.add(ms),
            None => measure.unknown += 1,
        }
    }

    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial) {
        partial.merge(other);
    }

    fn bytes(&self, partial: &Self::Partial) -> usize {
        partial.bytes()
    }
}
