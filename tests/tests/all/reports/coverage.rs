//! What the data sets hold: a comparison proves nothing about situations that never occur in them.

use std::collections::BTreeMap;

use super::brute::{Question, is_missed};
use super::brute_service::missed;
use super::rows::Rows;
use super::zone::HOUR;

const DAY: i64 = 24 * HOUR;

/// How often each situation occurred.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, usize>);

/// All that must occur.
const SITUATIONS: [&str; 29] = [
    "answered",
    "answered, and nobody says how long",
    "missed",
    "busy",
    "canceled",
    "voicemail",
    "no answer",
    "in",
    "out",
    "internal",
    "open",
    "timed out",
    "ring not known",
    "over a day",
    "across midnight",
    "at the same instant as another ends",
    "caller without E.164",
    "transfer",
    "recording expected",
    "visit answered",
    "visit abandoned soon",
    "visit abandoned late",
    "visit overflow",
    "visit timeout",
    "visit voicemail",
    "visit without outcome",
    "leg out with a cause",
    "leg out without a cause",
    "leg out that rang",
];

const STATES: [&str; 5] = ["called_back", "caller_came_back", "attempted", "still_open", "never"];

impl Coverage {
    /// Looks at the rows of one set.
    pub fn of(question: &Question<'_>) -> Coverage {
        let mut coverage = Coverage::default();
        coverage.calls(question.rows);
        coverage.visits_and_legs(question.rows);
        for number in missed(question) {
            coverage.note(number.state, true);
        }
        coverage
    }

    pub fn add(&mut self, other: Coverage) {
        for (situation, number) in other.0 {
            *self.0.entry(situation).or_default() += number;
        }
    }

    /// Everything must have occurred.
    #[track_caller]
    pub fn assert_whole(&self) {
        let occurs = |situation: &&str| self.0.get(*situation).is_some_and(|number| *number > 0);
        let never: Vec<&str> = SITUATIONS.into_iter().chain(STATES).filter(|situation| !occurs(situation)).collect();
        assert!(never.is_empty(), "never: {never:?}\n{:?}", self.0);
    }

    fn note(&mut self, situation: &'static str, occurs: bool) {
        *self.0.entry(situation).or_default() += usize::from(occurs);
    }

    fn calls(&mut self, rows: &Rows) {
        let ends: Vec<i64> = rows.calls.iter().filter_map(|call| call.ended_at).collect();
        for call in &rows.calls {
            let answered = call.disposition == "answered";
            self.note("answered", answered);
            self.note("answered, and nobody says how long", answered && call.talk_ms.is_none());
            self.note("missed", is_missed(call));
            self.note("busy", call.disposition == "busy");
            self.note("canceled", call.disposition == "canceled");
            self.note("voicemail", call.disposition == "voicemail");
            self.note("no answer", call.disposition == "no_answer");
            self.note("in", call.direction == "in");
            self.note("out", call.direction == "out");
            self.note("internal", call.direction == "internal");
            self.note("open", call.state == "open");
            self.note("timed out", call.state == "timed_out");
            self.note("ring not known", call.state != "open" && call.ring_ms.is_none());
            let span = call.started_at.zip(call.ended_at);
            self.note("over a day", span.is_some_and(|(start, end)| end - start > DAY));
            let midnight = |(start, end): (i64, i64)| start.div_euclid(DAY) != end.div_euclid(DAY);
            self.note("across midnight", span.is_some_and(midnight));
            self.note("at the same instant as another ends", call.started_at.is_some_and(|at| ends.contains(&at)));
            self.note("caller without E.164", call.direction == "in" && call.from_e164.is_none());
            self.note("transfer", call.transfers > 0);
            self.note("recording expected", call.recording_state == "expected");
        }
    }

    fn visits_and_legs(&mut self, rows: &Rows) {
        for visit in &rows.visits {
            let outcome = visit.outcome.as_deref();
            let waited_long = visit.wait_ms.is_some_and(|wait| wait >= 5000);
            self.note("visit answered", outcome == Some("answered"));
            self.note("visit abandoned soon", outcome == Some("abandoned") && !waited_long);
            self.note("visit abandoned late", outcome == Some("abandoned") && waited_long);
            self.note("visit overflow", outcome == Some("overflow"));
            self.note("visit timeout", outcome == Some("timeout"));
            self.note("visit voicemail", outcome == Some("voicemail"));
            self.note("visit without outcome", visit.left_at.is_some() && outcome.is_none());
        }
        for leg in rows.legs.iter().filter(|leg| leg.direction == "out") {
            self.note("leg out with a cause", leg.cause_q850.is_some());
            self.note("leg out without a cause", leg.cause_q850.is_none());
            self.note("leg out that rang", leg.ringing_at.is_some());
        }
    }
}
