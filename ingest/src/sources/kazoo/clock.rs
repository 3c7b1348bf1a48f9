//! Kazoo's clock: gregorian seconds, as text or number, and the limits of what is believed.

use trunklog_storage::event::Micros;

/// Seconds from year 0 to 1970 in the proleptic Gregorian calendar.
const GREGORIAN_TO_UNIX: i64 = 62_167_219_200;
/// 2000-01-01T00:00:00Z; no call is older.
const EARLIEST: Micros = 946_684_800_000_000;
/// A clock may run this far ahead of ours.
const DAY: Micros = 24 * 3600 * 1_000_000;

/// The time that gregorian seconds name; `None` for what is no number or lies before 2000 or more than a day after
/// `received_at`.
pub(super) fn gregorian(text: &str, received_at: Micros) -> Option<Micros> {
    let (whole, fraction) = split_decimal(text)?;
    let micros = whole.checked_sub(GREGORIAN_TO_UNIX)?.checked_mul(1_000_000)?.checked_add(fraction)?;
    let latest = received_at.saturating_add(DAY);
    (EARLIEST..=latest).contains(&micros).then_some(micros)
}

/// Whole seconds and the microseconds behind the point.
fn split_decimal(text: &str) -> Option<(i64, i64)> {
    let text = text.trim();
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        let believable = value.is_finite() && value.abs() < 1e15;
        return believable.then_some((value.trunc() as i64, 0));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some((whole.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Micros = 1_800_000_000_000_000;

    #[test]
    fn gregorian_seconds_are_text_or_numbers() {
        assert_eq!(gregorian("63903000000", RECEIVED), Some(1_735_780_800_000_000));
        assert_eq!(gregorian(" 63903000000.25 ", RECEIVED), Some(1_735_780_800_250_000));
        assert_eq!(gregorian("6.3903e10", RECEIVED), Some(1_735_780_800_000_000));
    }

    #[test]
    fn insane_times_are_none() {
        for text in
            ["", "x", "-5", "0", "59926608000", "99999999999999999999", "9223372036854775807", "1.2.3", "NaN", "1e99"]
        {
            assert_eq!(gregorian(text, RECEIVED), None, "{text}");
        }
    }
}
