//! Hours, days, weeks and months of a time zone as intervals of UTC, whatever its clocks do.

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, Months, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;
use trunklog_storage::event::Micros;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
/// No clock is further from UTC than this.
const FAR: Micros = 26 * 60 * MINUTE;

/// Into what pieces time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Bucket {
    /// 15 minutes.
    Quarter,
    /// 30 minutes.
    Half,
    /// A clock hour.
    Hour,
    /// A local date.
    Day,
    /// Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

/// The names of buckets in parameters.
pub(crate) const BUCKETS: &[&str] = &["15m", "30m", "hour", "day", "week", "month"];

impl Bucket {
    /// The bucket of this name, one of [`BUCKETS`].
    pub fn parse(name: &str) -> Option<Bucket> {
        Some(match name {
            "15m" => Bucket::Quarter,
            "30m" => Bucket::Half,
            "hour" => Bucket::Hour,
            "day" => Bucket::Day,
            "week" => Bucket::Week,
            "month" => Bucket::Month,
            _ => return None,
        })
    }

    /// No such interval is shorter, in microseconds, but where a change of the clocks cuts one.
    pub fn least(self) -> Micros {
        const DAY: Micros = 23 * 60 * MINUTE;
        self.step().unwrap_or(match self {
            Bucket::Week => 7 * DAY,
            Bucket::Month => 28 * DAY,
            _ => DAY,
        })
    }

    fn step(self) -> Option<Micros> {
        match self {
            Bucket::Quarter => Some(15 * MINUTE),
            Bucket::Half => Some(30 * MINUTE),
            Bucket::Hour => Some(60 * MINUTE),
            Bucket::Day | Bucket::Week | Bucket::Month => None,
        }
    }
}

/// A half-open interval, in microseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Interval {
    /// Its first instant.
    pub from: Micros,
    /// The first instant after it.
    pub until: Micros,
}

impl Interval {
    /// All of time.
    pub const ALWAYS: Interval = Interval { from: Micros::MIN, until: Micros::MAX };

    /// Whether the instant is in it.
    pub fn contains(self, at: Micros) -> bool {
        self.from <= at && at < self.until
    }

    /// What both have.
    pub fn and(self, other: Interval) -> Interval {
        Interval { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

/// Times of this zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Calendar(pub Tz);

fn utc(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or(DateTime::UNIX_EPOCH)
}

impl Calendar {
    fn offset(self, at: Micros) -> Micros {
        let offset = self.0.offset_from_utc_datetime(&utc(at).naive_utc());
        Micros::from(offset.fix().local_minus_utc()) * SECOND
    }

    /// What clocks show.
    pub fn local(self, at: Micros) -> NaiveDateTime {
        utc(at).with_timezone(&self.0).naive_local()
    }

    /// `2026-10-25T02:00:00+01:00`.
    pub fn label(self, at: Micros) -> String {
        utc(at).with_timezone(&self.0).to_rfc3339_opts(chrono::SecondsFormat::Secs, false)
    }

    /// 1 for Monday, and the hour.
    pub fn weekday_and_hour(self, at: Micros) -> (i64, i64) {
        let local = self.local(at);
        (i64::from(local.weekday().number_from_monday()), i64::from(local.hour()))
    }

    /// The interval that this instant is in.
    pub fn bucket(self, bucket: Bucket, at: Micros) -> Interval {
        if let Some(step) = bucket.step() {
            return self.part_of_day(step, at);
        }
        let date = self.local(at).date();
        let (first, next) = match bucket {
            Bucket::Week => {
                let monday = date - Days::new(u64::from(date.weekday().num_days_from_monday()));
                (monday, monday + Days::new(7))
            }
            Bucket::Month => {
                let first = date.with_day(1).unwrap_or(date);
                (first, first + Months::new(1))
            }
            _ => (date, date + Days::new(1)),
        };
        Interval { from: self.start_of(first), until: self.start_of(next) }
    }

    /// A change of the clocks within the step ends one interval and begins another.
    fn part_of_day(self, step: Micros, at: Micros) -> Interval {
        let offset = self.offset(at);
        let from = (at + offset).div_euclid(step) * step - offset;
        let until = from + step;
        let changed = |early, late| self.offset(early) != self.offset(late);
        Interval {
            from: if changed(from, at) { self.change_between(from, at) } else { from },
            until: if changed(at, until - 1) { self.change_between(at, until - 1) } else { until },
        }
    }

    /// The first instant after `early` with the offset of `late`.
    fn change_between(self, early: Micros, late: Micros) -> Micros {
        let before = self.offset(early);
        first(early, late, |at| self.offset(at) != before)
    }

    /// The first instant of a local date.
    pub fn start_of(self, date: NaiveDate) -> Micros {
        let midnight = date.and_time(chrono::NaiveTime::MIN);
        match self.0.from_local_datetime(&midnight) {
            MappedLocalTime::Single(start) | MappedLocalTime::Ambiguous(start, _) => start.timestamp_micros(),
            MappedLocalTime::None => {
                let about = midnight.and_utc().timestamp_micros();
                first(about - FAR, about + FAR, |at| self.local(at).date() >= date)
            }
        }
    }

    /// All buckets that have a part of this interval.
    pub fn buckets(self, bucket: Bucket, interval: Interval) -> impl Iterator<Item = Interval> {
        let mut at = interval.from;
        std::iter::from_fn(move || {
            (at < interval.until).then(|| {
                let found = self.bucket(bucket, at);
                at = found.until;
                found
            })
        })
    }

    /// The period before this one: of as many dates if it is of whole dates, else as long.
    pub fn previous(self, interval: Interval) -> Interval {
        let (first, last) = (self.local(interval.from).date(), self.local(interval.until).date());
        let whole = self.start_of(first) == interval.from && self.start_of(last) == interval.until;
        let length = interval.until - interval.from;
        let days = u64::try_from((last - first).num_days()).unwrap_or_default();
        match first.checked_sub_days(Days::new(days)).filter(|_| whole) {
            Some(date) => Interval { from: self.start_of(date), until: interval.from },
            None => Interval { from: interval.from.saturating_sub(length), until: interval.from },
        }
    }
}

/// The first instant, in microseconds, after `early` for which it holds; it holds for `late`, and from then on.
fn first(mut early: Micros, mut late: Micros, holds: impl Fn(Micros) -> bool) -> Micros {
    while late - early > 1 {
        let middle = early + (late - early) / 2;
        if holds(middle) { late = middle } else { early = middle }
    }
    late
}

/// Finds the bucket of one instant after the other; neighbours are mostly in the same one.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    calendar: Calendar,
    bucket: Bucket,
    current: Interval,
}

impl Buckets {
    /// For these buckets.
    pub fn new(calendar: Calendar, bucket: Bucket) -> Buckets {
        Buckets { calendar, bucket, current: Interval { from: 0, until: 0 } }
    }

    /// The bucket of this instant.
    pub fn of(&mut self, at: Micros) -> Interval {
        if !self.current.contains(at) {
            self.current = self.calendar.bucket(self.bucket, at);
        }
        self.current
    }
}

#[cfg(test)]
mod tests {
    use trunklog_storage::event::parse_time;

    use super::*;

    fn at(text: &str) -> Micros {
        parse_time(text).expect("a time")
    }

    fn starts(zone: Tz, bucket: Bucket, from: &str, until: &str) -> Vec<String> {
        let interval = Interval { from: at(from), until: at(until) };
        Calendar(zone).buckets(bucket, interval).map(|found| Calendar(zone).label(found.from)).collect()
    }

    #[test]
    fn days_have_23_24_and_25_hours() {
        let zone = chrono_tz::Europe::Berlin;
        let hours = |from, until| starts(zone, Bucket::Hour, from, until);
        assert_eq!(hours("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00").len(), 23);
        assert_eq!(hours("2026-03-30T00:00:00+02:00", "2026-03-31T00:00:00+02:00").len(), 24);
        let long = hours("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00");
        assert_eq!(long.len(), 25);
        assert_eq!(long[2..4], ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]);
        let days = starts(zone, Bucket::Day, "2026-10-24T00:00:00+02:00", "2026-10-27T00:00:00+01:00");
        assert_eq!(days, ["2026-10-24T00:00:00+02:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"]);
    }

    #[test]
    fn odd_zones_have_whole_days() {
        // Half an hour is skipped at 02:00; a date begins at 01:00; another does not exist.
        let howe =
            starts(chrono_tz::Australia::Lord_Howe, Bucket::Hour, "2026-10-03T15:00:00Z", "2026-10-03T17:00:00Z");
        assert_eq!(howe[..3], ["2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"]);
        let beirut = starts(chrono_tz::Asia::Beirut, Bucket::Day, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(beirut, ["2026-03-28T00:00:00+02:00", "2026-03-29T01:00:00+03:00"]);
        let apia = starts(chrono_tz::Pacific::Apia, Bucket::Day, "2011-12-29T12:00:00Z", "2011-12-31T05:00:00Z");
        assert_eq!(apia, ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"]);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let zone = chrono_tz::America::New_York;
        let weeks = starts(zone, Bucket::Week, "2026-03-01T12:00:00Z", "2026-03-10T12:00:00Z");
        assert_eq!(weeks, ["2026-02-23T00:00:00-05:00", "2026-03-02T00:00:00-05:00", "2026-03-09T00:00:00-04:00"]);
        let months = starts(zone, Bucket::Month, "2024-02-29T12:00:00Z", "2024-03-02T12:00:00Z");
        assert_eq!(months, ["2024-02-01T00:00:00-05:00", "2024-03-01T00:00:00-05:00"]);
    }

    #[test]
    fn the_period_before_has_as_many_days() {
        let calendar = Calendar(chrono_tz::Europe::Berlin);
        let day = Interval { from: at("2026-10-26T00:00:00+01:00"), until: at("2026-10-27T00:00:00+01:00") };
        assert_eq!(calendar.previous(day).from, at("2026-10-25T00:00:00+02:00"));
        let hour = Interval { from: at("2026-10-25T10:00:00Z"), until: at("2026-10-25T11:00:00Z") };
        assert_eq!(calendar.previous(hour).from, at("2026-10-25T09:00:00Z"));
    }
}
