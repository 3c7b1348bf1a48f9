//! Preconditions (RFC 9110, section 13) and the range that is left of a request once they hold. Pure: no file, no clock.
//!
//! The order is that of section 13.2.2. nginx differs: it looks at `If-Unmodified-Since` beside `If-Match` and at
//! `If-Modified-Since` beside `If-None-Match`, takes only an equal date for "not modified", takes a date that it cannot
//! read for an old one, reads only the first line of a list of tags, and answers `HEAD` with ranges. The RFC forbids
//! each of these (13.1.3, 13.1.4, 5.3, 14.2), so ours does as the RFC says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use axum::http::{HeaderMap, HeaderName, Method};

use super::range::{self, Wanted};

/// What the current representation is known by.
#[derive(Clone, Copy, Debug)]
pub(in crate::rest) struct Validators<'a> {
    /// A strong entity tag, in quotes.
    pub etag: &'a str,
    /// When it was stored. A strong validator too: what is stored never changes.
    pub last_modified: Option<SystemTime>,
}

/// What the preconditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rest) enum Precondition {
    /// Go on.
    Holds,
    /// The client has it already: 304.
    NotModified,
    /// 412.
    Failed,
}

/// How tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Evaluates the preconditions of a request.
pub(in crate::rest) fn precondition(method: &Method, headers: &HeaderMap, validators: Validators<'_>) -> Precondition {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if headers.contains_key(IF_MATCH) {
        if !names(headers, IF_MATCH, validators.etag, Comparison::Strong) {
            return Precondition::Failed;
        }
    } else if stored_after(headers, IF_UNMODIFIED_SINCE, validators) == Some(true) {
        return Precondition::Failed;
    }
    let known = if headers.contains_key(IF_NONE_MATCH) {
        names(headers, IF_NONE_MATCH, validators.etag, Comparison::Weak)
    } else {
        reads && stored_after(headers, IF_MODIFIED_SINCE, validators) == Some(false)
    };
    match (known, reads) {
        (false, _) => Precondition::Holds,
        (true, true) => Precondition::NotModified,
        (true, false) => Precondition::Failed,
    }
}

/// The bytes wanted of a representation of `length` bytes, by `Range` and `If-Range`.
pub(super) fn wanted(method: &Method, headers: &HeaderMap, validators: Validators<'_>, length: u64) -> Wanted {
    if *method != Method::GET {
        // Ranges are defined for GET alone (section 14.2).
        return Wanted::Whole;
    }
    let Some(range) = headers.get(RANGE) else { return Wanted::Whole };
    if !if_range_holds(headers, validators) {
        return Wanted::Whole;
    }
    range::evaluate(&String::from_utf8_lossy(range.as_bytes()), length)
}

/// Without the header it holds. A weak tag never equals ours, which is strong.
fn if_range_holds(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    if value.ends_with('"') {
        return value == validators.etag;
    }
    let date = httpdate::parse_http_date(value).ok();
    date.is_some() && date == validators.last_modified.map(whole_seconds)
}

/// `None` when the header is not there or is no date, or we have none ourselves: then it is ignored.
fn stored_after(headers: &HeaderMap, name: HeaderName, validators: Validators<'_>) -> Option<bool> {
    let date = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    Some(whole_seconds(validators.last_modified?) > date)
}

/// Dates in headers have no more.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// True if one of the header's lines names this tag, or says `*`.
fn names(headers: &HeaderMap, name: HeaderName, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|line| {
        let line = line.as_bytes();
        line.trim_ascii() == b"*"
            || tags(line).any(|(weak, tag)| tag == etag.as_bytes() && (comparison == Comparison::Weak || !weak))
    })
}

/// The entity tags of a line, in their quotes, and whether each is weak. What is none is passed over.
fn tags(line: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
            rest = &rest[start..];
            let weak = rest.starts_with(b"W/");
            let tag = if weak { &rest[2..] } else { rest };
            let length = quoted_length(tag);
            // To the next comma: one within the quotes is part of the tag.
            let after = &tag[length..];
            let comma = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
            rest = &after[comma..];
            if length > 0 && after[..comma].trim_ascii().is_empty() {
                return Some((weak, &tag[..length]));
            }
        }
    })
}

/// Length of the quoted text at the start, 0 if there is none.
fn quoted_length(text: &[u8]) -> usize {
    let Some((b'"', inner)) = text.split_first() else { return 0 };
    inner.iter().position(|byte| *byte == b'"').map_or(0, |end| end + 2)
}
