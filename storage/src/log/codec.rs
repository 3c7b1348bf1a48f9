//! One event as a log record: `u32 length of attributes | attributes as JSON | payload`, little endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;
use crate::event::Event;

/// Encodes an event.
///
/// # Errors
/// `Corrupt` if the attributes cannot be written as JSON.
pub fn encode(event: &Event) -> Result<Bytes, Error> {
    let attributes = serde_json::to_vec(event).map_err(|error| Error::Corrupt(format!("event attributes: {error}")))?;
    let length = u32::try_from(attributes.len()).map_err(|_| Error::Corrupt("event attributes over 4 GiB".into()))?;
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
    let corrupt = |what: &str| Error::Corrupt(format!("log record: {what}"));
    let length = record.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let end = 4 + length.ok_or_else(|| corrupt("too short"))? as usize;
    let attributes = record.get(4..end).ok_or_else(|| corrupt("attributes are cut off"))?;
    let mut event: Event = serde_json::from_slice(attributes).map_err(|error| corrupt(&error.to_string()))?;
    event.payload = record.slice(end..);
    Ok(event)
}
