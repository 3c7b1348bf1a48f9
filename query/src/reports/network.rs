//! `network`: how well the network did its part, by seizure. ITU-T E.425 (03/2002).

use serde_json::json;

use super::answer::Answer;
use super::call::{Call, Leg};
use super::cells::{Cells, Measure};
use super::family::{Basis, OfCalls};
use super::grouped::{ByGroup, Grouped, group_columns};
use super::histogram::Histogram;
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column, most_first};

/// The columns after the group's.
pub(crate) const COLUMNS: [StaticColumn; 8] = [
    column("seizures", Type::Whole, Some("legs"), "seizures/1", "attempts to reach an endpoint outside"),
    column("answered", Type::Whole, Some("legs"), "seizures_answered/1", "those with an answer"),
    column("asr", Type::Float, Some("fraction"), "asr/1", "answered by seizures"),
    column("abr", Type::Float, Some("fraction"), "abr/1", "answered by bids"),
    column("ner", Type::Float, Some("fraction"), "ner/1", "delivered by seizures whose cause is known"),
    column("acd_ms", Type::Float, Some("ms"), "acd/1", "average talk time of answered legs"),
    column("pdd_p50_ms", Type::Whole, Some("ms"), "pdd/1", "median post-dial delay"),
    column("pdd_p95_ms", Type::Whole, Some("ms"), "pdd/1", "95th percentile of post-dial delay"),
];

/// Cause values that say that the network delivered the call.
pub(crate) const DELIVERED: [i64; 7] = [16, 17, 18, 19, 20, 21, 31];
/// Cause values of wrong numbers.
pub(crate) const ADDRESS_ERRORS: [i64; 3] = [1, 22, 28];

/// What the network did with a seizure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Delivered,
    Failed,
    WrongNumber,
    Unknown,
}

fn delivery(leg: &Leg<'_>) -> Delivery {
    if leg.answered_at.is_some() {
        return Delivery::Delivered;
    }
    match (leg.cause_q850, leg.disposition) {
        (Some(cause), _) if DELIVERED.contains(&cause) => Delivery::Delivered,
        (Some(cause), _) if ADDRESS_ERRORS.contains(&cause) => Delivery::WrongNumber,
        (Some(_), _) => Delivery::Failed,
        (
            None,
            "answered" | "busy" | "missed" | "no_answer" | "rejected" | "canceled" | "unavailable" | "dnd"
            | "voicemail",
        ) => Delivery::Delivered,
        (None, "congestion" | "no_line") => Delivery::Failed,
        (None, _) => Delivery::Unknown,
    }
}

/// What the seizures of a group come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seizures {
    seizures: u64,
    answered: u64,
    delivered: u64,
    failed: u64,
    wrong_numbers: u64,
    unknown: u64,
    talk_ms: i64,
    talks: u64,
    talks_unknown: u64,
    delay: Histogram,
    delays_unknown: u64,
}

impl Seizures {
    fn add(&mut self, leg: &Leg<'_>) {
        self.seizures += 1;
        match delivery(leg) {
            Delivery::Delivered => self.delivered += 1,
            Delivery::Failed => self.failed += 1,
            Delivery::WrongNumber => self.wrong_numbers += 1,
            Delivery::Unknown => self.unknown += 1,
        }
        if leg.answered_at.is_some() {
            self.answered += 1;
            match leg.talk_ms {
                Some(ms) => {
                    self.talk_ms = self.talk_ms.saturating_add(ms);
                    self.talks += 1;
                }
                None => self.talks_unknown += 1,
            }
        }
        let delay = leg.started_at.zip(leg.ringing_at).map(|(started, ringing)| (ringing - started) / 1000);
        match delay.filter(|ms| *ms >= 0) {
            Some(ms) => self.delay.add(ms),
            None => self.delays_unknown += 1,
        }
    }

    fn cells(&self, address_errors_fail: bool) -> [Cell; 8] {
        let known = self.delivered + self.failed + if address_errors_fail { self.wrong_numbers } else { 0 };
        let asr = Cell::ratio(self.answered, self.seizures);
        [
            Cell::count(self.seizures),
            Cell::count(self.answered),
            asr.clone(),
            asr,
            Cell::ratio(self.delivered, known),
            Cell::float((self.talks > 0).then(|| self.talk_ms as f64 / self.talks as f64)),
            Cell::whole(self.delay.percentile(50)),
            Cell::whole(self.delay.percentile(95)),
        ]
    }
}

impl Measure for Seizures {
    fn merge(&mut self, other: &Seizures) {
        self.seizures += other.seizures;
        self.answered += other.answered;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.wrong_numbers += other.wrong_numbers;
        self.unknown += other.unknown;
        self.talk_ms = self.talk_ms.saturating_add(other.talk_ms);
        self.talks += other.talks;
        self.talks_unknown += other.talks_unknown;
        self.delay.merge(&other.delay);
        self.delays_unknown += other.delays_unknown;
    }

    fn more_bytes(&self) -> usize {
        self.delay.bytes()
    }
}

/// One question.
pub(crate) struct Network {
    attribution: Attribution,
}

impl Network {
    /// The question of this request.
    pub fn of(request: &Request) -> ByGroup<Network> {
        ByGroup { inner: Network { attribution: request.attribution() }, group_by: request.group_by.clone() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&request.group_by).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    /// The answer.
    pub fn answer(request: &Request, total: OfCalls<Cells<Seizures>>) -> Answer {
        let fail = request.options.choice("address_errors") == "failure";
        let mut params = request.params();
        params.insert("abr_basis".into(), "seizures".into());
        params.insert("delivered_causes".into(), json!(DELIVERED));
        params.insert("address_error_causes".into(), json!(ADDRESS_ERRORS));
        let mut sum = Seizures::default();
        let mut rows = total.inner.into_rows();
        rows.iter().for_each(|(_, measure)| sum.merge(measure));
        if request.group_by.is_empty() && rows.is_empty() {
            rows.push((Vec::new(), Seizures::default()));
        }
        rows.sort_unstable_by(|left, right| most_first((left.1.seizures, &left.0), (right.1.seizures, &right.0)));
        let rows = rows.iter().map(|(key, measure)| {
            let group = key.iter().map(Cell::from);
            group.chain(measure.cells(fail)).collect()
        });
        let table = Table { rows: rows.collect(), columns: Network::columns(request) };
        let mut answer = Answer::new(table, params, total.open);
        answer.unknown("ner", sum.unknown + if fail { 0 } else { sum.wrong_numbers });
        answer.unknown("acd_ms", sum.talks_unknown);
        answer.unknown("pdd_p50_ms", sum.delays_unknown);
        answer.unknown("pdd_p95_ms", sum.delays_unknown);
        answer
    }
}

impl Grouped for Network {
    type Measure = Seizures;

    fn columns(&self) -> Vec<&'static str> {
        vec!["legs"]
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn measure(&self, measure: &mut Seizures, call: &Call<'_>) {
        call.each_leg(|leg| {
            if leg.direction == "out" {
                measure.add(&leg);
            }
        });
    }
}
