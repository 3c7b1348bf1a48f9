//! The reports about the network, single calls, causes, recordings and the messages themselves, worked out naively.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::brute::{Expected, Question, count, is_answered, percentile, ratio};
use super::rows::{Call, Event, Leg};
use super::zone::{HOUR, utc_text};

/// Whether the network did its part on a leg; `None` for what is not known or does not count.
fn delivered(leg: &Leg, address_errors: &str) -> Option<bool> {
    if leg.answered_at.is_some() || leg.disposition == "answered" {
        return Some(true);
    }
    match (leg.cause_q850, leg.disposition.as_str()) {
        (Some(16..=21 | 31), _) => Some(true),
        (Some(1 | 22 | 28), _) if address_errors == "exclude" => None,
        (Some(_), _) | (None, "congestion" | "no_line") => Some(false),
        (None, "busy" | "missed" | "no_answer" | "rejected" | "canceled" | "unavailable" | "dnd" | "voicemail") => {
            Some(true)
        }
        (None, _) => None,
    }
}

fn network_of(question: &Question<'_>, calls: &[&Call]) -> Vec<Value> {
    let legs = question.legs_out(calls);
    let answered: Vec<&&Leg> = legs.iter().filter(|leg| leg.answered_at.is_some()).collect();
    let errors = question.option("address_errors", "exclude");
    let known: Vec<bool> = legs.iter().filter_map(|leg| delivered(leg, errors)).collect();
    let good: Vec<&bool> = known.iter().filter(|delivered| **delivered).collect();
    let talks: Vec<i64> = answered.iter().filter_map(|leg| leg.talk_ms).collect();
    let delays = legs.iter().filter_map(|leg| Some((leg.ringing_at? - leg.started_at?).div_euclid(1000)));
    let delays: Vec<i64> = delays.filter(|delay| *delay >= 0).collect();
    let asr = ratio(count(&answered), count(&legs));
    vec![
        json!(legs.len()),
        json!(answered.len()),
        asr.clone(),
        asr,
        ratio(count(&good), count(&known)),
        ratio(talks.iter().sum(), count(&talks)),
        percentile(&delays, 50),
        percentile(&delays, 95),
    ]
}

/// One row, or one a group.
pub fn network(question: &Question<'_>) -> Expected {
    let groups = question.groups(&question.calls(), &[]).into_iter();
    let rows = groups.map(|(key, members)| [key, network_of(question, &members)].concat());
    let names = ["seizures", "answered", "asr", "abr", "ner", "acd_ms", "pdd_p50_ms", "pdd_p95_ms"];
    Expected {
        columns: question.columns(&names),
        keys: question.group_by.len(),
        rows: rows.collect(),
        open: None,
        unknown: Vec::new(),
    }
}

/// All answered calls of which it is known how long they were talked, by that; which of equally long ones come first,
/// and how many come at all, is for the comparison.
pub fn by_length(question: &Question<'_>) -> Expected {
    let mut calls = question.calls();
    calls.retain(|call| is_answered(call) && call.talk_ms.is_some());
    let row = |call: &Call| {
        vec![
            json!(call.call_id),
            json!(call.source),
            json!(call.direction),
            json!(call.from_number),
            json!(call.to_number),
            json!(call.endpoint),
            json!(call.queue),
            json!(call.started_at.map(utc_text)),
            json!(call.talk_ms),
        ]
    };
    let names =
        ["call_id", "source", "direction", "from_number", "to_number", "endpoint", "queue", "started_at", "talk_ms"];
    let rows = calls.iter().map(|call| row(call)).collect();
    Expected { columns: question.columns(&names), keys: 1, rows, open: None, unknown: Vec::new() }
}

/// How calls ended, in every combination that occurs.
pub fn causes(question: &Question<'_>) -> Expected {
    let calls = question.calls();
    let key = |call: &Call| (call.disposition.clone(), call.disposition_raw.clone(), call.cause_q850);
    let keys: BTreeSet<_> = calls.iter().map(|call| key(call)).collect();
    let rows = keys.into_iter().map(|wanted| {
        let times = calls.iter().filter(|call| key(call) == wanted).count();
        vec![json!(wanted.0), json!(wanted.1), json!(wanted.2), json!(times)]
    });
    let columns = question.columns(&["disposition", "disposition_raw", "cause_q850", "calls"]);
    Expected { columns, keys: 3, rows: rows.collect(), open: None, unknown: Vec::new() }
}

/// One row, or one a group.
pub fn recordings(question: &Question<'_>) -> Expected {
    let groups = question.groups(&question.calls(), &[]).into_iter();
    let rows = groups.map(|(key, members)| {
        let in_state = |state: &str| members.iter().filter(|call| call.recording_state == state).count();
        let answered: Vec<&Call> = members.iter().copied().filter(|call| is_answered(call)).collect();
        let covered: Vec<&&Call> = answered.iter().filter(|call| call.recording_state == "available").collect();
        let coverage = ratio(count(&covered), count(&answered));
        let states = ["available", "expected", "failed"].map(|state| json!(in_state(state)));
        [key, vec![json!(members.len()), json!(answered.len())], states.to_vec(), vec![coverage]].concat()
    });
    let names = ["calls", "answered", "recorded", "expected", "failed", "coverage"];
    Expected {
        columns: question.columns(&names),
        keys: question.group_by.len(),
        rows: rows.collect(),
        open: None,
        unknown: Vec::new(),
    }
}

/// One row for each source of messages, whatever became of them.
pub fn ingest_health(question: &Question<'_>) -> Expected {
    let inside = |event: &&Event| (question.from..question.until).contains(&event.received_at);
    let events: Vec<&Event> = question.rows.events.iter().filter(inside).collect();
    let sources: BTreeSet<&str> = events.iter().map(|event| event.source.as_str()).collect();
    let rows = sources.into_iter().map(|source| {
        let theirs: Vec<&Event> = events.iter().copied().filter(|event| event.source == source).collect();
        let first = theirs.iter().map(|event| event.received_at).min().unwrap();
        let last = theirs.iter().map(|event| event.received_at).max().unwrap();
        let delays = theirs.iter().filter_map(|event| Some((event.received_at - event.occurred_at?).div_euclid(1000)));
        let delays: Vec<i64> = delays.collect();
        let busy: BTreeSet<i64> = theirs.iter().map(|event| event.received_at.div_euclid(HOUR)).collect();
        let hours = first.div_euclid(HOUR)..=last.div_euclid(HOUR);
        vec![
            json!(source),
            json!(theirs.len()),
            json!(theirs.iter().filter(|event| event.duplicate).count()),
            json!(theirs.iter().filter(|event| event.quarantined).count()),
            json!(utc_text(first)),
            json!(utc_text(last)),
            percentile(&delays, 50),
            percentile(&delays, 95),
            json!(hours.filter(|hour| !busy.contains(hour)).count()),
        ]
    });
    let columns = [
        "source",
        "messages",
        "duplicates",
        "quarantined",
        "first_received_at",
        "last_received_at",
        "delay_p50_ms",
        "delay_p95_ms",
        "silent_hours",
    ];
    Expected { columns: question.columns(&columns), keys: 1, rows: rows.collect(), open: None, unknown: Vec::new() }
}
