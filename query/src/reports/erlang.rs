//! `erlang`: how much traffic there is in each interval. ITU-T E.600.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::calendar::{Bucket, Buckets, Calendar, Interval};
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::grouped::{group_columns, group_of, group_reads};
use super::part::bucket_column;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

/// The column of `erlang`.
pub(crate) const ERLANG: StaticColumn =
    column("erlang", Type::Float, Some("E"), "erlang/1", "traffic intensity: time of calls by length of the interval");
/// Traffic of a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    micros: i64,
    unknown: u64,
}

impl Measure for Traffic {
    fn merge(&mut self, other: &Traffic) {
        self.micros = self.micros.saturating_add(other.micros);
        self.unknown += other.unknown;
    }
}

/// The question of how much traffic there is in each bucket.
pub(crate) struct Erlang {
    pub(super) bucket: Bucket,
    pub(super) calendar: Calendar,
    pub(super) group_by: Vec<Dimension>,
}

/// What some calls come to.
#[derive(Clone, Debug)]
pub(crate) struct Traffics {
    pub(super) cells: Cells<Traffic>,
    buckets: Buckets,
    pub(super) unknown: u64,
}

impl Erlang {
    /// The question of this request.
    pub fn of(request: &Request) -> Erlang {
        let bucket = request.bucket().or_else(|| request.pieces()).unwrap_or(Bucket::Hour);
        Erlang { bucket, calendar: request.calendar, group_by: request.group_by.clone() }
    }

    /// The columns of `erlang`.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&request.group_by).into_iter().chain([bucket_column(), ERLANG.into()]).collect()
    }

    /// The answer of `erlang`.
    pub fn answer(&self, request: &Request, total: OfCalls<Traffics>) -> Answer {
        let Traffics { cells, unknown, .. } = total.inner;
        let rows = each_group(&cells, self.group_by.is_empty()).into_iter().flat_map(|(group, traffic)| {
            self.calendar.buckets(self.bucket, request.interval).filter_map(move |bucket| {
                let micros = traffic.get(&bucket.from).copied();
                // Of groups only what there is.
                let micros = if group.is_empty() { micros.unwrap_or_default() } else { micros? };
                Some((bucket, group.clone(), intensity(micros, bucket.and(request.interval))))
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by(|left, right| (left.0.from, &left.1).cmp(&(right.0.from, &right.1)));
        let rows = rows.iter().map(|(bucket, group, erlang)| {
            let label = Cell::Text(self.calendar.label(bucket.from).into());
            group.iter().map(Cell::from).chain([label, Cell::Float(*erlang)]).collect()
        });
        let table = Table { rows: rows.collect(), columns: Erlang::columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        answer.unknown("erlang", unknown);
        answer
    }
}

/// The traffic of each group by bucket, in order; of no groups also when there is none.
pub(super) fn each_group(cells: &Cells<Traffic>, ungrouped: bool) -> BTreeMap<Vec<Key>, BTreeMap<i64, i64>> {
    let mut groups: BTreeMap<Vec<Key>, BTreeMap<i64, i64>> = BTreeMap::new();
    if ungrouped {
        groups.insert(Vec::new(), BTreeMap::new());
    }
    for (key, traffic) in cells.iter() {
        if let Some((Key::Whole(at), group)) = key.split_first() {
            groups.entry(group.to_vec()).or_default().insert(*at, traffic.micros);
        }
    }
    groups
}

/// Erlangs in an interval.
pub(super) fn intensity(micros: i64, interval: Interval) -> f64 {
    let length = interval.until - interval.from;
    if length > 0 { micros as f64 / length as f64 } else { 0.0 }
}

impl CallFamily for Erlang {
    type Partial = Traffics;

    fn begin(&self) -> Traffics {
        Traffics { cells: Cells::default(), buckets: Buckets::new(self.calendar, self.bucket), unknown: 0 }
    }

    fn columns(&self) -> Vec<&'static str> {
        group_reads(&self.group_by).chain(["ended_at"]).collect()
    }

    fn basis(&self) -> Basis {
        Basis::Overlap
    }

    fn add(&self, partial: &mut Traffics, call: &Call<'_>, _open: bool, within: Interval) {
        let Some(lasting) = call.lasting() else {
            partial.unknown += 1;
            return;
        };
        let lasting = lasting.and(within);
        let mut key = vec![Key::Null];
        key.extend(group_of(&self.group_by, call));
        let mut at = lasting.from;
        while at < lasting.until {
            let bucket = partial.buckets.of(at);
            key[0] = Key::Whole(bucket.from);
            let inside = lasting.and(bucket);
            partial.cells.at(&key).micros += inside.until - inside.from;
            at = bucket.until;
        }
    }

    fn merge(&self, partial: &mut Traffics, other: &Traffics) {
        partial.cells.merge(&other.cells);
        partial.unknown += other.unknown;
    }

    fn bytes(&self, partial: &Traffics) -> usize {
        partial.cells.bytes()
    }
}
