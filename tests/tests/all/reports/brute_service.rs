//! The reports about people who wait and people who were missed, worked out naively.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::brute::{Expected, Question, count, is_answered, is_missed, is_open, percentile, ratio};
use super::rows::{Call, Visit};
use super::zone::{HOUR, utc_text};

const SERVICE_LEVEL: [&str; 9] = [
    "queue",
    "offered",
    "answered",
    "answered_in_x",
    "abandoned",
    "short_abandoned",
    "service_level",
    "abandonment_rate",
    "asa_ms",
];

/// One row a queue.
pub fn service_level(question: &Question<'_>) -> Expected {
    let visits = question.visits();
    let queues: BTreeSet<&str> = visits.iter().map(|visit| visit.queue.as_str()).collect();
    let rows = queues.into_iter().map(|queue| {
        let theirs: Vec<&Visit> = visits.iter().copied().filter(|visit| visit.queue == queue).collect();
        service_level_of(question, queue, &theirs)
    });
    let columns = question.columns(&SERVICE_LEVEL);
    Expected { columns, keys: 1, rows: rows.collect(), open: None, unknown: Vec::new() }
}

fn with_outcome<'v>(visits: &[&'v Visit], outcomes: &[&str]) -> Vec<&'v Visit> {
    let has = |visit: &Visit| visit.outcome.as_deref().is_some_and(|outcome| outcomes.contains(&outcome));
    visits.iter().copied().filter(|visit| has(visit)).collect()
}

fn service_level_of(question: &Question<'_>, queue: &str, visits: &[&Visit]) -> Vec<Value> {
    let (within, short) = (question.number("x_s", 20) * 1000, question.number("short_abandon_s", 5) * 1000);
    let inclusive = question.option("inclusive", "true") == "true";
    let mode = question.option("abandon_mode", "exclude_short");
    let in_time = |visit: &Visit| visit.wait_ms.is_some_and(|wait| wait < within || inclusive && wait == within);
    let answered = with_outcome(visits, &["answered"]);
    let answered_in_x = count(&answered.iter().filter(|visit| in_time(visit)).collect::<Vec<_>>());
    let abandoned = with_outcome(visits, &["abandoned"]);
    let is_short = |visit: &Visit| visit.wait_ms.is_some_and(|wait| wait < short);
    let short_abandoned = count(&abandoned.iter().filter(|visit| is_short(visit)).collect::<Vec<_>>());
    let abandoned_in_x = count(&abandoned.iter().filter(|visit| in_time(visit)).collect::<Vec<_>>());
    let flown_out = count(&with_outcome(visits, &["overflow", "timeout", "voicemail"]));
    let (offered, abandoned) = (count(visits), count(&abandoned));
    let (successes, failures) = match mode {
        "exclude_short" => (answered_in_x, abandoned - short_abandoned),
        "exclude_all" => (answered_in_x, 0),
        "count_as_failure" => (answered_in_x, abandoned),
        "count_as_success_within_x" => (answered_in_x + abandoned_in_x, abandoned),
        other => panic!("no mode `{other}`"),
    };
    let flown_out = if question.option("flowouts", "false") == "true" { flown_out } else { 0 };
    let waits: Vec<i64> = answered.iter().filter_map(|visit| visit.wait_ms).collect();
    vec![
        json!(queue),
        json!(offered),
        json!(answered.len()),
        json!(answered_in_x),
        json!(abandoned),
        json!(short_abandoned),
        ratio(successes, count(&answered) + failures + flown_out),
        ratio(abandoned - short_abandoned, offered - short_abandoned),
        ratio(waits.iter().sum(), count(&waits)),
    ]
}

/// The lengths that a distribution is about.
pub fn lengths(question: &Question<'_>) -> Vec<i64> {
    match question.option("of", "wait") {
        "wait" => question.visits().iter().filter_map(|visit| visit.wait_ms).collect(),
        "ring" => question.calls().iter().filter(|call| !is_open(call)).filter_map(|call| call.ring_ms).collect(),
        "talk" => question.calls().iter().filter(|call| is_answered(call)).filter_map(|call| call.talk_ms).collect(),
        other => panic!("no distribution of `{other}`"),
    }
}

/// One row for each second, or as many as are asked for, that has calls.
pub fn distribution(question: &Question<'_>) -> Expected {
    let (lengths, width) = (lengths(question), question.number("width_s", 1) * 1000);
    let starts: BTreeSet<i64> = lengths.iter().map(|length| length.div_euclid(width) * width).collect();
    let rows = starts.into_iter().map(|start| {
        let inside: Vec<&i64> = lengths.iter().filter(|length| (start..start + width).contains(*length)).collect();
        vec![json!(start), json!(start + width), json!(inside.len())]
    });
    let columns = question.columns(&["from_ms", "until_ms", "calls"]);
    Expected { columns, keys: 2, rows: rows.collect(), open: None, unknown: Vec::new() }
}

/// What a distribution says beside its rows.
pub fn distribution_params(question: &Question<'_>) -> Map<String, Value> {
    let lengths = lengths(question);
    let mut params = Map::new();
    params.insert("n".to_owned(), json!(lengths.len()));
    for percent in [50, 90, 95, 99] {
        params.insert(format!("p{percent}"), percentile(&lengths, percent));
    }
    params.insert("avg_ms".to_owned(), ratio(lengths.iter().sum(), count(&lengths)));
    params
}

/// A number that was missed, and what became of it.
pub struct Missed {
    pub number: String,
    pub last: i64,
    pub tries: usize,
    pub state: &'static str,
    pub first_attempt: Option<i64>,
}

/// Everyone who was missed.
pub fn missed(question: &Question<'_>) -> Vec<Missed> {
    let within = question.number("within_h", 24) * HOUR;
    let mut calls = question.calls();
    calls.retain(|call| is_missed(call) && call.from_e164.is_some());
    let numbers: BTreeSet<&str> = calls.iter().filter_map(|call| call.from_e164.as_deref()).collect();
    let one = |number: &str| {
        let theirs: Vec<&&Call> = calls.iter().filter(|call| call.from_e164.as_deref() == Some(number)).collect();
        let last = theirs.iter().filter_map(|call| call.ended_at.or(call.started_at)).max().unwrap();
        // What came after is looked for among all calls: filters choose whom was missed.
        let after = |call: &&Call| call.started_at.is_some_and(|at| last < at && at < last + within);
        let later: Vec<&Call> = question.rows.calls.iter().filter(after).collect();
        let is_out = |call: &&&Call| call.direction == "out" && call.to_e164.as_deref() == Some(number);
        let is_back = |call: &&Call| call.direction == "in" && call.from_e164.as_deref() == Some(number);
        let attempts: Vec<&&Call> = later.iter().filter(is_out).collect();
        let state = if attempts.iter().any(|call| call.answered_at.is_some()) {
            "called_back"
        } else if later.iter().any(|call| is_back(call) && call.answered_at.is_some()) {
            "caller_came_back"
        } else if !attempts.is_empty() {
            "attempted"
        } else if last + within > question.now {
            "still_open"
        } else {
            "never"
        };
        let first_attempt = attempts.iter().filter_map(|call| call.started_at).min();
        Missed { number: number.to_owned(), last, tries: theirs.len(), state, first_attempt }
    };
    numbers.into_iter().map(one).collect()
}

pub fn callbacks(question: &Question<'_>) -> Expected {
    let rows = missed(question).into_iter().map(|missed| {
        vec![
            json!(missed.number),
            json!(utc_text(missed.last)),
            json!(missed.tries),
            json!(missed.state),
            json!(missed.first_attempt.map(utc_text)),
            json!(missed.first_attempt.map(|at| (at - missed.last).div_euclid(1000))),
        ]
    });
    let names = ["number", "last_missed_at", "tries", "state", "first_attempt_at", "time_to_callback_ms"];
    Expected { columns: question.columns(&names), keys: 1, rows: rows.collect(), open: None, unknown: Vec::new() }
}
