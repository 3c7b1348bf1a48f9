//! The measures that most reports share, and their columns.

use super::call::Call;
use super::cells::Measure;
use super::histogram::Histogram;
use super::table::{Cell, StaticColumn, Type, column};
use super::visit::Visit;

/// What the calls of a group come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub calls: u64,
    pub answered: u64,
    missed: u64,
    pub transferred: u64,
    talk_ms: i64,
    talks: u64,
    talks_unknown: u64,
    seizures: u64,
    answered_seizures: u64,
    ring: Histogram,
    rings_unknown: u64,
    wait_ms: i64,
    waits: u64,
}

/// The columns.
pub(crate) const COLUMNS: [StaticColumn; 8] = [
    column("calls", Type::Whole, Some("calls"), "calls/1", "calls, open ones too"),
    column("answered", Type::Whole, Some("calls"), "answered/1", "answered calls"),
    column("missed", Type::Whole, Some("calls"), "missed/1", "inbound calls that nobody answered"),
    column("answer_rate", Type::Float, Some("fraction"), "answer_rate/1", "answered by calls"),
    column("talk_ms", Type::Whole, Some("ms"), "talk/1", "talk time of answered calls"),
    column("acd_ms", Type::Float, Some("ms"), "acd/1", "average talk time of answered calls"),
    column("asr", Type::Float, Some("fraction"), "asr/1", "answered seizures by seizures"),
    column("ring_p50_ms", Type::Whole, Some("ms"), "ring_p50/1", "median ring time"),
];

/// What they are made of.
pub(crate) const READS: [&str; 4] = ["talk_ms", "ring_ms", "legs", "transfers"];

impl Common {
    /// Adds a call.
    pub fn add(&mut self, call: &Call<'_>, open: bool) {
        self.calls += 1;
        self.missed += u64::from(call.is_missed());
        self.transferred += u64::from(call.transfers > 0);
        if call.disposition == "answered" {
            self.answered += 1;
            match call.talk_ms {
                Some(ms) => {
                    self.talk_ms = self.talk_ms.saturating_add(ms);
                    self.talks += 1;
                }
                None => self.talks_unknown += 1,
            }
        }
        call.each_leg(|leg| {
            if leg.direction == "out" {
                self.seizures += 1;
                self.answered_seizures += u64::from(leg.answered_at.is_some());
            }
        });
        if !open {
            match call.ring_ms {
                Some(ms) => self.ring.add(ms),
                None => self.rings_unknown += 1,
            }
        }
    }

    /// Adds the wait of a queue visit that ended.
    pub fn add_wait(&mut self, visit: &Visit) {
        if let Some(ms) = visit.wait_ms {
            self.wait_ms = self.wait_ms.saturating_add(ms);
            self.waits += 1;
        }
    }

    /// Talk time as far as it is known.
    pub fn talk(&self) -> Option<i64> {
        (self.talks > 0 || self.talks_unknown == 0).then_some(self.talk_ms)
    }

    /// The values of [`COLUMNS`].
    pub fn cells(&self) -> [Cell; 8] {
        [
            Cell::count(self.calls),
            Cell::count(self.answered),
            Cell::count(self.missed),
            Cell::ratio(self.answered, self.calls),
            Cell::whole(self.talk()),
            Cell::float((self.talks > 0).then(|| self.talk_ms as f64 / self.talks as f64)),
            Cell::ratio(self.answered_seizures, self.seizures),
            Cell::whole(self.ring.percentile(50)),
        ]
    }

    /// The average wait in milliseconds.
    pub fn average_wait(&self) -> Option<f64> {
        (self.waits > 0).then(|| self.wait_ms as f64 / self.waits as f64)
    }

    /// Rows that a column left out because it does not know something.
    pub fn unknown(&self, column: &str) -> u64 {
        match column {
            "talk_ms" | "acd_ms" => self.talks_unknown,
            "ring_p50_ms" => self.rings_unknown,
            _ => 0,
        }
    }
}

impl Measure for Common {
    fn merge(&mut self, other: &Common) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.missed += other.missed;
        self.transferred += other.transferred;
        self.talk_ms = self.talk_ms.saturating_add(other.talk_ms);
        self.talks += other.talks;
        self.talks_unknown += other.talks_unknown;
        self.seizures += other.seizures;
        self.answered_seizures += other.answered_seizures;
        self.ring.merge(&other.ring);
        self.rings_unknown += other.rings_unknown;
        self.wait_ms = self.wait_ms.saturating_add(other.wait_ms);
        self.waits += other.waits;
    }

    fn more_bytes(&self) -> usize {
        self.ring.bytes()
    }
}
