//! Fields of a message: strictly decoded, in order, duplicates kept; JSON and multipart bodies read as the same thing.

mod multipart;

use std::borrow::Cow;

use serde_json::Value;
use trunklog_storage::event::Event;

use crate::accept::media_type;

/// For more pairs than any sender's form has, no room is made before they are read.
const MOST_RESERVED: usize = 64;

/// Why fields could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A `%` that is not followed by two hex digits.
    #[error("invalid percent-encoding")]
    PercentEncoding,
    /// Bytes that are no UTF-8 after decoding.
    #[error("invalid UTF-8")]
    Utf8,
    /// Not JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// JSON, but not an object.
    #[error("the JSON body is not an object")]
    NotAnObject,
    /// Multipart without its boundary, or with a part without a name.
    #[error("malformed multipart body")]
    Multipart,
}

/// A name or a value: what needs no decoding is not copied.
type Text<'a> = Cow<'a, str>;

/// Pairs of name and value in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form<'a> {
    pairs: Vec<(Text<'a>, Text<'a>)>,
}

impl Form<'static> {
    /// The fields of a JSON object: nested objects as `a[b]`, lists as `a[]`, all values as text, nulls left out.
    pub fn parse_json(text: &[u8]) -> Result<Self, FormError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| FormError::Json(error.to_string()))?;
        Form::of_json(value)
    }

    /// The same of a document that is parsed already.
    pub fn of_json(value: Value) -> Result<Self, FormError> {
        let Value::Object(object) = value else { return Err(FormError::NotAnObject) };
        let mut form = Form::default();
        object.into_iter().for_each(|(name, value)| form.flatten(name, value));
        Ok(form)
    }

    fn flatten(&mut self, name: String, value: Value) {
        match value {
            Value::Null => {}
            Value::Bool(flag) => self.pairs.push((name.into(), flag.to_string().into())),
            Value::Number(number) => self.pairs.push((name.into(), number.to_string().into())),
            Value::String(text) => self.pairs.push((name.into(), text.into())),
            Value::Array(items) => items.into_iter().for_each(|item| self.flatten(format!("{name}[]"), item)),
            Value::Object(object) => {
                object.into_iter().for_each(|(key, value)| self.flatten(format!("{name}[{key}]"), value));
            }
        }
    }
}

impl<'a> Form<'a> {
    /// Decodes a query or a form body: `+` is a space, percent-encoding and UTF-8 must be right.
    pub fn parse(text: &'a [u8]) -> Result<Self, FormError> {
        let text = std::str::from_utf8(text).map_err(|_| FormError::Utf8)?;
        let count = text.bytes().filter(|byte| *byte == b'=').count();
        let mut pairs = Vec::with_capacity(count.min(MOST_RESERVED));
        // Names and values are short: to look at each byte is faster than to search for the next one that matters.
        let (mut name, mut begun, mut is_plain) = (None, 0, true);
        for (at, byte) in text.bytes().chain([b'&']).enumerate() {
            match byte {
                b'=' if name.is_none() => {
                    name = Some(decoded(&text[begun..at], is_plain)?);
                    (begun, is_plain) = (at + 1, true);
                }
                b'&' => {
                    let value = decoded(&text[begun..at], is_plain)?;
                    match name.take() {
                        Some(name) => pairs.push((name, value)),
                        None if value.is_empty() => {}
                        None => pairs.push((value, Text::Borrowed(""))),
                    }
                    (begun, is_plain) = (at + 1, true);
                }
                b'+' | b'%' => is_plain = false,
                _ => {}
            }
        }
        Ok(Form { pairs })
    }

    /// Pairs of the query and, after them, of the body: a form, a JSON object or multipart, by content type and look.
    pub fn of_event(event: &'a Event) -> Result<Self, FormError> {
        let mut form = Form::parse(event.query.as_deref().unwrap_or_default().as_bytes())?;
        let body = Form::of_body(event.content_type.as_deref(), &event.payload)?;
        if form.pairs.is_empty() {
            return Ok(body);
        }
        form.pairs.extend(body.pairs);
        Ok(form)
    }

    /// The fields of a body.
    pub fn of_body(content_type: Option<&str>, body: &'a [u8]) -> Result<Self, FormError> {
        let media_type = media_type(content_type);
        let trimmed = body.trim_ascii();
        if trimmed.is_empty() {
            Ok(Form::default())
        } else if media_type == "multipart/form-data" {
            let pairs = multipart::parse(content_type.unwrap_or_default(), body)?;
            Ok(Form { pairs: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() })
        } else if trimmed.starts_with(b"{") || is_json(&media_type) {
            Form::parse_json(trimmed)
        } else {
            Form::parse(trimmed)
        }
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of this name that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// All pairs, taken out.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.pairs.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(Text<'a>, Text<'a>)] {
        &self.pairs
    }
}

/// `application/json` and everything that ends in `+json`.
pub fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json")
}

fn split_pair(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|byte| *byte == b'=') {
        Some(position) => (&part[..position], &part[position + 1..]),
        None => (part, &[]),
    }
}

/// Decodes `+` and percent-encoding, strictly.
pub fn decode(text: &[u8]) -> Result<Cow<'_, str>, FormError> {
    let is_plain = !text.iter().any(|byte| matches!(byte, b'+' | b'%'));
    decoded(std::str::from_utf8(text).map_err(|_| FormError::Utf8)?, is_plain)
}

/// `is_plain`: it has neither `+` nor `%`.
fn decoded(text: &str, is_plain: bool) -> Result<Cow<'_, str>, FormError> {
    if is_plain {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let [high, low, after @ ..] = tail else { return Err(FormError::PercentEncoding) };
                decoded.push(hex_pair(*high, *low).ok_or(FormError::PercentEncoding)?);
                rest = after;
            }
            byte => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| FormError::Utf8)
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Pairs without strictness, for finding a key in a form that may be broken elsewhere.
pub fn lenient_pairs(text: &[u8]) -> Vec<(String, String)> {
    let lenient = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_encoding::percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    let parts = text.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    parts.map(split_pair).map(|(name, value)| (lenient(name), lenient(value))).collect()
}

/// The same for a body, which may also be a JSON object.
pub fn lenient_body_pairs(body: &[u8]) -> Vec<(String, String)> {
    let trimmed = body.trim_ascii();
    if trimmed.starts_with(b"{") {
        Form::parse_json(trimmed).map(Form::into_pairs).unwrap_or_default()
    } else {
        lenient_pairs(trimmed)
    }
}

#[cfg(test)]
mod tests;
