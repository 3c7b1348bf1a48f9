//! `Accept`: which form the client wants.

use std::cmp::Reverse;

use super::Format;

/// Quality, then how specific the range is, then its place in the header.
type Rank = (f32, u8, Reverse<usize>);

/// The best form that the header allows; JSON without one, `None` if there is none that it allows.
pub fn negotiate(accept: Option<&str>) -> Option<Format> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Some(Format::Json) };
    let ranges: Vec<Range> = accept.split(',').filter_map(Range::parse).collect();
    let mut best: Option<(Format, Rank)> = None;
    for format in Format::ALL {
        if let Some(rank) = rank(&ranges, format)
            && rank.0 > 0.0
            && best.is_none_or(|(_, other)| rank > other)
        {
            best = Some((format, rank));
        }
    }
    best.map(|(format, _)| format)
}

/// The most specific range that matches decides.
fn rank(ranges: &[Range], format: Format) -> Option<Rank> {
    let matching = ranges.iter().enumerate().filter_map(|(at, range)| {
        let specificity = range.specificity(format.media_type())?;
        Some((range.quality, specificity, Reverse(at)))
    });
    matching.max_by_key(|(_, specificity, at)| (*specificity, *at))
}

struct Range {
    kind: String,
    quality: f32,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next()?.to_ascii_lowercase();
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1.0), |(_, value)| value.trim().parse::<f32>().ok())?;
        Some(Range { kind, quality: quality.clamp(0.0, 1.0) })
    }

    fn specificity(&self, media_type: &str) -> Option<u8> {
        match self.kind.split_once('/') {
            Some(("*", "*")) => Some(0),
            Some((kind, "*")) => media_type.split_once('/').is_some_and(|(of, _)| of == kind).then_some(1),
            _ => (self.kind == media_type).then_some(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_what_is_asked_for() {
        assert_eq!(negotiate(None), Some(Format::Json));
        assert_eq!(negotiate(Some("*/*")), Some(Format::Json));
        assert_eq!(negotiate(Some("text/csv")), Some(Format::Csv));
        assert_eq!(negotiate(Some("text/*")), Some(Format::Csv));
        assert_eq!(negotiate(Some("text/html, application/x-ndjson;q=0.5, */*;q=0.1")), Some(Format::Ndjson));
        assert_eq!(negotiate(Some("application/vnd.apache.arrow.stream")), Some(Format::Arrow));
        assert_eq!(negotiate(Some("Application/Vnd.Apache.Parquet; q=1")), Some(Format::Parquet));
        assert_eq!(negotiate(Some("application/json;q=0, */*")), Some(Format::Ndjson));
        assert_eq!(negotiate(Some("text/csv, */*")), Some(Format::Csv));
        assert_eq!(negotiate(Some("*/*, text/*")), Some(Format::Csv));
        assert_eq!(negotiate(Some("text/csv, application/json")), Some(Format::Csv));
        assert_eq!(negotiate(Some("text/csv;q=0.5, */*")), Some(Format::Json));
        assert_eq!(negotiate(Some("text/html")), None);
        assert_eq!(negotiate(Some("application/json;q=0")), None);
    }
}
