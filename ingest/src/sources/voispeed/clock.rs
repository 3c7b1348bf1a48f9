//! VOIspeed's clock: local times in the tenant's zone.

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use trunklog_storage::event::Micros;

/// Where VOIspeed's customers are, unless the tenant says otherwise.
const DEFAULT_ZONE: Tz = chrono_tz::Europe::Rome;
/// 2000-01-01T00:00:00Z; `1899-12-30` stands for no time at all.
const EARLIEST: Micros = 946_684_800_000_000;
/// A clock may run this far ahead of ours.
const DAY: Micros = 24 * 3600 * 1_000_000;

const FORMATS: [&str; 4] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M:%S%.f"];

/// The time that a local time (or one with an offset) names; `None` for what is no time or lies before 2000 or more
/// than a day after `received_at`.
pub(super) fn local(text: &str, zone: Option<Tz>, received_at: Micros) -> Option<Micros> {
    let text = text.trim();
    let micros = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.timestamp_micros(),
        Err(_) => in_zone(naive(text)?, zone.unwrap_or(DEFAULT_ZONE))?,
    };
    let latest = received_at.saturating_add(DAY);
    (EARLIEST..=latest).contains(&micros).then_some(micros)
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

/// Of the two times that a local time names when clocks go back, the earlier one; a time that clocks skipped is read
/// with the offset after the change, which is the earlier one too.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Option<Micros> {
    if let Some(time) = zone.from_local_datetime(&local).earliest() {
        return Some(time.timestamp_micros());
    }
    let gap = TimeDelta::hours(3);
    let after = zone.from_local_datetime(&local.checked_add_signed(gap)?).earliest()?;
    after.checked_sub_signed(gap).map(|time| time.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Micros = 1_800_000_000_000_000;

    #[test]
    fn local_times_are_romes_by_default() {
        assert_eq!(local("2025-01-10 09:15:00", None, RECEIVED), Some(1_736_496_900_000_000));
        assert_eq!(local("2025-01-10 09:15:00", Some(chrono_tz::UTC), RECEIVED), Some(1_736_500_500_000_000));
        assert_eq!(local("2025-01-10T09:15:00Z", None, RECEIVED), Some(1_736_500_500_000_000));
        assert_eq!(local("10/01/2025 09:15:00", None, RECEIVED), Some(1_736_496_900_000_000));
    }

    #[test]
    fn clock_changes_have_an_earlier_reading() {
        // 02:30 happened twice on 26 October 2025 and never on 30 March 2025.
        assert_eq!(local("2025-10-26 02:30:00", None, RECEIVED), Some(1_761_438_600_000_000));
        assert_eq!(local("2025-03-30 02:30:00", None, RECEIVED), Some(1_743_294_600_000_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "1899-12-30 00:00:00", "1899-12-30", "soon", "2025-13-01 00:00:00", "9999-01-01 00:00:00"] {
            assert_eq!(local(text, None, RECEIVED), None, "{text}");
        }
    }
}
