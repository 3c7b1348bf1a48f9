//! `distribution`: how long callers wait, telephones ring and people talk.

use serde_json::json;

use super::answer::Answer;
use super::call::Call;
use super::cells::{Cells, Measure};
use super::family::{Basis, OfCalls};
use super::grouped::{ByGroup, Grouped, group_columns};
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
    attribution: Attribution,
}

impl Distribution {
    /// The question of this request.
    pub fn of(request: &Request) -> ByGroup<Distribution> {
        let (of, attribution) = (request.options.choice("of"), request.attribution());
        ByGroup { inner: Distribution { of, attribution }, group_by: request.group_by.clone() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&request.group_by).into_iter().chain(COLUMNS.map(Column::from)).collect()
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

impl Grouped for Distribution {
    type Measure = Durations;

    fn columns(&self) -> Vec<&'static str> {
        match self.of {
            "wait" => visit::READS.to_vec(),
            "ring" => vec!["ring_ms"],
            _ => vec!["talk_ms"],
        }
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn concerns(&self, call: &Call<'_>, open: bool) -> bool {
        match self.of {
            "wait" => Visit::of(call).is_some(),
            "ring" => !open,
            _ => call.disposition == "answered",
        }
    }

    fn measure(&self, measure: &mut Durations, call: &Call<'_>) {
        let duration = match self.of {
            "wait" => Visit::of(call).and_then(|visit| visit.wait_ms),
            "ring" => call.ring_ms,
            _ => call.talk_ms,
        };
        match duration {
            Some(ms) => measure.known.add(ms),
            None => measure.unknown += 1,
        }
    }
}
