//! How many calls there are at one time: `concurrency`, `erlang` and `busy_hour`.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::calendar::{Bucket, Buckets, Calendar, Interval};
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::counts::{bucket_column, group_columns, group_of, group_reads};
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

const HOUR: i64 = 3_600_000_000;

/// The column of `concurrency`.
pub(crate) const PEAK: StaticColumn =
    column("peak", Type::Whole, Some("calls"), "peak/1", "highest number of calls at one time");
/// The column of `erlang`.
pub(crate) const ERLANG: StaticColumn =
    column("erlang", Type::Float, Some("E"), "erlang/1", "traffic intensity: time of calls by length of the interval");
/// The columns of `busy_hour`.
pub(crate) const BUSY: [StaticColumn; 5] = [
    column("date", Type::Text, None, "busy_hour/1", "local date; null for the hour that is busiest over all dates"),
    column("hour", Type::Whole, None, "busy_hour/1", "local hour in which it begins"),
    column("starts_at", Type::Text, None, "busy_hour/1", "when it begins: with date and offset, or the time of day"),
    ERLANG,
    column("lines", Type::Whole, Some("lines"), "erlang_b/1", "lines that block no more than `blocking`"),
];

/// Traffic of a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    micros: i64,
    unknown: u64,
}

impl Measure for Traffic {
    fn merge(&mut self, other: &Traffic) {
        self.micros = self.micros.saturating_add(other.micros);
        self.unknown += other.unknown;
    }
}

/// The question of how much traffic there is in each bucket.
pub(crate) struct Erlang {
    bucket: Bucket,
    calendar: Calendar,
    group_by: Vec<Dimension>,
}

/// What some calls come to.
#[derive(Clone, Debug)]
pub(crate) struct Traffics {
    cells: Cells<Traffic>,
    buckets: Buckets,
    unknown: u64,
}

impl Erlang {
    /// The question of this request.
    pub fn of(request: &Request) -> Erlang {
        let sliding = request.options.choice("method") == "sliding15";
        let bucket = request.bucket().unwrap_or(if sliding { Bucket::Quarter } else { Bucket::Hour });
        Erlang { bucket, calendar: request.calendar, group_by: request.group_by.clone() }
    }

    /// The columns of `erlang`.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(request).into_iter().chain([bucket_column(), ERLANG.into()]).collect()
    }

    /// The answer of `erlang`.
    pub fn answer(&self, request: &Request, total: OfCalls<Traffics>) -> Answer {
        let Traffics { cells, unknown, .. } = total.inner;
        let rows = each_group(&cells, self.group_by.is_empty()).into_iter().flat_map(|(group, traffic)| {
            self.calendar.buckets(self.bucket, request.interval).filter_map(move |bucket| {
                let micros = traffic.get(&bucket.from).copied();
                // Of groups only what there is.
                let micros = if group.is_empty() { micros.unwrap_or_default() } else { micros? };
                Some((bucket, group.clone(), intensity(micros, bucket.and(request.interval))))
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by(|left, right| (left.0.from, &left.1).cmp(&(right.0.from, &right.1)));
        let rows = rows.iter().map(|(bucket, group, erlang)| {
            let label = Cell::Text(self.calendar.label(bucket.from).into());
            group.iter().map(Cell::from).chain([label, Cell::Float(*erlang)]).collect()
        });
        let table = Table { rows: rows.collect(), columns: Erlang::columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        answer.unknown("erlang", unknown);
        answer
    }

    /// The columns of `busy_hour`.
    pub fn busy_columns(request: &Request) -> Vec<Column> {
        group_columns(request).into_iter().chain(BUSY.map(Column::from)).collect()
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

/// A busiest hour.
struct Busy {
    date: Option<String>,
    hour: i64,
    starts_at: String,
    erlang: f64,
}

/// The traffic of each group by bucket, in order; of no groups also when there is none.
fn each_group(cells: &Cells<Traffic>, ungrouped: bool) -> BTreeMap<Vec<Key>, BTreeMap<i64, i64>> {
    let mut groups: BTreeMap<Vec<Key>, BTreeMap<i64, i64>> = BTreeMap::new();
    if ungrouped {
        groups.insert(Vec::new(), BTreeMap::new());
    }
    for (key, traffic) in cells.iter() {
        if let Some((Key::Whole(at), group)) = key.split_first() {
            groups.entry(group.to_vec()).or_default().insert(*at, traffic.micros);
        }
    }
    groups
}

fn intensity(micros: i64, interval: Interval) -> f64 {
    let length = interval.until - interval.from;
    if length > 0 { micros as f64 / length as f64 } else { 0.0 }
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

impl CallFamily for Erlang {
    type Partial = Traffics;

    fn begin(&self) -> Traffics {
        Traffics { cells: Cells::default(), buckets: Buckets::new(self.calendar, self.bucket), unknown: 0 }
    }

    fn columns(&self) -> Vec<&'static str> {
        group_reads(&self.group_by).chain(["ended_at"]).collect()
    }

    fn basis(&self) -> Basis {
        Basis::Overlap
    }

    fn add(&self, partial: &mut Traffics, call: &Call<'_>, _open: bool, within: Interval) {
        let Some(lasting) = call.lasting() else {
            partial.unknown += 1;
            return;
        };
        let lasting = lasting.and(within);
        let mut key = vec![Key::Null];
        group_of(&self.group_by, call, &mut key);
        let mut at = lasting.from;
        while at < lasting.until {
            let bucket = partial.buckets.of(at);
            key[0] = Key::Whole(bucket.from);
            let inside = lasting.and(bucket);
            partial.cells.at(&key).micros += inside.until - inside.from;
            at = bucket.until;
        }
    }

    fn merge(&self, partial: &mut Traffics, other: &Traffics) {
        partial.cells.merge(&other.cells);
        partial.unknown += other.unknown;
    }

    fn bytes(&self, partial: &Traffics) -> usize {
        partial.cells.bytes()
    }
}

/// The question of how many calls there are at most in each bucket.
pub(crate) struct Concurrency {
    bucket: Bucket,
    calendar: Calendar,
    group_by: Vec<Dimension>,
}

/// When calls of a group begin and end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    from: Vec<i64>,
    until: Vec<i64>,
}

impl Measure for Ends {
    fn merge(&mut self, other: &Ends) {
        self.from.extend_from_slice(&other.from);
        self.until.extend_from_slice(&other.until);
    }

    fn more_bytes(&self) -> usize {
        (self.from.capacity() + self.until.capacity()) * 8
    }
}

/// What some calls come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasting {
    cells: Cells<Ends>,
    unknown: u64,
}

impl Concurrency {
    /// The question of this request.
    pub fn of(request: &Request) -> Concurrency {
        let bucket = request.bucket().unwrap_or(Bucket::Hour);
        Concurrency { bucket, calendar: request.calendar, group_by: request.group_by.clone() }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(request).into_iter().chain([bucket_column(), PEAK.into()]).collect()
    }

    /// The answer.
    pub fn answer(&self, request: &Request, total: OfCalls<Lasting>) -> Answer {
        let mut groups = total.inner.cells.into_rows();
        if self.group_by.is_empty() && groups.is_empty() {
            groups.push((Vec::new(), Ends::default()));
        }
        let buckets: Vec<Interval> = self.calendar.buckets(self.bucket, request.interval).collect();
        let mut rows: Vec<(i64, Vec<Key>, i64)> = Vec::new();
        for (group, ends) in groups {
            let peaks = ends.peaks(buckets.iter().map(|bucket| bucket.and(request.interval)));
            let of_group = buckets.iter().zip(peaks).filter(|(_, peak)| group.is_empty() || *peak > 0);
            rows.extend(of_group.map(|(bucket, peak)| (bucket.from, group.clone(), peak)));
        }
        rows.sort_unstable();
        let rows = rows.iter().map(|(at, group, peak)| {
            let label = Cell::Text(self.calendar.label(*at).into());
            group.iter().map(Cell::from).chain([label, Cell::Whole(*peak)]).collect()
        });
        let table = Table { rows: rows.collect(), columns: Concurrency::columns(request) };
        let mut answer = Answer::new(table, request.params(), total.open);
        answer.unknown("peak", total.inner.unknown);
        answer
    }
}

impl Ends {
    /// The highest number of calls in each of these intervals, which follow each other. A call that ends when another
    /// begins does not overlap it.
    fn peaks(mut self, intervals: impl Iterator<Item = Interval>) -> Vec<i64> {
        self.from.sort_unstable();
        self.until.sort_unstable();
        let (mut begun, mut ended) = (0, 0);
        let mut peaks = Vec::new();
        for interval in intervals {
            begun += self.from[begun..].partition_point(|at| *at <= interval.from);
            ended += self.until[ended..].partition_point(|at| *at <= interval.from);
            let mut peak = begun - ended;
            while begun < self.from.len() && self.from[begun] < interval.until {
                let at = self.from[begun];
                begun += self.from[begun..].partition_point(|other| *other <= at);
                ended += self.until[ended..].partition_point(|other| *other <= at);
                peak = peak.max(begun - ended);
            }
            peaks.push(i64::try_from(peak).unwrap_or(i64::MAX));
        }
        peaks
    }
}

impl CallFamily for Concurrency {
    type Partial = Lasting;

    fn begin(&self) -> Lasting {
        Lasting::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        group_reads(&self.group_by).chain(["ended_at"]).collect()
    }

    fn basis(&self) -> Basis {
        Basis::Overlap
    }

    fn add(&self, partial: &mut Lasting, call: &Call<'_>, _open: bool, _within: Interval) {
        let Some(lasting) = call.lasting() else {
            partial.unknown += 1;
            return;
        };
        if lasting.from < lasting.until {
            let mut key = Vec::with_capacity(self.group_by.len());
            group_of(&self.group_by, call, &mut key);
            let ends = partial.cells.at(&key);
            ends.from.push(lasting.from);
            ends.until.push(lasting.until);
        }
    }

    fn merge(&self, partial: &mut Lasting, other: &Lasting) {
        partial.cells.merge(&other.cells);
        partial.unknown += other.unknown;
    }

    fn bytes(&self, partial: &Lasting) -> usize {
        partial.cells.bytes()
    }
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

    #[test]
    fn calls_that_touch_do_not_overlap() {
        let ends = Ends { from: vec![0, 10, 10, 25], until: vec![10, 20, 30, 26] };
        let intervals = [(0, 5), (5, 10), (10, 20), (20, 30), (30, 40)].map(|(from, until)| Interval { from, until });
        assert_eq!(ends.peaks(intervals.into_iter()), [1, 1, 2, 2, 0]);
    }
}
