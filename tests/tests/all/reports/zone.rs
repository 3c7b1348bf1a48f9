//! Local time worked out from the instant alone, and the buckets of an interval found by walking through it.

use arrow::array::timezone::Tz;
use chrono::{
    DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, Offset, SecondsFormat, TimeZone, Timelike,
};

/// In microseconds.
pub const SECOND: i64 = 1_000_000;
/// In microseconds.
pub const HOUR: i64 = 3600 * SECOND;
/// In microseconds; no zone changes its clocks between quarters.
pub const QUARTER: i64 = HOUR / 4;

/// An IANA zone, as Arrow has them from chrono-tz.
#[derive(Clone, Copy)]
pub struct Zone {
    pub name: &'static str,
    zone: Tz,
}

impl Zone {
    pub fn named(name: &'static str) -> Zone {
        Zone { name, zone: name.parse().unwrap() }
    }

    /// How far local time is ahead of UTC, in seconds.
    pub fn offset(self, at: i64) -> i32 {
        self.zone.offset_from_utc_datetime(&naive(at)).fix().local_minus_utc()
    }

    /// What clocks show.
    pub fn local(self, at: i64) -> NaiveDateTime {
        naive(at + i64::from(self.offset(at)) * SECOND)
    }

    pub fn date(self, at: i64) -> NaiveDate {
        self.local(at).date()
    }

    /// The first instant of a date.
    pub fn midnight(self, date: NaiveDate) -> i64 {
        self.zone.from_local_datetime(&date.and_time(chrono::NaiveTime::MIN)).earliest().unwrap().timestamp_micros()
    }

    pub fn is_midnight(self, at: i64) -> bool {
        self.midnight(self.date(at)) == at
    }

    /// The instant with its offset.
    pub fn text(self, at: i64) -> String {
        let offset = FixedOffset::east_opt(self.offset(at)).unwrap();
        offset.from_utc_datetime(&naive(at)).to_rfc3339_opts(SecondsFormat::AutoSi, false)
    }

    /// The local days that hold this interval, whole.
    pub fn whole_days(self, first: i64, last: i64) -> (i64, i64) {
        (self.midnight(self.date(first)), self.midnight(self.date(last) + Days::new(1)))
    }

    /// The buckets of an interval that begins with one: first instant, and first instant after it.
    pub fn buckets(self, bucket: &str, from: i64, until: i64) -> Vec<(i64, i64)> {
        let mut starts: Vec<i64> = Vec::new();
        let (mut at, mut last) = (from, None);
        while at < until {
            let label = self.label(bucket, at);
            if last != Some(label) {
                starts.push(at);
                last = Some(label);
            }
            at += QUARTER;
        }
        let ends: Vec<i64> = starts.iter().skip(1).copied().chain([until]).collect();
        starts.into_iter().zip(ends).collect()
    }

    /// What all instants of one bucket have in common. An hour that clocks show twice is two buckets, a day is one.
    fn label(self, bucket: &str, at: i64) -> (NaiveDateTime, i32) {
        let local = self.local(at);
        let minutes = |width: u32| local.date().and_hms_opt(local.hour(), local.minute() / width * width, 0).unwrap();
        let day = |date: NaiveDate| (date.and_time(chrono::NaiveTime::MIN), 0);
        match bucket {
            "15m" => (minutes(15), self.offset(at)),
            "30m" => (minutes(30), self.offset(at)),
            "hour" => (minutes(60), self.offset(at)),
            "day" => day(local.date()),
            "week" => day(monday(local.date())),
            "month" => day(local.date().with_day(1).unwrap()),
            other => panic!("no bucket `{other}`"),
        }
    }
}

/// The Monday of a date's week.
pub fn monday(date: NaiveDate) -> NaiveDate {
    date - Days::new(u64::from(date.weekday().num_days_from_monday()))
}

/// The instant in UTC, as answers show it.
pub fn utc_text(at: i64) -> String {
    naive(at).and_utc().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The instant that a text names.
#[track_caller]
pub fn instant(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|_| panic!("`{text}` is no time")).timestamp_micros()
}

/// The instant now.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

fn naive(at: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(at).unwrap().naive_utc()
}
