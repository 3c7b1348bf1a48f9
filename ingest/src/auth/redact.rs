//! Finding a secret in bytes, however its characters are escaped, and replacing it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

const REPLACEMENT: &[u8] = b"REDACTED";

/// The text with every occurrence of the secret replaced, or `None` if there is none. A character of the secret may
/// stand as itself, percent-encoded (once or twice), or as a JSON `\u00xx` escape.
pub fn replace(text: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let first = *secret.first()?;
    let mut result: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut position = 0;
    while position < text.len() {
        let byte = text[position];
        let may_begin = byte == first || byte == b'%' || byte == b'\\';
        match may_begin.then(|| match_at(text, position, secret)).flatten() {
            Some(end) => {
                let result = result.get_or_insert_with(Vec::new);
                result.extend_from_slice(&text[copied..position]);
                result.extend_from_slice(REPLACEMENT);
                copied = end;
                position = end;
            }
            None => position += 1,
        }
    }
    if let Some(result) = &mut result {
        result.extend_from_slice(&text[copied..]);
    }
    result
}

/// Where the secret that begins at `position` ends.
fn match_at(text: &[u8], position: usize, secret: &[u8]) -> Option<usize> {
    secret.iter().try_fold(position, |position, wanted| {
        let (byte, length) = character_at(text.get(position..)?)?;
        (byte == *wanted).then_some(position + length)
    })
}

/// The character at the start of `text` with escapes resolved, and how many bytes it takes.
fn character_at(text: &[u8]) -> Option<(u8, usize)> {
    let escaped = match text {
        [b'%', b'2', b'5', high, low, ..] => hex(*high, *low).map(|byte| (byte, 5)),
        [b'\\', b'u', b'0', b'0', high, low, ..] => hex(*high, *low).map(|byte| (byte, 6)),
        [b'\\', b'/', ..] => Some((b'/', 2)),
        _ => None,
    };
    let once = || match text {
        [b'%', high, low, ..] => hex(*high, *low).map(|byte| (byte, 3)),
        _ => None,
    };
    escaped.or_else(once).or_else(|| text.first().map(|byte| (*byte, 1)))
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// What reads like a key: `prefix` and as many letters and digits as every key has, however they are escaped.
pub fn candidates<'a>(text: &'a [u8], prefix: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    (0..text.len()).filter_map(move |start| candidate_at(text, start, prefix))
}

fn candidate_at(text: &[u8], start: usize, prefix: &[u8]) -> Option<String> {
    let byte = *text.get(start)?;
    if prefix.first() != Some(&byte) && byte != b'%' && byte != b'\\' {
        return None;
    }
    let mut position = match_at(text, start, prefix)?;
    let mut candidate = prefix.to_vec();
    for _ in 0..KEY_LETTERS {
        let (byte, length) = character_at(text.get(position..)?)?;
        if !byte.is_ascii_alphanumeric() {
            return None;
        }
        candidate.push(byte);
        position += length;
    }
    String::from_utf8(candidate).ok()
}

/// What follows the prefix of a key.
const KEY_LETTERS: usize = 43;

/// The parts of a text that may be base64 of something with a key in it, in either alphabet, and what they decode to.
pub fn encoded(text: &[u8]) -> impl Iterator<Item = (&[u8], Vec<u8>)> {
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let parts = text.split(move |byte| !belongs(byte)).filter(|part| part.len() >= SHORTEST_ENCODED);
    parts.filter_map(|part| {
        let standard: Vec<u8> = part
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect();
        Some((part, STANDARD_NO_PAD.decode(standard).ok()?))
    })
}

/// Shorter ones hold no credential worth the name.
const SHORTEST_ENCODED: usize = 20;
