//! The body of an answer with several ranges: `multipart/byteranges` (RFC 9110, section 14.6).

use std::future::ready;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};

use super::serve::Content;

/// What such a body is made of. Its length is known before a byte is read.
#[derive(Debug)]
pub(super) struct Multipart {
    boundary: String,
    /// The lines before each part, and the part.
    parts: Vec<(Bytes, Range<u64>)>,
    end: Bytes,
}

impl Multipart {
    /// Parts of a representation of `length` bytes, in this order. The boundary must not occur in the content.
    pub(super) fn new(parts: Vec<Range<u64>>, length: u64, media_type: &str, boundary: String) -> Multipart {
        let head = |range: &Range<u64>| {
            let content_range = content_range(range, length);
            format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range}\r\n\r\n")
        };
        let parts = parts.into_iter().map(|range| (Bytes::from(head(&range)), range)).collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        Multipart { boundary, parts, end }
    }

    /// The value of `Content-Type`.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Bytes of the whole body.
    pub(super) fn bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|(head, range)| head.len() as u64 + (range.end - range.start));
        parts.sum::<u64>() + self.end.len() as u64
    }

    /// The body; one part is read after the other.
    pub(super) fn stream<C: Content>(self, content: C) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let end = self.end;
        let parts = stream::iter(self.parts).flat_map(move |(head, range)| {
            let head = ready(Ok::<Bytes, io::Error>(head));
            stream::once(head).chain(content.pieces(range))
        });
        parts.chain(stream::once(ready(Ok(end))))
    }
}

/// The value of `Content-Range`. The range must not be empty.
pub(super) fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}
