//! Reports worked out as plainly as possible from the rows: what all of them share. Nothing here is fast, and nothing
//! is taken from how the archive does it.

use chrono::{Datelike, Days, Months};
use serde_json::{Value, json};

use super::rows::{Call, Leg, Rows, Visit};
use super::zone::{Zone, monday};

/// What a report is asked.
#[derive(Clone)]
pub struct Question<'a> {
    pub rows: &'a Rows,
    pub zone: Zone,
    pub from: i64,
    pub until: i64,
    pub group_by: Vec<&'static str>,
    pub filters: Vec<(&'static str, String)>,
    pub attribution: &'static str,
    /// Parameters of the one report.
    pub further: Vec<(&'static str, &'static str)>,
    pub now: i64,
}

/// What a report must answer.
#[derive(Clone, Debug)]
pub struct Expected {
    pub columns: Vec<String>,
    /// So many columns in front tell a row from all others.
    pub keys: usize,
    pub rows: Vec<Vec<Value>>,
    /// Open calls, where it is clear which ones are meant.
    pub open: Option<i64>,
    /// How many values are left out of a column.
    pub unknown: Vec<(&'static str, i64)>,
}

impl<'a> Question<'a> {
    pub fn new(rows: &'a Rows, zone: Zone, from: i64, until: i64, now: i64) -> Question<'a> {
        let (group_by, filters, further) = (Vec::new(), Vec::new(), Vec::new());
        Question { rows, zone, from, until, group_by, filters, attribution: "start", further, now }
    }

    pub fn with(&self, further: &[(&'static str, &'static str)]) -> Question<'a> {
        Question { further: further.to_vec(), ..self.clone() }
    }

    pub fn grouped(&self, group_by: &[&'static str]) -> Question<'a> {
        Question { group_by: group_by.to_vec(), ..self.clone() }
    }

    pub fn filtered(&self, filters: &[(&'static str, &str)]) -> Question<'a> {
        let filters = filters.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Question { filters, ..self.clone() }
    }

    /// The same over whole weeks or months, so that the first bucket begins with the interval.
    pub fn widened(&self, bucket: &'static str) -> Question<'a> {
        let (first, last) = (self.zone.date(self.from), self.zone.date(self.until - 1));
        let (first, next) = match bucket {
            "week" => (monday(first), monday(last) + Days::new(7)),
            "month" => (first.with_day(1).unwrap(), last.with_day(1).unwrap() + Months::new(1)),
            _ => (first, last + Days::new(1)),
        };
        let (from, until) = (self.zone.midnight(first), self.zone.midnight(next));
        Question { from, until, further: vec![("bucket", bucket)], ..self.clone() }
    }

    /// A parameter of the one report.
    pub fn option(&self, name: &str, default: &'static str) -> &'static str {
        self.further.iter().find(|(other, _)| *other == name).map_or(default, |(_, value)| *value)
    }

    /// The same as a number.
    pub fn number(&self, name: &str, default: i64) -> i64 {
        self.further.iter().find(|(other, _)| *other == name).map_or(default, |(_, value)| value.parse().unwrap())
    }

    /// As parameters of the address; what is the default anyway is not said.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("from", self.zone.text(self.from)), ("until", self.zone.text(self.until))];
        if self.zone.name != "UTC" {
            all.push(("tz", self.zone.name.to_owned()));
        }
        if !self.group_by.is_empty() {
            all.push(("group_by", self.group_by.join(",")));
        }
        if self.attribution != "start" {
            all.push(("attribution", self.attribution.to_owned()));
        }
        all.extend(self.filters.iter().cloned());
        all.extend(self.further.iter().map(|(name, value)| (*name, (*value).to_owned())));
        all
    }

    /// The time by which a call belongs to an interval.
    pub fn time_of(&self, call: &Call) -> Option<i64> {
        match self.attribution {
            "answer" => call.answered_at,
            "end" => call.ended_at,
            _ => call.started_at,
        }
    }

    /// Whether the filters let a call pass: of several values of one filter any will do.
    pub fn passes(&self, call: &Call) -> bool {
        let any_of = |name: &str| self.filters.iter().any(|(other, value)| *other == name && has(call, name, value));
        self.filters.iter().all(|(name, _)| any_of(name))
    }

    /// The calls of an interval.
    pub fn calls_between(&self, from: i64, until: i64) -> Vec<&'a Call> {
        let inside = |call: &&Call| self.time_of(call).is_some_and(|at| (from..until).contains(&at));
        self.rows.calls.iter().filter(inside).filter(|call| self.passes(call)).collect()
    }

    /// The calls of the whole interval.
    pub fn calls(&self) -> Vec<&'a Call> {
        self.calls_between(self.from, self.until)
    }

    /// The queue visits that began in the interval and are over.
    pub fn visits(&self) -> Vec<&'a Visit> {
        let inside = |visit: &&Visit| visit.entered_at.is_some_and(|at| (self.from..self.until).contains(&at));
        let over = self.rows.visits.iter().filter(|visit| visit.left_at.is_some());
        over.filter(inside).filter(|visit| self.passes(self.call_of(visit))).collect()
    }

    /// The call of a visit.
    pub fn call_of(&self, visit: &Visit) -> &'a Call {
        self.rows.calls.iter().find(|call| call.call_id == visit.call_id).unwrap()
    }

    /// The legs of calls that go out.
    pub fn legs_out(&self, calls: &[&Call]) -> Vec<&'a Leg> {
        let theirs = |leg: &&Leg| calls.iter().any(|call| call.call_id == leg.call_id);
        self.rows.legs.iter().filter(|leg| leg.direction == "out").filter(theirs).collect()
    }

    /// The calls by what they are grouped by; without groups they are one, even if there are none.
    pub fn groups(&self, calls: &[&'a Call], further: &[&str]) -> Vec<(Vec<Value>, Vec<&'a Call>)> {
        let names: Vec<&str> = self.group_by.iter().copied().chain(further.iter().copied()).collect();
        let mut groups: Vec<(Vec<Value>, Vec<&'a Call>)> = Vec::new();
        if names.is_empty() {
            return vec![(Vec::new(), calls.to_vec())];
        }
        for &call in calls {
            let key: Vec<Value> = names.iter().map(|name| json!(dimension(call, name))).collect();
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, members)) => members.push(call),
                None => groups.push((key, vec![call])),
            }
        }
        groups
    }

    /// The columns that stand in front of all others, and these.
    pub fn columns(&self, further: &[&str]) -> Vec<String> {
        self.group_by.iter().chain(further).map(|name| (*name).to_owned()).collect()
    }
}

/// What a call has of a dimension.
pub fn dimension<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    match name {
        "source" => Some(&call.source),
        "direction" => Some(&call.direction),
        "disposition" => Some(&call.disposition),
        "endpoint" => call.endpoint.as_deref(),
        "queue" => call.queue.as_deref(),
        "own_number" => call.own_number.as_deref(),
        "number" if call.direction == "in" => call.from_e164.as_deref().or(call.from_number.as_deref()),
        "number" => call.to_e164.as_deref().or(call.to_number.as_deref()),
        other => panic!("no dimension `{other}`"),
    }
}

fn has(call: &Call, name: &str, value: &str) -> bool {
    if name == "number" {
        let numbers = [&call.from_number, &call.to_number, &call.from_e164, &call.to_e164];
        return numbers.iter().any(|number| number.as_deref() == Some(value));
    }
    dimension(call, name) == Some(value)
}

pub fn is_open(call: &Call) -> bool {
    call.state == "open"
}

pub fn is_answered(call: &Call) -> bool {
    call.disposition == "answered"
}

pub fn is_missed(call: &Call) -> bool {
    let missed = ["missed", "no_answer", "busy", "canceled", "voicemail"];
    call.direction == "in" && missed.contains(&call.disposition.as_str())
}

/// Counts are small enough for this to be exact.
pub fn ratio(part: i64, whole: i64) -> Value {
    if whole == 0 { Value::Null } else { json!(part as f64 / whole as f64) }
}

/// How many; no test has more than an `i64` holds.
pub fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap()
}

/// The value at rank `ceil(percent / 100 · n)`, and of that the lower end of its tenth of a second.
pub fn percentile(values: &[i64], percent: usize) -> Value {
    let mut tenths: Vec<i64> = values.iter().map(|value| value.div_euclid(100) * 100).collect();
    tenths.sort_unstable();
    let rank = (percent * tenths.len()).div_ceil(100);
    tenths.get(rank.wrapping_sub(1)).map_or(Value::Null, |value| json!(value))
}
