//! `concurrency`: the highest number of calls at one time.

use super::answer::Answer;
use super::calendar::{Bucket, Calendar, Interval};
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::grouped::{group_columns, group_of, group_reads};
use super::part::bucket_column;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

/// The column of `concurrency`.
pub(crate) const PEAK: StaticColumn =
    column("peak", Type::Whole, Some("calls"), "peak/1", "highest number of calls at one time");

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
        group_columns(&request.group_by).into_iter().chain([bucket_column(), PEAK.into()]).collect()
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
            let ends = partial.cells.at(&group_of(&self.group_by, call));
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
    fn calls_that_touch_do_not_overlap() {
        let ends = Ends { from: vec![0, 10, 10, 25], until: vec![10, 20, 30, 26] };
        let intervals = [(0, 5), (5, 10), (10, 20), (20, 30), (30, 40)].map(|(from, until)| Interval { from, until });
        assert_eq!(ends.peaks(intervals.into_iter()), [1, 1, 2, 2, 0]);
    }
}
