//! `longest` and `shortest`: answered calls by talk time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use compact_str::CompactString;

use super::answer::Answer;
use super::calendar::Interval;
use super::call::Call;
use super::cells::Key;
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::grouped::{group_columns, group_of, group_reads, groups_without};
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

/// The columns.
pub(crate) const COLUMNS: [StaticColumn; 9] = [
    column("call_id", Type::Text, None, "column/1", "our id of the call"),
    column("source", Type::Text, None, "column/1", "the telephone system"),
    column("direction", Type::Text, None, "column/1", "in, out, internal or unknown"),
    column("from_number", Type::Text, None, "column/1", "calling number as sent"),
    column("to_number", Type::Text, None, "column/1", "called number as sent"),
    column("endpoint", Type::Text, None, "column/1", "extension or user"),
    column("queue", Type::Text, None, "column/1", "queue or ring group"),
    column("started_at", Type::Time, None, "column/1", "start"),
    column("talk_ms", Type::Whole, Some("ms"), "column/1", "talk time"),
];

/// Rank, then call: the best come first.
type Place = (Reverse<i64>, CompactString);

/// What some calls come to: the best of each group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Best {
    groups: BTreeMap<Vec<Key>, BTreeMap<Place, Vec<Cell>>>,
    unknown: u64,
}

/// One question.
pub(crate) struct Extremes {
    longest: bool,
    limit: usize,
    group_by: Vec<Dimension>,
    attribution: Attribution,
}

impl Extremes {
    /// The question of this request.
    pub fn of(request: &Request) -> Extremes {
        Extremes {
            longest: request.definition.name == "longest",
            limit: usize::try_from(request.options.whole("limit")).unwrap_or_default(),
            group_by: added(request),
            attribution: request.attribution(),
        }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&added(request)).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    /// The answer.
    pub fn answer(request: &Request, total: OfCalls<Best>) -> Answer {
        let groups = total.inner.groups.into_iter();
        let rows = groups.flat_map(|(key, calls)| {
            calls.into_values().map(move |cells| key.iter().map(Cell::from).chain(cells).collect())
        });
        let table = Table { rows: rows.collect(), columns: Extremes::columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        answer.unknown("talk_ms", total.inner.unknown);
        answer
    }

    fn put(&self, best: &mut BTreeMap<Place, Vec<Cell>>, place: Place, cells: impl FnOnce() -> Vec<Cell>) {
        let full = best.len() >= self.limit;
        if full && best.last_key_value().is_some_and(|(last, _)| *last < place) {
            return;
        }
        best.insert(place, cells());
        if best.len() > self.limit {
            best.pop_last();
        }
    }
}

/// Groups that are no columns of the report anyway.
fn added(request: &Request) -> Vec<Dimension> {
    groups_without(request, |dimension| COLUMNS.iter().any(|column| column.name == dimension.name()))
}

impl CallFamily for Extremes {
    type Partial = Best;

    fn begin(&self) -> Best {
        Best::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        let own = ["from_number", "to_number", "endpoint", "queue", "talk_ms"];
        group_reads(&self.group_by).chain(own).collect()
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn add(&self, partial: &mut Best, call: &Call<'_>, _open: bool, _within: Interval) {
        if call.disposition != "answered" {
            return;
        }
        let Some(talk_ms) = call.talk_ms else {
            partial.unknown += 1;
            return;
        };
        let place = (Reverse(if self.longest { talk_ms } else { -talk_ms }), CompactString::from(call.call_id));
        let cells = || {
            vec![
                Cell::text(Some(call.call_id)),
                Cell::text(Some(call.source)),
                Cell::text(Some(call.direction)),
                Cell::text(call.from_number),
                Cell::text(call.to_number),
                Cell::text(call.endpoint),
                Cell::text(call.queue),
                Cell::time(call.started_at),
                Cell::Whole(talk_ms),
            ]
        };
        self.put(partial.groups.entry(group_of(&self.group_by, call)).or_default(), place, cells);
    }

    fn merge(&self, partial: &mut Best, other: &Best) {
        for (key, calls) in &other.groups {
            let best = partial.groups.entry(key.clone()).or_default();
            for (place, cells) in calls {
                self.put(best, place.clone(), || cells.clone());
            }
        }
        partial.unknown += other.unknown;
    }

    fn bytes(&self, partial: &Best) -> usize {
        partial.groups.values().map(|calls| calls.len() * 512).sum()
    }
}
