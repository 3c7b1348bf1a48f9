//! `busy_hour`: the hour with the most traffic, and the lines that it needs. ITU-T E.500; Erlang B.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::calendar::{Bucket, Interval};
use super::erlang::{ERLANG, Erlang, Traffics, each_group, intensity};
use super::family::OfCalls;
use super::grouped::group_columns;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

const HOUR: i64 = 3_600_000_000;

/// The columns of `busy_hour`.
pub(crate) const BUSY: [StaticColumn; 5] = [
    column("date", Type::Text, None, "busy_hour/1", "local date; null for the hour that is busiest over all dates"),
    column("hour", Type::Whole, None, "busy_hour/1", "local hour in which it begins"),
    column("starts_at", Type::Text, None, "busy_hour/1", "when it begins: with date and offset, or the time of day"),
    ERLANG,
    column("lines", Type::Whole, Some("lines"), "erlang_b/1", "lines that block no more than `blocking`"),
];

/// A busiest hour.
struct Busy {
    date: Option<String>,
    hour: i64,
    starts_at: String,
    erlang: f64,
}

impl Erlang {
    /// The columns of `busy_hour`.
    pub fn busy_columns(request: &Request) -> Vec<Column> {
        group_columns(&request.group_by).into_iter().chain(BUSY.map(Column::from)).collect()
    }

    /// The answer of `busy_hour`.
    pub fn busy_answer(&self, request: &Request, total: OfCalls<Traffics>) -> Answer {
        let Traffics { cells, unknown, .. } = total.inner;
        let every_date = request.options.choice("scope") == "time_consistent";
        let blocking = request.options.fraction("blocking");
        let mut rows = Vec::new();
        for (group, traffic) in each_group(&cells, self.group_by.is_empty()) {
            let hours = self.hours(request.interval, &traffic);
            let busiest = if every_date { self.time_consistent(&hours) } else { self.daily_peaks(&hours) };
            rows.extend(busiest.into_iter().map(|busy| {
                let own = [
                    Cell::text(busy.date.as_deref()),
                    Cell::Whole(busy.hour),
                    Cell::Text(busy.starts_at.into()),
                    Cell::Float(busy.erlang),
                    Cell::Whole(lines_needed(busy.erlang, blocking)),
                ];
                group.iter().map(Cell::from).chain(own).collect()
            }));
        }
        let table = Table { rows, columns: Erlang::busy_columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        answer.unknown("erlang", unknown);
        answer
    }

    /// All hours of the interval: clock hours, or those that begin with each quarter and are wholly within.
    fn hours(&self, interval: Interval, traffic: &BTreeMap<i64, i64>) -> Vec<(Interval, i64)> {
        let buckets = self.calendar.buckets(self.bucket, interval);
        let hour = |bucket: Interval| match self.bucket {
            Bucket::Quarter => {
                let hour = Interval { from: bucket.from, until: bucket.from + HOUR };
                let within = hour.from >= interval.from && hour.until <= interval.until;
                within.then(|| (hour, traffic.range(hour.from..hour.until).map(|(_, micros)| *micros).sum()))
            }
            _ => Some((bucket.and(interval), traffic.get(&bucket.from).copied().unwrap_or_default())),
        };
        buckets.filter_map(hour).collect()
    }

    fn daily_peaks(&self, hours: &[(Interval, i64)]) -> Vec<Busy> {
        let mut peaks: BTreeMap<chrono::NaiveDate, (f64, Interval)> = BTreeMap::new();
        for (hour, micros) in hours {
            let (date, erlang) = (self.calendar.local(hour.from).date(), intensity(*micros, *hour));
            let peak = peaks.entry(date).or_insert((erlang, *hour));
            if erlang > peak.0 {
                *peak = (erlang, *hour);
            }
        }
        let busy = |(date, (erlang, hour)): (chrono::NaiveDate, (f64, Interval))| Busy {
            date: Some(date.to_string()),
            hour: self.calendar.weekday_and_hour(hour.from).1,
            starts_at: self.calendar.label(hour.from),
            erlang,
        };
        peaks.into_iter().map(busy).collect()
    }

    /// The time of day with the highest average.
    fn time_consistent(&self, hours: &[(Interval, i64)]) -> Vec<Busy> {
        let mut times: BTreeMap<chrono::NaiveTime, (i64, i64)> = BTreeMap::new();
        for (hour, micros) in hours {
            let sum = times.entry(self.calendar.local(hour.from).time()).or_default();
            *sum = (sum.0 + micros, sum.1 + hour.until - hour.from);
        }
        let averages = times.into_iter().map(|(time, (micros, length))| (time, micros as f64 / length as f64));
        let busiest = averages.fold(None, |best: Option<(chrono::NaiveTime, f64)>, next| match best {
            Some(best) if best.1 >= next.1 => Some(best),
            _ => Some(next),
        });
        let busy = busiest.map(|(time, erlang)| Busy {
            date: None,
            hour: i64::from(chrono::Timelike::hour(&time)),
            starts_at: time.format("%H:%M").to_string(),
            erlang,
        });
        busy.into_iter().collect()
    }
}

/// The smallest number of lines of which Erlang B says that they block no more than this share of the calls:
/// B(0) = 1; B(n) = A·B(n−1) ÷ (n + A·B(n−1)).
pub(crate) fn lines_needed(erlang: f64, blocking: f64) -> i64 {
    let (mut lines, mut blocked) = (0, if erlang > 0.0 { 1.0 } else { 0.0 });
    while blocked > blocking {
        lines += 1;
        blocked = erlang * blocked / (lines as f64 + erlang * blocked);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erlang_b_is_that_of_the_tables() {
        // From published tables for 1 % blocking: 5 lines carry 1.36 E, 10 lines 4.46 E, 30 lines 20.3 E.
        for (erlang, lines) in [(1.36, 5), (4.46, 10), (20.3, 30), (0.0, 0)] {
            assert_eq!(lines_needed(erlang, 0.01), lines, "{erlang} E");
            assert!(erlang == 0.0 || lines_needed(erlang + 0.1, 0.01) == lines + 1, "{erlang} E is the most");
        }
    }
}
