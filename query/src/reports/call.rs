//! One call as reports see it, from a file or from memory.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, Int64Array, ListArray, PrimitiveArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use trunklog_storage::archive::FreshCall;
use trunklog_storage::call::LegRow;
use trunklog_storage::event::{Micros, Source};
use trunklog_storage::fact::Decoder;

use super::calendar::Interval;
use crate::tables::silence_allowed;

/// A call. Times in microseconds UTC, durations in milliseconds; what was not asked for is `None` or empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub tenant: &'a str,
    pub call_id: &'a str,
    pub source: &'a str,
    pub direction: &'a str,
    pub from_number: Option<&'a str>,
    pub to_number: Option<&'a str>,
    pub from_e164: Option<&'a str>,
    pub to_e164: Option<&'a str>,
    pub own_number: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub queue: Option<&'a str>,
    pub started_at: Option<Micros>,
    pub answered_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub last_received_at: Option<Micros>,
    pub ring_ms: Option<i64>,
    pub talk_ms: Option<i64>,
    pub queue_ms: Option<i64>,
    pub disposition: &'a str,
    pub disposition_raw: Option<&'a str>,
    pub cause_q850: Option<i64>,
    pub state: &'a str,
    pub transfers: i64,
    pub recording_state: &'a str,
    pub legs: Legs<'a>,
}

/// The legs of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Legs<'a> {
    /// Not asked for.
    Unread,
    /// From a file: row of a batch.
    Stored(&'a LegColumns<'a>, usize),
    /// From memory.
    Fresh(&'a [LegRow]),
}

/// One attempt to reach one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<'a> {
    pub direction: &'a str,
    pub started_at: Option<Micros>,
    pub ringing_at: Option<Micros>,
    pub answered_at: Option<Micros>,
    pub talk_ms: Option<i64>,
    pub disposition: &'a str,
    pub cause_q850: Option<i64>,
}

/// The columns that every report reads.
pub(crate) const ALWAYS: [&str; 7] = ["tenant", "call_id", "source", "direction", "disposition", "state", "started_at"];
/// What tells how long an open call may be silent.
pub(crate) const OF_OPEN: [&str; 3] = ["last_received_at", "answered_at", "endpoint"];
/// The fields of legs that reports read.
pub(crate) const OF_LEGS: [&str; 7] =
    ["direction", "started_at", "ringing_at", "answered_at", "talk_ms", "disposition", "cause_q850"];

impl<'a> Call<'a> {
    /// A call in memory.
    pub fn of(fresh: &'a FreshCall<'a>) -> Call<'a> {
        let (shown, row) = (&fresh.shown, &fresh.shown.row);
        Call {
            tenant: fresh.tenant,
            call_id: fresh.call_id,
            source: fresh.source.as_str(),
            direction: &row.direction,
            from_number: row.from_number.as_deref(),
            to_number: row.to_number.as_deref(),
            from_e164: shown.from_e164.as_deref(),
            to_e164: shown.to_e164.as_deref(),
            own_number: row.own_number.as_deref(),
            endpoint: row.endpoint.as_deref(),
            queue: row.queue.as_deref(),
            started_at: row.started_at,
            answered_at: row.answered_at,
            ended_at: row.ended_at,
            last_received_at: shown.last_received_at,
            ring_ms: row.ring_ms,
            talk_ms: row.talk_ms,
            queue_ms: row.queue_ms,
            disposition: row.disposition,
            disposition_raw: row.disposition_raw.as_deref(),
            cause_q850: row.cause_q850,
            state: row.state,
            transfers: row.transfers,
            recording_state: row.recording_state,
            legs: Legs::Fresh(&row.legs),
        }
    }

    /// Who is on the other side, as E.164 if that is known.
    pub fn other_party(&self) -> Option<&'a str> {
        if self.direction == "in" { self.from_e164.or(self.from_number) } else { self.to_e164.or(self.to_number) }
    }

    /// Whether nobody answered an inbound call.
    pub fn is_missed(&self) -> bool {
        self.direction == "in" && matches!(self.disposition, "missed" | "no_answer" | "busy" | "canceled" | "voicemail")
    }

    /// Until when it is open if nothing more is heard of it; `None` if it is not.
    pub fn open_until(&self, decoder: &dyn Decoder) -> Option<Micros> {
        if self.state != "open" {
            return None;
        }
        let unanswered = self.answered_at.is_none() && self.endpoint.is_none();
        let allowed = Source::parse(self.source)
            .map(|source| silence_allowed(decoder, self.tenant, source, unanswered, self.direction));
        Some(match (self.last_received_at, allowed) {
            (Some(heard), Some(allowed)) => heard.saturating_add(allowed),
            _ => Micros::MAX,
        })
    }

    /// While it lasts, if it has begun and ended.
    pub fn lasting(&self) -> Option<Interval> {
        let (from, until) = (self.started_at?, self.ended_at?);
        Some(Interval { from, until })
    }

    /// Calls `take` with each leg.
    pub fn each_leg(&self, mut take: impl FnMut(Leg<'a>)) {
        match self.legs {
            Legs::Unread => {}
            Legs::Fresh(rows) => rows.iter().for_each(|leg| {
                take(Leg {
                    direction: &leg.direction,
                    started_at: leg.started_at,
                    ringing_at: leg.ringing_at,
                    answered_at: leg.answered_at,
                    talk_ms: leg.talk_ms,
                    disposition: leg.disposition,
                    cause_q850: leg.cause_q850,
                });
            }),
            Legs::Stored(columns, row) => columns.range(row).for_each(|at| take(columns.leg(at))),
        }
    }
}

fn text(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn number<T: ArrowPrimitiveType>(column: Option<&PrimitiveArray<T>>, row: usize) -> Option<T::Native> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

/// The columns of stored calls that were read.
#[derive(Debug)]
pub(crate) struct CallColumns<'a> {
    texts: [Option<&'a StringArray>; 15],
    times: [Option<&'a TimestampMicrosecondArray>; 4],
    wholes: [Option<&'a Int64Array>; 5],
}

impl<'a> CallColumns<'a> {
    /// Finds them.
    pub fn of(batch: &'a RecordBatch) -> CallColumns<'a> {
        let texts = [
            "tenant",
            "call_id",
            "source",
            "direction",
            "from_number",
            "to_number",
            "from_e164",
            "to_e164",
            "own_number",
            "endpoint",
            "queue",
            "disposition",
            "disposition_raw",
            "state",
            "recording_state",
        ];
        let times = ["started_at", "answered_at", "ended_at", "last_received_at"];
        let wholes = ["ring_ms", "talk_ms", "queue_ms", "cause_q850", "transfers"];
        CallColumns {
            texts: texts.map(|name| batch.column_by_name(name)?.as_string_opt()),
            times: times.map(|name| batch.column_by_name(name)?.as_primitive_opt()),
            wholes: wholes.map(|name| batch.column_by_name(name)?.as_primitive_opt()),
        }
    }

    /// One call.
    pub fn call(&self, row: usize, legs: Option<&'a LegColumns<'a>>) -> Call<'a> {
        let texts = self.texts.map(|column| text(column, row));
        let times = self.times.map(|column| number(column, row));
        let wholes = self.wholes.map(|column| number(column, row));
        Call {
            tenant: texts[0].unwrap_or_default(),
            call_id: texts[1].unwrap_or_default(),
            source: texts[2].unwrap_or_default(),
            direction: texts[3].unwrap_or_default(),
            from_number: texts[4],
            to_number: texts[5],
            from_e164: texts[6],
            to_e164: texts[7],
            own_number: texts[8],
            endpoint: texts[9],
            queue: texts[10],
            disposition: texts[11].unwrap_or_default(),
            disposition_raw: texts[12],
            state: texts[13].unwrap_or_default(),
            recording_state: texts[14].unwrap_or_default(),
            started_at: times[0],
            answered_at: times[1],
            ended_at: times[2],
            last_received_at: times[3],
            ring_ms: wholes[0],
            talk_ms: wholes[1],
            queue_ms: wholes[2],
            cause_q850: wholes[3],
            transfers: wholes[4].unwrap_or_default(),
            legs: legs.map_or(Legs::Unread, |legs| Legs::Stored(legs, row)),
        }
    }
}

/// The fields of stored legs that were read.
#[derive(Debug)]
pub(crate) struct LegColumns<'a> {
    list: &'a ListArray,
    texts: [Option<&'a StringArray>; 2],
    times: [Option<&'a TimestampMicrosecondArray>; 3],
    wholes: [Option<&'a Int64Array>; 2],
}

impl<'a> LegColumns<'a> {
    /// Finds them, if legs were read.
    pub fn of(batch: &'a RecordBatch) -> Option<LegColumns<'a>> {
        let list = batch.column_by_name("legs")?.as_list_opt::<i32>()?;
        let fields = list.values().as_struct_opt()?;
        Some(LegColumns {
            list,
            texts: ["direction", "disposition"].map(|name| fields.column_by_name(name)?.as_string_opt()),
            times: ["started_at", "ringing_at", "answered_at"]
                .map(|name| fields.column_by_name(name)?.as_primitive_opt()),
            wholes: ["talk_ms", "cause_q850"].map(|name| fields.column_by_name(name)?.as_primitive_opt()),
        })
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.list.value_offsets();
        let at = |index: usize| usize::try_from(offsets[index]).unwrap_or_default();
        at(row)..at(row + 1)
    }

    fn leg(&self, at: usize) -> Leg<'a> {
        Leg {
            direction: text(self.texts[0], at).unwrap_or_default(),
            disposition: text(self.texts[1], at).unwrap_or_default(),
            started_at: number(self.times[0], at),
            ringing_at: number(self.times[1], at),
            answered_at: number(self.times[2], at),
            talk_ms: number(self.wholes[0], at),
            cause_q850: number(self.wholes[1], at),
        }
    }
}
