//! One representation over HTTP: whole, in ranges, or only its validators.

use std::future::ready;
use std::io;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use trunklog_storage::media::Stored;

use super::conditional::{self, Precondition, Validators};
use super::disposition::disposition;
use super::media_type::harmless;
use super::multipart::{Multipart, content_range};
use super::range::Wanted;
use crate::rest::problem::Problem;

/// RFC 9530: the digest of the whole representation, whatever part of it is sent.
const REPR_DIGEST: &str = "repr-digest";

/// Dates in headers have four digits for the year.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// What is said about the bytes that are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entity {
    /// A strong entity tag, in its quotes.
    pub etag: String,
    /// Sent as it is when it is audio or video, else as `application/octet-stream`.
    pub media_type: String,
    /// The name to save it under, in any script.
    pub file_name: Option<String>,
    /// When the bytes were stored.
    pub last_modified: Option<SystemTime>,
    /// SHA-256 of all bytes in hex, if known.
    pub sha256_hex: Option<String>,
    /// To be saved, not shown.
    pub attachment: bool,
}

impl Entity {
    fn validators(&self) -> Validators<'_> {
        Validators { etag: &self.etag, last_modified: self.last_modified }
    }

    /// The answer that needs no bytes: 304 or 412, if the preconditions of the request lead there.
    pub(super) fn decided(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        match conditional::precondition(method, headers, self.validators()) {
            Precondition::Holds => None,
            Precondition::NotModified => {
                // A body of no known length: for an empty one axum writes `Content-Length: 0`, which would say that the
                // representation is empty (RFC 9110, section 8.6).
                let mut response = Response::new(Body::from_stream(stream::empty::<io::Result<Bytes>>()));
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                self.put_validators(response.headers_mut());
                Some(response)
            }
            Precondition::Failed => {
                let detail = "what is stored is not what the request's preconditions name";
                let failed = StatusCode::PRECONDITION_FAILED;
                let mut response =
                    Problem::new(failed, "precondition", "A precondition failed", detail).into_response();
                self.put_validators(response.headers_mut());
                Some(response)
            }
        }
    }

    fn put_validators(&self, headers: &mut HeaderMap) {
        put(headers, ETAG, &self.etag);
        let writable = |stored: &SystemTime| stored.duration_since(UNIX_EPOCH).is_ok_and(|since| since < YEAR_10000);
        if let Some(stored) = self.last_modified.filter(writable) {
            put(headers, LAST_MODIFIED, &httpdate::fmt_http_date(stored));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }

    fn put_description(&self, headers: &mut HeaderMap) {
        self.put_validators(headers);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        put(headers, CONTENT_DISPOSITION, &disposition(self.attachment, self.file_name.as_deref()));
        if let Some(digest) = self.sha256_hex.as_deref().and_then(from_hex) {
            put(headers, HeaderName::from_static(REPR_DIGEST), &format!("sha-256=:{}:", STANDARD.encode(digest)));
        }
        // Whoever uploads chooses the bytes: a browser must neither guess what they are nor run them.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
}

/// Bytes that can be read from anywhere; a cheap handle.
pub(super) trait Content: Clone + Send + 'static {
    /// How many there are.
    fn length(&self) -> u64;

    /// Those of a range that lies within the length.
    fn pieces(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>>;
}

impl Content for Stored {
    fn length(&self) -> u64 {
        self.bytes()
    }

    fn pieces(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        self.stream(range).boxed()
    }
}

impl Content for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn pieces(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        // Both ends lie within the length, which is a usize.
        let piece = self.slice(range.start as usize..range.end as usize);
        stream::once(ready(Ok(piece))).boxed()
    }
}

/// Answers a `GET` or `HEAD` of a stored object by its conditional and range headers: 200, 206, 304, 412 or 416. The
/// body streams in constant memory.
pub(super) fn serve(stored: &Stored, entity: &Entity, method: &Method, headers: &HeaderMap) -> Response {
    let entity = Entity { media_type: harmless(&entity.media_type), ..entity.clone() };
    respond(stored, &entity, method, headers)
}

/// As [`serve`], for any bytes and of any media type.
pub(super) fn respond<C: Content>(content: &C, entity: &Entity, method: &Method, headers: &HeaderMap) -> Response {
    if let Some(decided) = entity.decided(method, headers) {
        return decided;
    }
    let length = content.length();
    let mut response = match conditional::wanted(method, headers, entity.validators(), length) {
        Wanted::Unsatisfiable => return unsatisfiable(entity, length),
        Wanted::Whole => whole(content, &entity.media_type, method),
        Wanted::Parts(parts) => match <[Range<u64>; 1]>::try_from(parts) {
            Ok([only]) => part(content, &entity.media_type, only),
            Err(parts) => several(content, &entity.media_type, parts),
        },
    };
    entity.put_description(response.headers_mut());
    response
}

fn whole<C: Content>(content: &C, media_type: &str, method: &Method) -> Response {
    let length = content.length();
    let body = if *method == Method::HEAD || length == 0 {
        Body::empty()
    } else {
        Body::from_stream(content.pieces(0..length))
    };
    described(StatusCode::OK, body, length, media_type)
}

fn part<C: Content>(content: &C, media_type: &str, range: Range<u64>) -> Response {
    let length = range.end - range.start;
    let shown = content_range(&range, content.length());
    let body = Body::from_stream(content.pieces(range));
    let mut response = described(StatusCode::PARTIAL_CONTENT, body, length, media_type);
    put(response.headers_mut(), CONTENT_RANGE, &shown);
    response
}

fn several<C: Content>(content: &C, media_type: &str, parts: Vec<Range<u64>>) -> Response {
    // 128 random bits: no content can be made to contain them.
    let boundary = format!("{:032x}", rand::random::<u128>());
    let multipart = Multipart::new(parts, content.length(), media_type, boundary);
    let (kind, length) = (multipart.content_type(), multipart.bytes());
    let body = Body::from_stream(multipart.stream(content.clone()));
    described(StatusCode::PARTIAL_CONTENT, body, length, &kind)
}

fn unsatisfiable(entity: &Entity, length: u64) -> Response {
    let detail = format!("no range that was asked for lies within the {length} bytes");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut response = Problem::new(status, "range", "The range cannot be satisfied", detail).into_response();
    let headers = response.headers_mut();
    entity.put_validators(headers);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    put(headers, CONTENT_RANGE, &format!("bytes */{length}"));
    response
}

fn described(status: StatusCode, body: Body, length: u64, media_type: &str) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    put(headers, CONTENT_TYPE, media_type);
    response
}

/// What cannot stand in a header is left out; none of our own values is of that kind.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.filter(|bytes| bytes.len() == 32)
}
