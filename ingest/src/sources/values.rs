//! Values that several sources write alike.

use compact_str::CompactString;

/// A year and a day in milliseconds: no call is longer.
const MAX_DURATION_MS: i64 = 366 * 24 * 3600 * 1000;

/// A type of events: what it is named after, with dots between.
pub fn kind_of<const N: usize>(names: [&str; N]) -> CompactString {
    let mut kind = CompactString::default();
    for name in names {
        if !kind.is_empty() {
            kind.push('.');
        }
        kind.push_str(name);
    }
    kind
}

/// Of `user@realm` the user; everything else as it is.
pub fn user_part(party: &str) -> &str {
    party.split_once('@').map_or(party, |(user, _)| user)
}

/// Whole seconds, as text, in milliseconds; `None` for what is negative, absurd or no number.
pub fn milliseconds(seconds: &str) -> Option<i64> {
    let milliseconds = seconds.trim().parse::<i64>().ok()?.checked_mul(1000)?;
    (0..=MAX_DURATION_MS).contains(&milliseconds).then_some(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_plausible_or_nothing() {
        assert_eq!(milliseconds("61"), Some(61_000));
        assert_eq!(milliseconds("0"), Some(0));
        for text in ["", "-1", "abc", "99999999999", "9223372036854775807", "99999999999999999999"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn types_have_dots() {
        assert_eq!(kind_of(["voispeed", "user", "ringing"]), "voispeed.user.ringing");
    }

    #[test]
    fn the_realm_goes() {
        assert_eq!(user_part("7777aaa@fpbx.de"), "7777aaa");
        assert_eq!(user_part("anonymous"), "anonymous");
    }
}
