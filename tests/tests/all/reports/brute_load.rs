//! The reports about how many calls go on at a time, worked out naively: every start is looked at, every call clipped.

use chrono::Timelike;
use serde_json::{Map, Value, json};
use trunklog_tests::reports::Report;

use super::brute::{Expected, Question, count};
use super::rows::Call;
use super::zone::{HOUR, instant};

/// Start and end of the calls that the filters let pass and that have both.
pub fn spans(question: &Question<'_>) -> Vec<(i64, i64)> {
    let calls = question.rows.calls.iter().filter(|call| question.passes(call));
    calls.filter_map(|call| Some((call.started_at?, call.ended_at?))).collect()
}

/// Calls of the interval that have no end. (Reports are asked over intervals before which no such call began.)
fn endless(question: &Question<'_>) -> i64 {
    let inside = |call: &&Call| call.started_at.is_some_and(|at| (question.from..question.until).contains(&at));
    let calls: Vec<&Call> = question.rows.calls.iter().filter(inside).filter(|call| question.passes(call)).collect();
    count(&calls.into_iter().filter(|call| call.ended_at.is_none()).collect::<Vec<&Call>>())
}

fn bucketed(question: &Question<'_>, column: &'static str, value: impl Fn(i64, i64) -> Value) -> Expected {
    let buckets = question.zone.buckets(question.option("bucket", "hour"), question.from, question.until);
    let rows = buckets.into_iter().map(|(start, end)| vec![json!(question.zone.text(start)), value(start, end)]);
    Expected {
        columns: question.columns(&["bucket", column]),
        keys: 1,
        rows: rows.collect(),
        open: None,
        unknown: vec![(column, endless(question))],
    }
}

/// The most calls at one time: that is at the beginning of the bucket, or when one of them starts.
pub fn concurrency(question: &Question<'_>) -> Expected {
    let spans = spans(question);
    let at = |time: i64| spans.iter().filter(|(start, end)| *start <= time && time < *end).count();
    bucketed(question, "peak", |start, end| {
        let starts = spans.iter().map(|(start, _)| *start).filter(|other| (start..end).contains(other));
        json!(starts.chain([start]).map(at).max())
    })
}

/// The time of calls inside ÷ its length.
fn traffic(spans: &[(i64, i64)], from: i64, until: i64) -> f64 {
    let inside = spans.iter().map(|(start, end)| ((*end).min(until) - (*start).max(from)).max(0));
    inside.sum::<i64>() as f64 / (until - from) as f64
}

pub fn erlang(question: &Question<'_>) -> Expected {
    let spans = spans(question);
    bucketed(question, "erlang", |start, end| json!(traffic(&spans, start, end)))
}

/// The smallest number of lines that block no more than this share, by the textbook's recursion.
fn lines(erlang: f64, blocking: f64) -> i64 {
    let (mut blocked, mut number) = (1.0, 0_i64);
    while blocked > blocking {
        number += 1;
        blocked = erlang * blocked / (number as f64 + erlang * blocked);
    }
    number
}

/// What is wrong with the busiest clock hour of each date. Which of several equal hours is named is free.
pub fn wrong_daily_peak(question: &Question<'_>, report: &Report) -> Option<String> {
    let (spans, zone) = (spans(question), question.zone);
    let sliding = question.option("method", "clock") == "sliding15";
    let hours = zone.buckets("hour", question.from, question.until);
    let dates = zone.buckets("day", question.from, question.until);
    let mut rows = report.objects().into_iter();
    for (start, end) in dates {
        let date = zone.date(start).to_string();
        let Some(row) = rows.next() else { return Some(format!("there is no row of {date}")) };
        if row["date"] != json!(date) {
            return Some(format!("{date} was expected: {row:?}"));
        }
        // What a change of the clocks leaves of an hour can be busier than any whole hour.
        let whole = |(from, until): &&(i64, i64)| !sliding || until - from == 3_600_000_000;
        let of_date = hours.iter().filter(|(hour, _)| (start..end).contains(hour)).filter(whole);
        let most = of_date.map(|(from, until)| traffic(&spans, *from, *until)).fold(0.0, f64::max);
        let found = row["erlang"].as_f64().unwrap_or(-1.0);
        let right = if sliding { found >= most - 1e-9 } else { (found - most).abs() < 1e-9 };
        if !right {
            return Some(format!("{date}: the hour's traffic is {most}: {row:?}"));
        }
        if most > 0.0 && row["lines"] != json!(lines(found, 0.01)) {
            return Some(format!("{date}: {} lines were expected: {row:?}", lines(found, 0.01)));
        }
        if most > 0.0 && !is_its_hour(question, &spans, &row, found) {
            return Some(format!("{date}: that is not the hour: {row:?}"));
        }
    }
    rows.next().map(|row| format!("one date too many: {row:?}"))
}

/// Whether the hour that a row names has this traffic. An hour of which clocks show but a part is left alone.
fn is_its_hour(question: &Question<'_>, spans: &[(i64, i64)], row: &Map<String, Value>, erlang: f64) -> bool {
    let from = instant(row["starts_at"].as_str().unwrap_or_default());
    let hours = question.zone.buckets("hour", question.from, question.until);
    if hours.iter().any(|(start, end)| *start == from && end - start != HOUR) {
        return true;
    }
    let has_traffic = (traffic(spans, from, from + HOUR) - erlang).abs() < 1e-9;
    has_traffic && row["hour"] == json!(question.zone.local(from).hour())
}

/// The hour of the day that has the most traffic on the average of all dates; zones without clock changes only.
pub fn time_consistent(question: &Question<'_>) -> f64 {
    let spans = spans(question);
    let dates = question.zone.buckets("day", question.from, question.until);
    let average = |hour: i64| {
        let hours = dates.iter().map(|(start, _)| start + hour * HOUR);
        hours.map(|start| traffic(&spans, start, start + HOUR)).sum::<f64>() / dates.len() as f64
    };
    (0..24).map(average).fold(0.0, f64::max)
}
