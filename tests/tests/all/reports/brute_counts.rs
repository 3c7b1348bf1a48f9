//! The reports that count calls, worked out naively: the common columns of everything by which calls are told apart.

use std::collections::BTreeSet;

use chrono::{Datelike, Timelike};
use serde_json::{Value, json};

use super::brute::{Expected, Question, count, dimension, is_answered, is_missed, is_open, percentile, ratio};
use super::rows::Call;

const COMMON: [&str; 8] = ["calls", "answered", "missed", "answer_rate", "talk_ms", "acd_ms", "asr", "ring_p50_ms"];

/// The common columns of these calls.
fn common(question: &Question<'_>, calls: &[&Call]) -> Vec<Value> {
    let answered: Vec<&&Call> = calls.iter().filter(|call| is_answered(call)).collect();
    let missed: Vec<&&Call> = calls.iter().filter(|call| is_missed(call)).collect();
    let legs = question.legs_out(calls);
    let legs_answered = legs.iter().filter(|leg| leg.answered_at.is_some()).count();
    let rings: Vec<i64> = calls.iter().filter(|call| !is_open(call)).filter_map(|call| call.ring_ms).collect();
    let talks: Vec<i64> = answered.iter().filter_map(|call| call.talk_ms).collect();
    vec![
        json!(calls.len()),
        json!(answered.len()),
        json!(missed.len()),
        ratio(count(&answered), count(calls)),
        total_talk(answered.len(), &talks),
        ratio(talks.iter().sum(), count(&talks)),
        ratio(i64::try_from(legs_answered).unwrap(), count(&legs)),
        percentile(&rings, 50),
    ]
}

/// Of answered calls none of which tells how long it was talked, the sum is not known.
pub fn total_talk(answered: usize, talks: &[i64]) -> Value {
    if talks.is_empty() && answered > 0 { Value::Null } else { json!(talks.iter().sum::<i64>()) }
}

/// What is left out of the common columns.
fn common_unknown(calls: &[&Call]) -> Vec<(&'static str, i64)> {
    let talks = calls.iter().filter(|call| is_answered(call) && call.talk_ms.is_none()).count();
    let rings = calls.iter().filter(|call| !is_open(call) && call.ring_ms.is_none()).count();
    let whole = |number: usize| i64::try_from(number).unwrap();
    vec![("talk_ms", whole(talks)), ("acd_ms", whole(talks)), ("ring_p50_ms", whole(rings))]
}

fn open(calls: &[&Call]) -> Option<i64> {
    i64::try_from(calls.iter().filter(|call| is_open(call)).count()).ok()
}

/// A report of the common columns by these dimensions.
fn by(question: &Question<'_>, calls: &[&Call], columns: &[&str], groups: Vec<(Vec<Value>, Vec<&Call>)>) -> Expected {
    let keys = question.group_by.len() + columns.len();
    let rows = groups.into_iter().map(|(key, members)| [key, common(question, &members)].concat());
    Expected {
        columns: [question.columns(columns), COMMON.map(str::to_owned).to_vec()].concat(),
        keys,
        rows: rows.collect(),
        open: open(calls),
        unknown: common_unknown(calls),
    }
}

fn by_dimension(question: &Question<'_>, name: &str) -> Expected {
    let calls = question.calls();
    by(question, &calls, &[name], question.groups(&calls, &[name]))
}

pub fn endpoints(question: &Question<'_>) -> Expected {
    by_dimension(question, "endpoint")
}

pub fn queues(question: &Question<'_>) -> Expected {
    by_dimension(question, "queue")
}

pub fn own_numbers(question: &Question<'_>) -> Expected {
    by_dimension(question, "own_number")
}

pub fn sources(question: &Question<'_>) -> Expected {
    by_dimension(question, "source")
}

pub fn directions(question: &Question<'_>) -> Expected {
    by_dimension(question, "direction")
}

pub fn dispositions(question: &Question<'_>) -> Expected {
    by_dimension(question, "disposition")
}

/// One row, with the same over the period before: as many local days, or as long a time.
pub fn summary(question: &Question<'_>) -> Expected {
    let (zone, calls) = (question.zone, question.calls());
    let before = if zone.is_midnight(question.from) && zone.is_midnight(question.until) {
        let (from, until) = (zone.date(question.from), zone.date(question.until));
        zone.midnight(from - (until - from))
    } else {
        question.from - (question.until - question.from)
    };
    let previous = question.groups(&question.calls_between(before, question.from), &[]);
    let rows = question.groups(&calls, &[]).into_iter().map(|(key, members)| {
        let then = previous.iter().find(|(other, _)| *other == key);
        let then: &[&Call] = then.map_or(&[][..], |(_, members)| members.as_slice());
        [key, common(question, &members), common(question, then)].concat()
    });
    let previous_columns = COMMON.map(|name| format!("previous_{name}")).to_vec();
    Expected {
        columns: [question.columns(&COMMON), previous_columns].concat(),
        keys: question.group_by.len(),
        rows: rows.collect(),
        open: open(&calls),
        unknown: common_unknown(&calls),
    }
}

/// One row a bucket; of groups only those that are not empty.
pub fn volume(question: &Question<'_>) -> Expected {
    let calls = question.calls();
    let mut groups = Vec::new();
    for (start, end) in question.zone.buckets(question.option("bucket", "day"), question.from, question.until) {
        for (mut key, members) in question.groups(&question.calls_between(start, end), &[]) {
            key.push(json!(question.zone.text(start)));
            groups.push((key, members));
        }
    }
    by(question, &calls, &["bucket"], groups)
}

/// All hours of a week, each with how often it began in the interval and how long queue visits waited in it.
pub fn heatmap(question: &Question<'_>) -> Expected {
    let (zone, calls, visits) = (question.zone, question.calls(), question.visits());
    let hour_of =
        |at: i64| (i64::from(zone.local(at).weekday().number_from_monday()), i64::from(zone.local(at).hour()));
    let hours = zone.buckets("hour", question.from, question.until).into_iter().map(|(start, _)| hour_of(start));
    let hours: Vec<(i64, i64)> = hours.collect();
    let mut rows = Vec::new();
    for (weekday, hour) in (1..=7_i64).flat_map(|weekday| (0..24_i64).map(move |hour| (weekday, hour))) {
        let here = |at: Option<i64>| at.is_some_and(|at| hour_of(at) == (weekday, hour));
        let members: Vec<&Call> = calls.iter().copied().filter(|call| here(question.time_of(call))).collect();
        let times = hours.iter().filter(|other| **other == (weekday, hour)).count();
        let times = i64::try_from(times).unwrap();
        for (mut key, members) in question.groups(&members, &[]) {
            let theirs = |call_id: &str| members.iter().any(|call| call.call_id == call_id);
            let waits = visits.iter().filter(|visit| here(visit.entered_at));
            let waits = waits.filter(|visit| question.group_by.is_empty() || theirs(&visit.call_id));
            let waits: Vec<i64> = waits.filter_map(|visit| visit.wait_ms).collect();
            key.extend([json!(weekday), json!(hour)]);
            let mut row = [key, common(question, &members)].concat();
            row.extend([json!(times), ratio(count(&members), times), ratio(waits.iter().sum(), count(&waits))]);
            rows.push(row);
        }
    }
    let columns = question.columns(&["weekday", "hour"]);
    let further = ["occurrences", "calls_per_occurrence", "wait_avg_ms"].map(str::to_owned).to_vec();
    Expected {
        columns: [columns, COMMON.map(str::to_owned).to_vec(), further].concat(),
        keys: question.group_by.len() + 2,
        rows,
        open: open(&calls),
        unknown: common_unknown(&calls),
    }
}

/// By the first digits of the other party's number. What is answered about numbers that are not known is not said.
pub fn prefixes(question: &Question<'_>) -> Expected {
    let calls = question.calls();
    let digits = usize::try_from(question.number("digits", 4)).unwrap();
    let prefix_of = |call: &Call| {
        let number = if call.direction == "in" { &call.from_e164 } else { &call.to_e164 };
        number.as_deref().map(|number| number.trim_start_matches('+').chars().take(digits).collect::<String>())
    };
    let prefixes: BTreeSet<String> = calls.iter().filter_map(|call| prefix_of(call)).collect();
    let groups = prefixes.into_iter().map(|prefix| {
        let members: Vec<&Call> =
            calls.iter().copied().filter(|call| prefix_of(call).as_deref() == Some(prefix.as_str())).collect();
        (vec![json!(prefix)], members)
    });
    by(question, &calls, &["prefix"], groups.collect())
}

/// Calls that ended and were answered neither here nor elsewhere.
pub fn unanswered(question: &Question<'_>) -> Expected {
    let answered = ["answered", "answered_elsewhere"];
    let mut calls = question.calls();
    calls.retain(|call| call.ended_at.is_some() && !answered.contains(&call.disposition.as_str()));
    let groups = question.groups(&calls, &["direction", "disposition"]);
    let expected = by(question, &calls, &["direction", "disposition"], groups);
    Expected { open: None, ..expected }
}

pub fn transfers(question: &Question<'_>) -> Expected {
    let calls = question.calls();
    let numbers: BTreeSet<i64> = calls.iter().map(|call| call.transfers).collect();
    let groups = numbers.into_iter().map(|number| {
        let members: Vec<&Call> = calls.iter().copied().filter(|call| call.transfers == number).collect();
        (vec![json!(number)], members)
    });
    by(question, &calls, &["transfers"], groups.collect())
}

/// Numbers of inbound calls, or of outbound ones, with how often.
pub fn top_callers(question: &Question<'_>) -> Expected {
    by_number(question, "in", 1)
}

pub fn top_destinations(question: &Question<'_>) -> Expected {
    by_number(question, "out", 1)
}

pub fn repeat_callers(question: &Question<'_>) -> Expected {
    by_number(question, "in", question.number("min_calls", 2))
}

fn by_number(question: &Question<'_>, direction: &str, least: i64) -> Expected {
    let mut calls = question.calls();
    calls.retain(|call| call.direction == direction && dimension(call, "number").is_some());
    let numbers: BTreeSet<&str> = calls.iter().filter_map(|call| dimension(call, "number")).collect();
    let mut rows = Vec::new();
    for number in numbers {
        let theirs: Vec<&&Call> = calls.iter().filter(|call| dimension(call, "number") == Some(number)).collect();
        let answered: Vec<&&&Call> = theirs.iter().filter(|call| is_answered(call)).collect();
        let talks: Vec<i64> = answered.iter().filter_map(|call| call.talk_ms).collect();
        if count(&theirs) >= least {
            rows.push(vec![
                json!(number),
                json!(theirs.len()),
                json!(answered.len()),
                total_talk(answered.len(), &talks),
            ]);
        }
    }
    let columns = question.columns(&["number", "calls", "answered", "talk_ms"]);
    Expected { columns, keys: 1, rows, open: None, unknown: Vec::new() }
}
