//! What a part of a multipart body holds, without the base64 that some senders put around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use crate::reject::Refusal;

/// So much is looked at to find out what a part holds.
const HEAD_BYTES: usize = 256;
/// The head of a data URL is no longer than this.
const DATA_URL_BYTES: usize = 200;
/// Fewer letters than this say nothing about audio.
const SHORTEST_AUDIO: usize = 8;

/// A part on its way in: undecided until its beginning is there.
pub(super) enum Transfer {
    /// Not enough came to tell.
    Undecided {
        /// What came.
        head: Vec<u8>,
        /// The sender says that it is base64.
        announced: bool,
    },
    /// As it is.
    Plain,
    /// In base64.
    Encoded(Encoded),
}

impl Transfer {
    /// A part of which the sender says that it is base64, or does not.
    pub fn new(announced: bool) -> Transfer {
        Transfer::Undecided { head: Vec::new(), announced }
    }

    /// What these bytes of the part stand for.
    ///
    /// # Errors
    /// 400 for base64 that is damaged.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Bytes, Refusal> {
        match self {
            Transfer::Plain => Ok(bytes),
            Transfer::Encoded(encoded) => encoded.feed(&bytes),
            Transfer::Undecided { head, .. } => {
                head.extend_from_slice(&bytes);
                if head.len() < HEAD_BYTES { Ok(Bytes::new()) } else { self.decide() }
            }
        }
    }

    /// What is left when the part ends.
    ///
    /// # Errors
    /// As [`Transfer::feed`].
    pub fn finish(mut self) -> Result<Bytes, Refusal> {
        let decided = self.decide()?;
        let Transfer::Encoded(encoded) = self else { return Ok(decided) };
        let last = encoded.finish()?;
        Ok(if last.is_empty() { decided } else { Bytes::from([&decided[..], &last[..]].concat()) })
    }

    fn decide(&mut self) -> Result<Bytes, Refusal> {
        let Transfer::Undecided { head, announced } = self else { return Ok(Bytes::new()) };
        let (head, announced) = (std::mem::take(head), *announced);
        let (skipped, in_url) = data_url(&head);
        let text = &head[skipped..];
        let is_encoded = in_url || (announced && is_base64(text)) || is_encoded_audio(text);
        if !is_encoded {
            *self = Transfer::Plain;
            return Ok(Bytes::from(head));
        }
        let mut encoded = Encoded::default();
        let decoded = encoded.feed(text)?;
        *self = Transfer::Encoded(encoded);
        Ok(decoded)
    }
}

/// Base64 of which some was decoded.
#[derive(Default)]
pub(super) struct Encoded {
    rest: Vec<u8>,
    padded: bool,
}

impl Encoded {
    /// Decodes whole groups of four letters and keeps the others. White space does not count.
    fn feed(&mut self, text: &[u8]) -> Result<Bytes, Refusal> {
        for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'=' => self.padded = true,
                _ if self.padded => return Err(damaged()),
                byte => self.rest.push(*byte),
            }
        }
        let whole = self.rest.len() / 4 * 4;
        let decoded = STANDARD_NO_PAD.decode(&self.rest[..whole]).map_err(|_| damaged())?;
        self.rest.drain(..whole);
        Ok(Bytes::from(decoded))
    }

    /// The last letters: padding may be missing.
    fn finish(self) -> Result<Vec<u8>, Refusal> {
        STANDARD_NO_PAD.decode(&self.rest).map_err(|_| damaged())
    }
}

fn damaged() -> Refusal {
    Refusal::Unreadable("the base64 of a part is damaged".to_owned())
}

/// How long the head of a `data:` URL in base64 is, if there is one.
fn data_url(head: &[u8]) -> (usize, bool) {
    let end = head.iter().take(DATA_URL_BYTES).position(|byte| *byte == b',');
    match end {
        Some(end) if head.starts_with(b"data:") && head[..end].ends_with(b";base64") => (end + 1, true),
        _ => (0, false),
    }
}

fn is_base64(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=".contains(byte))
}

/// Whether this is the base64 of something that begins as audio does.
fn is_encoded_audio(text: &[u8]) -> bool {
    let letters: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(16).collect();
    if letters.len() < SHORTEST_AUDIO || !is_base64(text) {
        return false;
    }
    let begins_as_audio = |bytes: &[u8]| match bytes {
        [b'R', b'I', b'F', b'F', ..] | [b'O', b'g', b'g', b'S', ..] | [b'f', b'L', b'a', b'C', ..] => true,
        [b'I', b'D', b'3', ..] => true,
        [0xff, second, ..] => second & 0xe0 == 0xe0,
        _ => false,
    };
    let whole = letters.len() / 4 * 4;
    STANDARD_NO_PAD.decode(&letters[..whole]).is_ok_and(|bytes| begins_as_audio(&bytes))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn through(announced: bool, text: &[u8], step: usize) -> Option<Vec<u8>> {
        let mut transfer = Transfer::new(announced);
        let mut result = Vec::new();
        for chunk in text.chunks(step) {
            result.extend_from_slice(&transfer.feed(Bytes::copy_from_slice(chunk)).ok()?);
        }
        result.extend_from_slice(&transfer.finish().ok()?);
        Some(result)
    }

    #[test]
    fn base64_is_taken_off_however_it_is_cut() {
        let audio: Vec<u8> =
            b"RIFF".iter().copied().chain((0..1000_u32).map(|number| (number * 7 % 251) as u8)).collect();
        let text = STANDARD.encode(&audio);
        let lines = text.as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
        let url = format!("data:audio/x-wav;base64,{text}");
        for step in [1, 3, 4, 100, 255, 256, 257, 5000] {
            assert_eq!(through(true, text.as_bytes(), step).as_ref(), Some(&audio), "{step}");
            assert_eq!(through(false, text.as_bytes(), step).as_ref(), Some(&audio), "{step}");
            assert_eq!(through(true, &lines, step).as_ref(), Some(&audio), "{step}");
            assert_eq!(through(false, url.as_bytes(), step).as_ref(), Some(&audio), "{step}");
            assert_eq!(through(true, &audio, step).as_ref(), Some(&audio), "announced, but not so");
            assert_eq!(through(false, &audio, step).as_ref(), Some(&audio), "{step}");
        }
    }

    #[test]
    fn short_and_odd_parts_come_through() {
        for text in
            [&b""[..], b"abcd", b"some random content", b"data:text/plain,hello", b"\xff\xfb\x90\x00", b"UklGRg"]
        {
            assert_eq!(through(false, text, 3).as_deref(), Some(text));
        }
        assert_eq!(through(true, b"aGVsbG8=", 3).as_deref(), Some(&b"hello"[..]));
        assert_eq!(through(true, b"aGVsbG8", 3).as_deref(), Some(&b"hello"[..]));
        assert_eq!(through(true, b"", 3).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn damaged_base64_is_refused() {
        let text = format!("{}*{}", STANDARD.encode([b'R'; 400]), STANDARD.encode([b'R'; 40]));
        assert_eq!(through(true, text.as_bytes(), 64), None);
        let text = format!("{}==AAAA", STANDARD.encode(vec![b'R'; 399]));
        assert_eq!(through(true, text.as_bytes(), 64), None);
    }
}
