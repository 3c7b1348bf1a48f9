//! `Content-Disposition` (RFC 6266): the name under which a browser saves a recording.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest name in bytes, as in most file systems.
const LONGEST: usize = 255;

/// All but `attr-char` of RFC 8187.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header's value. Names are said twice: in ASCII for old clients, and whole.
pub(super) fn disposition(attachment: bool, file_name: Option<&str>) -> String {
    let kind = if attachment { "attachment" } else { "inline" };
    let name = file_name.map(cleaned).filter(|name| !name.is_empty());
    match name {
        Some(name) => {
            let encoded = utf8_percent_encode(&name, ENCODED);
            format!("{kind}; filename=\"{}\"; filename*=UTF-8''{encoded}", fallback(&name))
        }
        None => kind.to_owned(),
    }
}

/// The last segment, without what steers a terminal or turns the direction of writing (a name that looks like another).
fn cleaned(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().map(|letter| if steers(letter) { '_' } else { letter }).collect();
    let trimmed = shown.trim().trim_start_matches('.');
    // The end is kept: the extension stands there.
    let mut start = trimmed.len().saturating_sub(LONGEST);
    while !trimmed.is_char_boundary(start) {
        start += 1;
    }
    trimmed[start..].to_owned()
}

fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// In ASCII, and without what some clients decode or read as the end (RFC 6266, appendix D).
fn fallback(name: &str) -> String {
    let safe = |letter: char| (letter == ' ' || letter.is_ascii_graphic()) && !matches!(letter, '"' | '\\' | '%' | ';');
    name.chars().map(|letter| if safe(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_said_twice() {
        assert_eq!(disposition(false, None), "inline");
        assert_eq!(
            disposition(false, Some("call_recording_4f1c9d@10.1.2.3.mp3")),
            "inline; filename=\"call_recording_4f1c9d@10.1.2.3.mp3\"; \
             filename*=UTF-8''call_recording_4f1c9d%4010.1.2.3.mp3"
        );
        assert_eq!(
            disposition(true, Some("Gespräch €.wav")),
            "attachment; filename=\"Gespr_ch _.wav\"; filename*=UTF-8''Gespr%C3%A4ch%20%E2%82%AC.wav"
        );
    }

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(
            disposition(false, Some("../../etc/passwd")),
            "inline; filename=\"passwd\"; filename*=UTF-8''passwd"
        );
        assert_eq!(
            disposition(false, Some("a\"; x=\"\r\nSet-Cookie: b")),
            "inline; filename=\"a__ x=___Set-Cookie: b\"; filename*=UTF-8''a%22%3B%20x%3D%22__Set-Cookie%3A%20b"
        );
        assert_eq!(disposition(false, Some("..")), "inline");
        let long = format!("{}.wav", "ä".repeat(4000));
        let shown = cleaned(&long);
        assert!(shown.len() <= LONGEST && shown.ends_with("ä.wav"), "{shown}");
    }
}
