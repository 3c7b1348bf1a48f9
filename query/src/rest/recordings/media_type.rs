//! Which media type recordings are served as, and what a client's `Accept` says about one.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// For what is not known to be sound or moving pictures.
pub(super) const UNKNOWN: &str = "application/octet-stream";

/// Decoded audio.
pub(super) const WAV: &str = "audio/wav";

/// Names of one type; the first is the one that we send.
const SAME: [&[&str]; 5] = [
    &[WAV, "audio/x-wav", "audio/wave", "audio/vnd.wave"],
    &["audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mpeg", "audio/x-mp3"],
    &["audio/ogg", "application/ogg"],
    &["audio/flac", "audio/x-flac"],
    &["audio/mp4", "audio/m4a", "audio/x-m4a"],
];

/// The type to send: what the bytes are, else what the sender said, as far as a browser runs nothing of that type.
pub(super) fn served(container: Option<&str>, claimed: Option<&str>) -> String {
    let probed = match container {
        Some("wav" | "wave" | "riff") => Some(WAV),
        Some("mp3" | "mpeg") => Some("audio/mpeg"),
        Some("ogg") => Some("audio/ogg"),
        Some("flac") => Some("audio/flac"),
        Some("mp4" | "m4a" | "isomp4") => Some("audio/mp4"),
        Some("aac" | "adts") => Some("audio/aac"),
        Some("aiff") => Some("audio/aiff"),
        _ => None,
    };
    probed.map_or_else(|| harmless(claimed.unwrap_or_default()), str::to_owned)
}

/// The type without its parameters if it is audio or video, else [`UNKNOWN`].
pub(super) fn harmless(claimed: &str) -> String {
    let essence = claimed.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    match essence.split_once('/') {
        Some(("audio" | "video", kind)) if token(kind) => essence,
        Some(("application", "ogg")) => essence,
        _ => UNKNOWN.to_owned(),
    }
}

/// What a client takes.
#[derive(Clone, Debug)]
pub(super) struct Accept {
    /// Media ranges with their quality.
    ranges: Vec<(String, f32)>,
}

impl Accept {
    /// Without the header, or with an empty one, everything is taken.
    pub(super) fn of(headers: &HeaderMap) -> Accept {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(',')).filter_map(media_range).collect();
        Accept { ranges }
    }

    /// From 0, not taken, to 1. The most specific range that fits decides.
    pub(super) fn quality(&self, media_type: &str) -> f32 {
        if self.ranges.is_empty() {
            return 1.0;
        }
        let mut best: Option<(u8, f32)> = None;
        for (range, quality) in &self.ranges {
            if let Some(specific) = specificity(range, media_type)
                && best.is_none_or(|(other, _)| specific > other)
            {
                best = Some((specific, *quality));
            }
        }
        best.map_or(0.0, |(_, quality)| quality)
    }

    /// True if this type may be sent.
    pub(super) fn takes(&self, media_type: &str) -> bool {
        self.quality(media_type) > 0.0
    }
}

fn media_range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| range.contains('/'))?.to_ascii_lowercase();
    let quality = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map_or(Some(1.0), |(_, value)| value.trim().parse::<f32>().ok())?;
    Some((range, quality.clamp(0.0, 1.0)))
}

fn specificity(range: &str, media_type: &str) -> Option<u8> {
    match range.split_once('/') {
        Some(("*", "*")) => Some(0),
        Some((kind, "*")) => media_type.split_once('/').is_some_and(|(of, _)| of == kind).then_some(1),
        _ if range == media_type => Some(3),
        _ => SAME.iter().any(|names| names.contains(&range) && names.contains(&media_type)).then_some(2),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn bytes_win_over_claims() {
        assert_eq!(served(Some("wav"), Some("text/html")), "audio/wav");
        assert_eq!(served(Some("mp3"), Some("audio/wav")), "audio/mpeg");
        assert_eq!(served(None, Some("Audio/X-Wav; rate=8000")), "audio/x-wav");
        assert_eq!(served(Some("strange"), Some("video/mp4")), "video/mp4");
        for dangerous in ["text/html", "image/svg+xml", "application/xhtml+xml", "audio/", "audio/a b", "audio/*", ""] {
            assert_eq!(served(None, Some(dangerous)), UNKNOWN, "{dangerous}");
        }
        assert_eq!(served(None, None), UNKNOWN);
    }

    fn accept(value: &'static str) -> Accept {
        Accept::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_most_specific_range_decides() {
        assert!(Accept::of(&HeaderMap::new()).takes("audio/mpeg"));
        assert!(accept("").takes("audio/mpeg"));
        assert!(accept("*/*").takes("audio/mpeg"));
        assert!(accept("audio/*;q=0.1, text/html").takes("audio/mpeg"));
        assert!(!accept("audio/wav").takes("audio/mpeg"));
        assert!(!accept("audio/mpeg;q=0, */*").takes("audio/mpeg"));
        assert!(accept("audio/x-wav, audio/*;q=0").takes(WAV));
        assert!(!accept("audio/*;q=0, audio/x-wav").takes("audio/mpeg"));
        assert!((accept("audio/wav;q=0.5, audio/x-wav").quality(WAV) - 0.5).abs() < f32::EPSILON);
        assert!(!accept("text/html").takes(WAV));
    }
}
