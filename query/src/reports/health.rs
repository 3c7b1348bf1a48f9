//! `ingest_health`: what came from each source, and how late.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use compact_str::CompactString;
use trunklog_storage::archive::{Snapshot, StoredTable};
use trunklog_storage::event::{Micros, Source};
use trunklog_storage::position::Position;

use super::answer::Answer;
use super::calendar::Interval;
use super::dimension::Dimension;
use super::family::{Basis, Family, Keep};
use super::histogram::Histogram;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};
use crate::error::QueryError;

/// The columns.
pub(crate) const COLUMNS: [StaticColumn; 9] = [
    column("source", Type::Text, None, "group/1", "the telephone system"),
    column("messages", Type::Whole, Some("messages"), "messages/1", "messages received"),
    column("duplicates", Type::Whole, Some("messages"), "duplicates/1", "repeated deliveries among them"),
    column("quarantined", Type::Whole, Some("messages"), "quarantined/1", "messages that were not understood"),
    column("first_received_at", Type::Time, None, "messages/1", "first receipt"),
    column("last_received_at", Type::Time, None, "messages/1", "last receipt"),
    column("delay_p50_ms", Type::Whole, Some("ms"), "delay/1", "median delay"),
    column("delay_p95_ms", Type::Whole, Some("ms"), "delay/1", "95th percentile of the delay"),
    column(
        "silent_hours",
        Type::Whole,
        Some("hours"),
        "silent_hours/1",
        "hours between first and last without a message",
    ),
];

const HOUR: Micros = 3_600_000_000;

/// One message.
struct Seen<'a> {
    source: &'a str,
    received_at: Micros,
    occurred_at: Option<Micros>,
    duplicate: bool,
    quarantined: bool,
}

/// What the messages of a source come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    messages: u64,
    duplicates: u64,
    quarantined: u64,
    first: Option<Micros>,
    last: Option<Micros>,
    delay: Histogram,
    delays_unknown: u64,
    hours: BTreeSet<i64>,
}

impl Health {
    fn add(&mut self, seen: &Seen<'_>) {
        self.messages += 1;
        self.duplicates += u64::from(seen.duplicate);
        self.quarantined += u64::from(seen.quarantined);
        self.first = [self.first, Some(seen.received_at)].into_iter().flatten().min();
        self.last = self.last.max(Some(seen.received_at));
        match seen.occurred_at {
            Some(at) => self.delay.add((seen.received_at - at).max(0) / 1000),
            None => self.delays_unknown += 1,
        }
        self.hours.insert(seen.received_at.div_euclid(HOUR));
    }

    fn merge(&mut self, other: &Health) {
        self.messages += other.messages;
        self.duplicates += other.duplicates;
        self.quarantined += other.quarantined;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
        self.delay.merge(&other.delay);
        self.delays_unknown += other.delays_unknown;
        self.hours.extend(&other.hours);
    }

    fn silent_hours(&self) -> i64 {
        let ends = self.hours.first().zip(self.hours.last());
        ends.map_or(0, |(first, last)| last - first + 1 - i64::try_from(self.hours.len()).unwrap_or_default())
    }
}

/// The question.
pub(crate) struct Ingest {
    sources: Option<Vec<String>>,
    /// Up to here, inclusive: an older snapshot has the files of now.
    until: Option<Position>,
}

impl Ingest {
    /// The question of this request.
    pub fn of(request: &Request, until: Option<Position>) -> Ingest {
        Ingest { sources: request.filters.values(Dimension::Source).map(<[String]>::to_vec), until }
    }

    /// The answer.
    pub fn answer(request: &Request, total: &BTreeMap<CompactString, Health>) -> Answer {
        let rows = total.iter().map(|(source, health)| {
            vec![
                Cell::Text(source.clone()),
                Cell::count(health.messages),
                Cell::count(health.duplicates),
                Cell::count(health.quarantined),
                Cell::time(health.first),
                Cell::time(health.last),
                Cell::whole(health.delay.percentile(50)),
                Cell::whole(health.delay.percentile(95)),
                Cell::Whole(health.silent_hours()),
            ]
        });
        let table = Table { rows: rows.collect(), columns: COLUMNS.map(Column::from).to_vec() };
        let mut answer = Answer::new(table, request.params(), 0);
        let unknown = total.values().map(|health| health.delays_unknown).sum();
        answer.unknown("delay_p50_ms", unknown);
        answer.unknown("delay_p95_ms", unknown);
        answer
    }

    fn add(&self, partial: &mut BTreeMap<CompactString, Health>, seen: &Seen<'_>, within: Interval) {
        let own = seen.source == Source::Trunklog.as_str();
        let asked = self.sources.as_ref().is_none_or(|sources| sources.iter().any(|source| source == seen.source));
        if own || !asked || !within.contains(seen.received_at) {
            return;
        }
        match partial.get_mut(seen.source) {
            Some(health) => health.add(seen),
            None => partial.entry(seen.source.into()).or_default().add(seen),
        }
    }
}

impl Family for Ingest {
    type Partial = BTreeMap<CompactString, Health>;

    const TABLE: StoredTable = StoredTable::Events;

    fn begin(&self) -> Self::Partial {
        BTreeMap::new()
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["tenant", "source", "received_at", "occurred_at", "duplicate_of", "quarantined", "partition", "offset"]
    }

    fn basis(&self) -> Basis {
        Basis::Within("received_at")
    }

    fn add_stored(&self, partial: &mut Self::Partial, batch: &RecordBatch, keep: &Keep, within: Interval) {
        let column = |name: &str| batch.column_by_name(name);
        let time = |name: &str| column(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let text = |name: &str| column(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(sources), Some(received)) = (text("source"), time("received_at")) else { return };
        let (occurred, duplicates) = (time("occurred_at"), text("duplicate_of"));
        let quarantined = column("quarantined").and_then(|column| column.as_boolean_opt());
        let whole = |name: &str| column(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (partitions, offsets) = (whole("partition"), whole("offset"));
        let later = |row: usize| match (self.until, partitions, offsets) {
            (Some(until), Some(partitions), Some(offsets)) => {
                let until = usize::try_from(partitions.value(row)).ok().and_then(|partition| until.at(partition));
                until.is_some_and(|until| offsets.value(row).cast_unsigned() > until.0)
            }
            _ => false,
        };
        for row in keep.rows(batch, "event_id").filter(|row| !later(*row)) {
            let seen = Seen {
                source: sources.value(row),
                received_at: received.value(row),
                occurred_at: occurred.filter(|times| times.is_valid(row)).map(|times| times.value(row)),
                duplicate: duplicates.is_some_and(|duplicates| duplicates.is_valid(row)),
                quarantined: quarantined.is_some_and(|flags| flags.is_valid(row) && flags.value(row)),
            };
            self.add(partial, &seen, within);
        }
    }

    fn add_fresh(
        &self,
        partial: &mut Self::Partial,
        snapshot: &Snapshot,
        keep: &Keep,
        within: Interval,
    ) -> Result<(), QueryError> {
        for logged in snapshot.fresh_messages().filter(|logged| keep.tenant(&logged.event.tenant)) {
            let seen = Seen {
                source: logged.event.source.as_str(),
                received_at: logged.event.received_at,
                occurred_at: logged.occurred_at,
                duplicate: logged.duplicate_of.is_some(),
                quarantined: logged.error.is_some(),
            };
            self.add(partial, &seen, within);
        }
        Ok(())
    }

    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial) {
        for (source, health) in other {
            partial.entry(source.clone()).or_default().merge(health);
        }
    }

    fn bytes(&self, partial: &Self::Partial) -> usize {
        partial.values().map(|health| 256 + health.delay.bytes() + health.hours.len() * 16).sum()
    }
}
