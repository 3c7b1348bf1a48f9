//! A scanner for answers that are nearly XML: tags that are not closed, not finished, or closed under another name.
//!
//! A value is the text from `<name>` up to the next `<`; names are read without blanks; a new `<call>` closes the row
//! before it if that has any value, because `<call>` also stands where `</call>` is meant.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::escape::unescape;

use super::{Row, insert};

/// Where the rows stand.
pub(super) fn rows(body: &[u8]) -> Vec<Range<usize>> {
    let mut rows = Vec::new();
    let (mut open, mut filled) = (None, false);
    for tag in Tags::of(body) {
        let is_call = tag.name == "call";
        // Where the row before this tag ends, if this tag ends it.
        let end = match (is_call, tag.closing) {
            (true, true) => Some(tag.end),
            (true, false) => Some(tag.start),
            (false, true) if tag.name == "result" => Some(tag.start),
            _ => None,
        };
        if let Some(end) = end {
            rows.extend(open.filter(|_| filled).map(|start| start..end));
            open = (is_call && !tag.closing).then_some(tag.start);
            filled = false;
        } else if open.is_some() && !tag.closing && !tag.value.is_empty() {
            filled = true;
        }
    }
    rows.extend(open.filter(|_| filled).map(|start| start..body.len()));
    for row in &mut rows {
        row.end = row.start + body[row.clone()].trim_ascii_end().len();
    }
    rows
}

/// The fields of a row.
pub(super) fn row(payload: &[u8]) -> Row {
    let mut row = Row::new();
    for tag in Tags::of(payload).filter(|tag| !tag.closing && tag.name != "call" && !tag.name.is_empty()) {
        insert(&mut row, &tag.name, &text(tag.value));
    }
    row
}

/// Whether a body without rows is an answer of the PBX all the same.
pub(super) fn is_answer(body: &[u8]) -> bool {
    Tags::of(body).any(|tag| !tag.closing && tag.name == "result")
}

/// One tag and the text behind it.
struct Tag<'a> {
    start: usize,
    end: usize,
    name: String,
    closing: bool,
    value: &'a [u8],
}

struct Tags<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Tags<'a> {
    fn of(body: &'a [u8]) -> Tags<'a> {
        Tags { body, at: 0 }
    }

    /// Where `needle` stands at or after `from`, else the end of the body.
    fn locate(&self, needle: &[u8], from: usize) -> usize {
        let rest = &self.body[from.min(self.body.len())..];
        rest.windows(needle.len()).position(|window| window == needle).map_or(self.body.len(), |found| from + found)
    }

    fn find_any(&self, needles: [u8; 2], from: usize) -> usize {
        let rest = &self.body[from.min(self.body.len())..];
        rest.iter().position(|byte| needles.contains(byte)).map_or(self.body.len(), |found| from + found)
    }

    /// Skips a comment, a processing instruction or a CDATA section that starts here.
    fn skip_other_markup(&mut self) -> bool {
        let rest = &self.body[self.at..];
        let terminator: &[u8] = match rest {
            _ if rest.starts_with(b"<!--") => b"-->",
            _ if rest.starts_with(CDATA) => b"]]>",
            _ if rest.starts_with(b"<?") => b">",
            _ => return false,
        };
        self.at = (self.locate(terminator, self.at) + terminator.len()).min(self.body.len());
        true
    }

    /// The text from here to the next tag; a CDATA section counts as text.
    fn value(&self, from: usize) -> &'a [u8] {
        let rest = &self.body[from..];
        let blanks = rest.len() - rest.trim_ascii_start().len();
        if rest[blanks..].starts_with(CDATA) {
            let start = from + blanks + CDATA.len();
            return self.body[start..self.locate(b"]]>", start)].trim_ascii();
        }
        self.body[from..self.locate(b"<", from)].trim_ascii()
    }
}

const CDATA: &[u8] = b"<![CDATA[";

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            self.at = self.locate(b"<", self.at);
            if self.at >= self.body.len() {
                return None;
            }
            if !self.skip_other_markup() {
                break;
            }
        }
        let start = self.at;
        let stop = self.find_any([b'<', b'>'], start + 1);
        let end = if self.body.get(stop) == Some(&b'>') { stop + 1 } else { stop };
        let inner = String::from_utf8_lossy(&self.body[start + 1..stop]);
        self.at = end;
        Some(Tag {
            start,
            end,
            name: name(&inner),
            closing: inner.trim_start().starts_with('/'),
            value: self.value(end),
        })
    }
}

/// The name in a tag: without blanks, as in `connected _id`, but also without attributes.
fn name(inner: &str) -> String {
    let inner = inner.trim().trim_start_matches('/').trim_end_matches('/').trim();
    let name = if inner.contains('=') { inner.split_whitespace().next().unwrap_or_default() } else { inner };
    name.chars().filter(|letter| !letter.is_whitespace()).map(|letter| letter.to_ascii_lowercase()).collect()
}

fn text(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    unescape(&text).map(Cow::into_owned).unwrap_or_else(|_| text.to_string())
}
