//! `Range` (RFC 9110, section 14): which bytes of a representation are wanted. Pure: no file, no clock.
//!
//! Read by hand and not with crate `http-range-header`, whose grammar is narrower than the RFC's: it refuses empty list
//! elements, leading zeros, numbers beyond 64 bits, suffixes longer than the file and ranges that overlap.
//!
//! Where the RFC leaves the choice to the server we do as nginx does: what is no range at all is answered with 416, not
//! ignored; ranges beyond the end are left out; ranges come back in the order asked for, not joined; and when all of
//! them together are longer than the whole, the whole is sent. It leaves no choice, and nginx differs, in these:
//! empty list elements are skipped (5.6.1.2; nginx: 416), tabs are blanks (5.6.3; nginx: 416), and numbers that fit no
//! integer are only large (14.1.2; nginx: 416).

use std::ops::Range;

/// With more ranges than this the header is ignored: no player asks for so many, and each costs a read.
const LIMIT: usize = 64;

const BLANKS: [char; 2] = [' ', '\t'];

/// What a `Range` header comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: there is no such header, or it is ignored.
    Whole,
    /// These parts, at least one, none empty, all within the length.
    Parts(Vec<Range<u64>>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a representation of `length` bytes.
pub(super) fn evaluate(value: &str, length: u64) -> Wanted {
    let Some(set) = byte_ranges(value) else { return Wanted::Whole };
    let mut parts = Vec::new();
    let mut total: u64 = 0;
    for specification in set.split(',').map(|text| text.trim_matches(BLANKS)).filter(|text| !text.is_empty()) {
        let Some(range) = bounds(specification, length) else { return Wanted::Unsatisfiable };
        if range.start < range.end {
            if parts.len() == LIMIT {
                return Wanted::Whole;
            }
            total = total.saturating_add(range.end - range.start);
            parts.push(range);
        } else if range.start == 0 {
            // Only an empty representation has no byte 0, and `Content-Range` cannot name a part of it.
            return Wanted::Whole;
        }
    }
    if parts.is_empty() {
        Wanted::Unsatisfiable
    } else if total > length {
        Wanted::Whole
    } else {
        Wanted::Parts(parts)
    }
}

/// What follows `bytes=`; `None` for other units, which are ignored.
fn byte_ranges(value: &str) -> Option<&str> {
    let (unit, set) = value.split_once('=')?;
    (unit.eq_ignore_ascii_case("bytes") && !set.is_empty()).then_some(set)
}

/// `first-last`, `first-` or `-suffix`, cut to the length. Empty when it lies beyond the end or runs backwards, `None`
/// when it is no range.
fn bounds(specification: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = specification.split_once('-')?;
    if first.is_empty() {
        return Some(length.saturating_sub(number(last)?)..length);
    }
    let first = number(first.trim_end_matches(BLANKS))?;
    let end = match last.trim_start_matches(BLANKS) {
        "" => length,
        last => number(last)?.saturating_add(1).min(length),
    };
    Some(first..end)
}

fn number(digits: &str) -> Option<u64> {
    let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    whole.then(|| digits.parse().unwrap_or(u64::MAX))
}
