//! Multipart uploads of storage plans: a document, then the media, perhaps in base64. Parts may lack names, and
//! `multipart/mixed` is read like `multipart/form-data`. Nothing but the document is held in memory, and a slice of the
//! body: the parser copies whatever it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use multer::{Field, Multipart};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::sync::Mutex;
use trunklog_storage::media::Receiver;

use super::body::Incoming;
use super::target::harmless;
use super::transfer::Transfer;
use crate::accept::media_type;
use crate::form::is_json;
use crate::reject::Refusal;

/// A longer document is refused.
pub(super) const DOCUMENT_BYTES: usize = 64 << 10;
/// The parser gets so much at a time.
const SLICE_BYTES: usize = 16 << 10;
/// Base64 is taken off so much at a time.
const DECODED_AT_ONCE: usize = 4 << 10;
/// So much may come without a part or a piece of one being found in it.
const UNPARSED_LIMIT: usize = 128 << 10;

/// What came with the media.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The document, as sent.
    pub metadata: Option<Bytes>,
    /// Media type as the sender named it.
    pub media_type: Option<String>,
    /// Name of the media's part, decoded and harmless.
    pub name: Option<String>,
}

/// What is known before the first part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// The media is said to be in base64.
    pub base64: bool,
    /// The document is no longer than this.
    pub document_bytes: usize,
}

/// The boundary in a content type, if it is multipart.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    let kind = kind.trim().to_ascii_lowercase();
    if !matches!(kind.as_str(), "multipart/form-data" | "multipart/mixed" | "multipart/related") {
        return None;
    }
    multer::parse_boundary(format!("multipart/form-data;{parameters}")).ok().filter(|boundary| !boundary.is_empty())
}

/// Reads all parts, the media's bytes into `receiver`.
///
/// # Errors
/// Those of the body; 400 if it is no multipart body, 413 if the document is too long, 422 if there is no media.
pub(super) async fn read(
    incoming: &Arc<Mutex<Incoming>>,
    boundary: String,
    expected: Expected,
    receiver: &mut Receiver,
) -> Result<Parts, Refusal> {
    let unparsed = Arc::new(AtomicUsize::new(0));
    let multipart = Multipart::new(pieces(Arc::clone(incoming), Arc::clone(&unparsed)), boundary);
    // The parser is gone when this is over, and with it whatever held the body.
    let parts = parse(multipart, &unparsed, expected, receiver).await;
    match incoming.lock().await.failed.take() {
        Some(refusal) => Err(refusal),
        None => parts,
    }
}

/// The body for the parser, in slices: it reads as long as there is something, so each slice lets it pause.
fn pieces(
    incoming: Arc<Mutex<Incoming>>,
    unparsed: Arc<AtomicUsize>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let begin = (incoming, unparsed, Bytes::new());
    futures::stream::unfold(begin, |(incoming, unparsed, mut rest)| async move {
        tokio::task::yield_now().await;
        let piece = slice(&incoming, &unparsed, &mut rest).await.transpose()?;
        Some((piece, (incoming, unparsed, rest)))
    })
}

/// The next slice, of `rest` as long as there is some.
async fn slice(incoming: &Mutex<Incoming>, unparsed: &AtomicUsize, rest: &mut Bytes) -> std::io::Result<Option<Bytes>> {
    let mut incoming = incoming.lock().await;
    if rest.is_empty() {
        let next = incoming.next().await;
        match next {
            Ok(Some(bytes)) => *rest = bytes,
            Ok(None) => return Ok(None),
            Err(refusal) => return Err(refused(&mut incoming, refusal)),
        }
    }
    let slice = rest.split_to(rest.len().min(SLICE_BYTES));
    let waiting = unparsed.fetch_add(slice.len(), Ordering::Relaxed) + slice.len();
    if waiting > UNPARSED_LIMIT {
        return Err(refused(&mut incoming, malformed("no part was found")));
    }
    Ok(Some(slice))
}

/// Leaves the reason where it outlives the parser.
fn refused(incoming: &mut Incoming, refusal: Refusal) -> std::io::Error {
    incoming.failed = Some(refusal);
    std::io::Error::other("the body was refused")
}

async fn parse(
    mut multipart: Multipart<'static>,
    unparsed: &AtomicUsize,
    expected: Expected,
    receiver: &mut Receiver,
) -> Result<Parts, Refusal> {
    let mut parts = Parts::default();
    let mut found = false;
    while let Some(mut field) = multipart.next_field().await.map_err(malformed)? {
        unparsed.store(0, Ordering::Relaxed);
        let is_document = is_json(&media_type(header(&field, "content-type")));
        if is_document && parts.metadata.is_none() {
            parts.metadata = Some(document(&mut field, unparsed, expected.document_bytes).await?);
        } else if found {
            while next(&mut field, unparsed).await?.is_some() {}
        } else {
            found = true;
            let (kind, of_type) = header(&field, "content-type").map_or((None, false), without_base64);
            parts.media_type = kind;
            parts.name = name(&field);
            let base64 = expected.base64 || of_type || is_base64(&field) || says_base64(parts.metadata.as_deref());
            media(&mut field, unparsed, base64, receiver).await?;
        }
    }
    if found { Ok(parts) } else { Err(Refusal::Unprocessable("no part holds a recording".to_owned())) }
}

async fn media(
    field: &mut Field<'_>,
    unparsed: &AtomicUsize,
    base64: bool,
    receiver: &mut Receiver,
) -> Result<(), Refusal> {
    let mut transfer = Transfer::new(base64);
    while let Some(mut bytes) = next(field, unparsed).await? {
        while !bytes.is_empty() {
            let decoded = transfer.feed(bytes.split_to(bytes.len().min(DECODED_AT_ONCE)))?;
            if !decoded.is_empty() {
                receiver.write(decoded).await?;
            }
        }
    }
    let last = transfer.finish()?;
    if !last.is_empty() {
        receiver.write(last).await?;
    }
    Ok(())
}

async fn document(field: &mut Field<'_>, unparsed: &AtomicUsize, limit: usize) -> Result<Bytes, Refusal> {
    let mut document = BytesMut::new();
    while let Some(bytes) = next(field, unparsed).await? {
        if document.len() + bytes.len() > limit {
            return Err(Refusal::TooLarge(limit));
        }
        document.extend_from_slice(&bytes);
    }
    Ok(document.freeze())
}

async fn next(field: &mut Field<'_>, unparsed: &AtomicUsize) -> Result<Option<Bytes>, Refusal> {
    let bytes = field.chunk().await.map_err(malformed)?;
    unparsed.store(0, Ordering::Relaxed);
    Ok(bytes)
}

fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Unreadable(format!("malformed multipart body: {error}"))
}

fn header<'a>(field: &'a Field<'_>, name: &str) -> Option<&'a str> {
    field.headers().get(name).and_then(|value| value.to_str().ok())
}

fn name(field: &Field<'_>) -> Option<String> {
    let sent = field.file_name().or_else(|| field.name())?;
    Some(harmless(&percent_decode_str(sent).decode_utf8_lossy())).filter(|name| !name.is_empty())
}

/// A media type without the `;base64` that some append as in a `data:` URL, and whether it was there.
fn without_base64(content_type: &str) -> (Option<String>, bool) {
    let is_base64 = |parameter: &&str| parameter.trim().eq_ignore_ascii_case("base64");
    let others: Vec<&str> = content_type.split(';').filter(|parameter| !is_base64(parameter)).collect();
    let announced = content_type.split(';').skip(1).any(|parameter| is_base64(&parameter));
    (Some(others.join(";")), announced)
}

fn is_base64(field: &Field<'_>) -> bool {
    header(field, "content-transfer-encoding").is_some_and(|coding| coding.trim().eq_ignore_ascii_case("base64"))
}

fn says_base64(metadata: Option<&[u8]>) -> bool {
    let document: Option<Value> = metadata.and_then(|metadata| serde_json::from_slice(metadata).ok());
    let flag = document.as_ref().and_then(|document| document.get("base64_encode_data"));
    flag.is_some_and(|flag| flag.as_bool() == Some(true) || flag.as_str() == Some("true"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::StreamExt;

    use super::super::digest::Digests;
    use super::*;

    /// A body that came at once.
    fn at_once(body: String) -> Arc<Mutex<Incoming>> {
        Arc::new(Mutex::new(Incoming::new(Body::from(body), Digests::default(), 1 << 30)))
    }

    async fn document_of(bytes: usize) -> Result<Bytes, Refusal> {
        let body = format!("--b0\r\nContent-Type: application/json\r\n\r\n{}\r\n--b0--\r\n", "1".repeat(bytes));
        let unparsed = Arc::new(AtomicUsize::new(0));
        let mut multipart = Multipart::new(pieces(at_once(body), Arc::clone(&unparsed)), "b0");
        let mut field = multipart.next_field().await.expect("is multipart").expect("has a part");
        document(&mut field, &unparsed, DOCUMENT_BYTES).await
    }

    #[tokio::test]
    async fn what_comes_at_once_is_parsed_in_slices() {
        let unparsed = Arc::new(AtomicUsize::new(0));
        let slices = pieces(at_once("x".repeat(100_000)), Arc::clone(&unparsed));
        let slices: Vec<_> = slices.map(|slice| slice.expect("is within the limit").len()).collect().await;
        assert_eq!(slices.iter().sum::<usize>(), 100_000);
        assert!(slices.iter().all(|bytes| *bytes <= SLICE_BYTES));
    }

    #[tokio::test]
    async fn a_body_without_parts_is_given_up_early() {
        let incoming = at_once("x".repeat(1 << 20));
        let mut multipart = Multipart::new(pieces(Arc::clone(&incoming), Arc::default()), "b0");
        assert!(multipart.next_field().await.is_err());
        assert!(matches!(incoming.lock().await.failed, Some(Refusal::Unreadable(_))));
    }

    #[tokio::test]
    async fn documents_are_short() {
        assert_eq!(document_of(DOCUMENT_BYTES).await.expect("fits").len(), DOCUMENT_BYTES);
        assert!(matches!(document_of(DOCUMENT_BYTES + 1).await, Err(Refusal::TooLarge(DOCUMENT_BYTES))));
    }

    #[test]
    fn mixed_is_as_good_as_form_data() {
        for content_type in [
            "multipart/form-data; boundary=b0",
            "Multipart/Mixed;boundary=\"b0\"",
            "multipart/related; a=b; boundary=b0",
        ] {
            assert_eq!(boundary(content_type).as_deref(), Some("b0"), "{content_type}");
        }
        for content_type in
            ["audio/mpeg", "multipart/form-data", "multipart/byteranges; boundary=b0", "multipart/mixed; x=y"]
        {
            assert_eq!(boundary(content_type), None, "{content_type}");
        }
    }

    #[test]
    fn base64_may_stand_in_the_type() {
        assert_eq!(without_base64("audio/x-wav;base64"), (Some("audio/x-wav".to_owned()), true));
        assert_eq!(without_base64("audio/mpeg; rate=8000"), (Some("audio/mpeg; rate=8000".to_owned()), false));
        assert!(
            says_base64(Some(br#"{"base64_encode_data": true}"#))
                && says_base64(Some(br#"{"base64_encode_data":"true"}"#))
        );
        assert!(!says_base64(Some(br#"{"base64_encode_data": false}"#)) && !says_base64(Some(b"nonsense")));
    }
}
