//! One event as a log record: `u32 length of attributes | attributes | payload`, little endian.
//!
//! Attributes are MessagePack with field names; then the length has its highest bit set. Logs of before have JSON.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use bytes::{BufMut, Bytes, BytesMut};
use compact_str::CompactString;
use rmp::decode::{read_bool, read_int, read_map_len, read_str_from_slice, read_str_len};

use crate::error::Error;
use crate::event::{Event, Headers, Source};

/// Set in the length of attributes that are MessagePack.
const PACKED: u32 = 1 << 31;

/// Encodes an event.
///
/// # Errors
/// `Corrupt` if the attributes cannot be written.
pub fn encode(event: &Event) -> Result<Bytes, Error> {
    let attributes =
        rmp_serde::to_vec_named(event).map_err(|error| Error::Corrupt(format!("event attributes: {error}")))?;
    let length = u32::try_from(attributes.len()).ok().filter(|length| length & PACKED == 0);
    let length = length.ok_or_else(|| Error::Corrupt("event attributes over 2 GiB".into()))? | PACKED;
    let mut record = BytesMut::with_capacity(4 + attributes.len() + event.payload.len());
    record.put_u32_le(length);
    record.put_slice(&attributes);
    record.put_slice(&event.payload);
    Ok(record.freeze())
}

/// Decodes a record; the payload shares the record's memory.
///
/// # Errors
/// `Corrupt` if it is not a record.
pub fn decode(record: &Bytes) -> Result<Event, Error> {
    Records::default().decode(record)
}

/// Decodes records, those with the same headers so that they share them. For some thousand at most: it forgets none.
#[derive(Debug, Default)]
pub struct Records {
    /// By how they stand in a record.
    headers: HashMap<Bytes, Arc<Headers>, RandomState>,
}

impl Records {
    /// See [`decode`].
    ///
    /// # Errors
    /// `Corrupt` if it is not a record.
    pub fn decode(&mut self, record: &Bytes) -> Result<Event, Error> {
        let corrupt = |what: &str| Error::Corrupt(format!("log record: {what}"));
        let length = record.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let length = length.ok_or_else(|| corrupt("too short"))?;
        let end = 4 + (length & !PACKED) as usize;
        let attributes = record.get(4..end).ok_or_else(|| corrupt("attributes are cut off"))?;
        let mut event: Event = if length & PACKED == 0 {
            serde_json::from_slice(attributes).map_err(|error| corrupt(&error.to_string()))?
        } else {
            let read = self.unpack(&record.slice(4..end)).map_or_else(|| rmp_serde::from_slice(attributes), Ok);
            read.map_err(|error| corrupt(&error.to_string()))?
        };
        event.payload = record.slice(end..);
        Ok(event)
    }

    /// Reads attributes as this version writes them, in less time than what reads those of all versions: a long log has
    /// millions. `None` for those of others, and for what is none.
    fn unpack(&mut self, attributes: &Bytes) -> Option<Event> {
        let bytes = &mut &attributes[..];
        let (mut id, mut tenant, mut source, mut kind, mut received_at) = (None, None, None, None, None);
        let (mut subject, mut structured, mut method, mut path) = (None, false, None, None);
        let (mut query, mut headers, mut content_type, mut error) = (None, None, None, None);
        for _ in 0..read_map_len(bytes).ok()? {
            match name(bytes)? {
                b"id" => id = Some(text(bytes)?.into()),
                b"tenant" => tenant = Some(text(bytes)?.into()),
                b"source" => source = Some(Source::parse(text(bytes)?)?),
                b"type" => kind = Some(text(bytes)?.into()),
                b"received_at" => received_at = Some(read_int(bytes).ok()?),
                b"subject" => subject = Some(text(bytes)?.into()),
                b"structured" => structured = read_bool(bytes).ok()?,
                b"method" => method = Some(text(bytes)?.into()),
                b"path" => path = Some(text(bytes)?.into()),
                b"query" => query = Some(text(bytes)?.into()),
                b"headers" => headers = Some(self.headers(bytes, attributes)?),
                b"content_type" => content_type = Some(usual_text(text(bytes)?)),
                b"error" => error = Some(text(bytes)?.to_owned()),
                _ => return None,
            }
        }
        bytes.is_empty().then_some(Event {
            id: id?,
            tenant: tenant?,
            source: source?,
            kind: kind?,
            received_at: received_at?,
            subject,
            structured,
            method,
            path,
            query,
            headers: headers.unwrap_or_default(),
            content_type,
            error,
            payload: Bytes::new(),
        })
    }

    /// The headers that stand here in the attributes.
    fn headers(&mut self, bytes: &mut &[u8], attributes: &Bytes) -> Option<Arc<Headers>> {
        let mut rest = *bytes;
        for _ in 0..2 * u64::from(read_map_len(&mut rest).ok()?) {
            name(&mut rest)?;
        }
        let here = &bytes[..bytes.len() - rest.len()];
        if let Some(known) = self.headers.get(here) {
            *bytes = rest;
            return Some(Arc::clone(known));
        }
        let here = attributes.slice_ref(here);
        let headers = Arc::new(unpack_headers(bytes)?);
        self.headers.insert(here, Arc::clone(&headers));
        Some(headers)
    }
}

fn name<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read_str_len(bytes).ok()? as usize;
    let (name, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(name)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (text, rest) = read_str_from_slice(*bytes).ok()?;
    *bytes = rest;
    Some(text)
}

fn unpack_headers(bytes: &mut &[u8]) -> Option<Headers> {
    let (count, mut headers) = (read_map_len(bytes).ok()?, Headers::new());
    headers.reserve(count as usize);
    for _ in 0..count {
        headers.insert(text(bytes)?.into(), usual_text(text(bytes)?));
    }
    Some(headers)
}

/// The content type that most messages have, also among their headers, is too long to stand in its place, and is not to
/// be allocated for each of them.
fn usual_text(text: &str) -> CompactString {
    const FORM: &str = "application/x-www-form-urlencoded";
    if text == FORM { CompactString::const_new(FORM) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_alike_in_both_ways() {
        let all = Event {
            id: "0190f7a2-0000-7000-8000-000000000000".into(),
            tenant: "acme".into(),
            source: Source::Voispeed,
            kind: "voispeed.user.ringing".into(),
            received_at: 1_767_323_045_000_006,
            subject: Some("a call's key that is longer than what stands in its place".into()),
            structured: true,
            method: Some("POST".into()),
            path: Some("/in/voispeed/some/longer/path".into()),
            query: Some("ä=%20".into()),
            headers: Arc::new(
                [("user-agent", "x"), ("x-hook-id", "7")].map(|(name, value)| (name.into(), value.into())).into(),
            ),
            content_type: Some("application/x-www-form-urlencoded".into()),
            error: Some("why".into()),
            payload: Bytes::new(),
        };
        let least = Event {
            received_at: -1,
            subject: None,
            structured: false,
            method: None,
            path: None,
            query: None,
            headers: Arc::default(),
            content_type: None,
            error: None,
            ..all.clone()
        };
        for event in [all, least] {
            let packed = Bytes::from(rmp_serde::to_vec_named(&event).expect("packed"));
            let mut records = Records::default();
            let unpacked = [(); 2].map(|()| records.unpack(&packed).expect("of this version"));
            assert!(unpacked.iter().all(|unpacked| *unpacked == event), "{unpacked:?}");
            let [first, second] = unpacked.map(|unpacked| unpacked.headers);
            assert!(Arc::ptr_eq(&first, &second) || event.headers.is_empty(), "the same headers are shared");
            assert_eq!(rmp_serde::from_slice::<Event>(&packed).expect("unpacked"), event);
            assert!((0..packed.len()).all(|length| records.unpack(&packed.slice(..length)).is_none()));
        }
    }

    #[test]
    fn attributes_of_another_version_are_read_too() {
        let other = serde_json::json!({
            "id": "one", "tenant": "acme", "source": "kazoo", "type": "kazoo.pivot", "received_at": 7,
            "later": [{"a": 1}], "subject": null,
        });
        let packed = rmp_serde::to_vec_named(&other).expect("packed");
        let length = (u32::try_from(packed.len()).expect("short") | PACKED).to_le_bytes();
        assert!(Records::default().unpack(&Bytes::from(packed.clone())).is_none());
        let event = decode(&Bytes::from([&length[..], &packed, b"body"].concat())).expect("read");
        assert_eq!((&*event.id, event.subject, &event.payload[..]), ("one", None, &b"body"[..]));
    }

    #[test]
    fn records_of_before_are_read_as_those_of_now() {
        let json = serde_json::json!({
            "id": "one", "tenant": "acme", "source": "kazoo", "type": "kazoo.pivot", "received_at": 7,
            "subject": "call", "path": "/in/kazoo", "headers": { "user-agent": "Kazoo" },
        });
        let attributes = json.to_string();
        let length = u32::try_from(attributes.len()).expect("short");
        let before = [&length.to_le_bytes()[..], attributes.as_bytes(), b"body"].concat();
        let event = decode(&Bytes::from(before)).expect("JSON");
        assert_eq!(
            (&*event.id, event.headers["user-agent"].as_str(), &event.payload[..]),
            ("one", "Kazoo", &b"body"[..])
        );
        assert_eq!(decode(&encode(&event).expect("packed")).expect("MessagePack"), event);
    }

    #[test]
    fn what_is_cut_off_is_no_record() {
        let json = serde_json::json!({
            "id": "one", "tenant": "acme", "source": "kazoo", "type": "kazoo.pivot", "received_at": 7,
        });
        let record = encode(&serde_json::from_value(json).expect("an event")).expect("packed");
        for length in 0..record.len() {
            assert!(decode(&record.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
