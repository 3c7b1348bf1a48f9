//! Conditional and range requests against a representation in memory: status, `Content-Range` and body.
//!
//! The expectations are those of RFC 9110. Where it leaves a choice they are nginx's (1.22, static file). It leaves none,
//! and nginx answers otherwise, in the cases marked "nginx:", each with what nginx does:
//!
//! | request | nginx | why ours differs |
//! |---|---|---|
//! | `HEAD` with `Range` | 206 | 14.2: ranges are for `GET` alone |
//! | empty list elements, tabs in the list | 416 | 5.6.1.2, 5.6.3 |
//! | a last position of more than 63 bits | 416 | 14.1.2: large numbers must be anticipated |
//! | more than 64 ranges | 206 | 14.2 lets a server ignore them; ours does so that a request cannot cost thousands of reads |
//! | `If-Match` that holds, `If-Unmodified-Since` that does not | 412 | 13.1.4: the date is ignored beside tags |
//! | `If-Unmodified-Since` that is no date | 412 | 13.1.4: ignored |
//! | `If-Modified-Since` later than the change | 200 | 13.1.3: not modified since |
//! | `If-None-Match` that names it, older `If-Modified-Since` | 200 | 13.1.3: the date is ignored beside tags |
//! | tags on a second line of the header | 200 | 5.3: the lines are one list |

use std::time::{Duration, UNIX_EPOCH};

use axum::body::to_bytes;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::serve::{Entity, respond};

const LENGTH: u64 = 10_000;
const TAG: &str = "\"0b7c\"";
/// Tue, 15 Nov 1994 12:45:26 GMT, and a part of a second that no header can show.
const STORED: Duration = Duration::from_millis(784_903_526_700);
const SAME: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
const BEFORE: &str = "Tue, 15 Nov 1994 12:45:25 GMT";
const AFTER: &str = "Tue, 15 Nov 1994 12:45:27 GMT";

#[derive(Clone, Copy, Debug)]
enum Expect {
    Whole,
    /// First and last position of each part.
    Parts(&'static [(u64, u64)]),
    NotModified,
    Failed,
    Unsatisfiable,
}

use Expect::{Failed, NotModified, Parts, Unsatisfiable, Whole};

type Headers = &'static [(&'static str, &'static str)];

const RANGES: &[(&str, Expect)] = &[
    // The examples of RFC 9110, 14.1.2.
    ("bytes=0-499", Parts(&[(0, 499)])),
    ("bytes=500-999", Parts(&[(500, 999)])),
    ("bytes=-500", Parts(&[(9500, 9999)])),
    ("bytes=9500-", Parts(&[(9500, 9999)])),
    ("bytes=0-0,-1", Parts(&[(0, 0), (9999, 9999)])),
    ("bytes= 0-999, 4500-5499, -1000", Parts(&[(0, 999), (4500, 5499), (9000, 9999)])),
    ("bytes=500-600,601-999", Parts(&[(500, 600), (601, 999)])),
    ("bytes=500-700,601-999", Parts(&[(500, 700), (601, 999)])),
    // One range.
    ("bytes=0-", Parts(&[(0, 9999)])),
    ("bytes=0-0", Parts(&[(0, 0)])),
    ("bytes=9999-9999", Parts(&[(9999, 9999)])),
    ("bytes=9999-", Parts(&[(9999, 9999)])),
    ("bytes=9000-20000", Parts(&[(9000, 9999)])),
    ("bytes=-10000", Parts(&[(0, 9999)])),
    ("bytes=-20000", Parts(&[(0, 9999)])),
    ("bytes=00010-0019", Parts(&[(10, 19)])),
    ("BYTES=1-2", Parts(&[(1, 2)])),
    ("bytes=1 - 2", Parts(&[(1, 2)])),
    // nginx: 416.
    ("bytes=5-99999999999999999999", Parts(&[(5, 9999)])),
    ("bytes=-99999999999999999999", Parts(&[(0, 9999)])),
    // Beyond the end.
    ("bytes=10000-", Unsatisfiable),
    ("bytes=10000-10001", Unsatisfiable),
    ("bytes=-0", Unsatisfiable),
    ("bytes=99999999999999999999-", Unsatisfiable),
    ("bytes=10000-,20000-20001", Unsatisfiable),
    // Not ranges: 416 or nothing, as the server likes.
    ("bytes=5-2", Unsatisfiable),
    ("bytes=-", Unsatisfiable),
    ("bytes=a-b", Unsatisfiable),
    ("bytes=1", Unsatisfiable),
    ("bytes=1-2-3", Unsatisfiable),
    ("bytes=--5", Unsatisfiable),
    ("bytes=+1-5", Unsatisfiable),
    ("bytes=0x1-0x5", Unsatisfiable),
    ("bytes=1-2;3-4", Unsatisfiable),
    ("bytes=0-1,x", Unsatisfiable),
    ("bytes=,", Unsatisfiable),
    ("bytes=- 5", Unsatisfiable),
    // Other units, and no unit.
    ("bytes=", Whole),
    ("bytes", Whole),
    ("bytes 0-1", Whole),
    ("0-1", Whole),
    ("items=0-1", Whole),
    ("seconds=1-2", Whole),
    // Several, in the order asked for; those beyond the end are left out.
    ("bytes=100-199,0-99", Parts(&[(100, 199), (0, 99)])),
    ("bytes=0-99,0-99", Parts(&[(0, 99), (0, 99)])),
    ("bytes=0-9,20000-", Parts(&[(0, 9)])),
    ("bytes=5-2,0-1", Parts(&[(0, 1)])),
    ("bytes=0-9 , 20-29", Parts(&[(0, 9), (20, 29)])),
    // Together as long as the whole, and longer.
    ("bytes=0-4999,5000-9999", Parts(&[(0, 4999), (5000, 9999)])),
    ("bytes=0-5000,5000-9999", Whole),
    ("bytes=0-,0-", Whole),
    // nginx: 416.
    ("bytes=0-1,,4-5", Parts(&[(0, 1), (4, 5)])),
    ("bytes=0-1,", Parts(&[(0, 1)])),
    ("bytes=,0-1", Parts(&[(0, 1)])),
    ("bytes=0-1,\t4-5", Parts(&[(0, 1), (4, 5)])),
];

const CONDITIONS: &[(Headers, Expect)] = &[
    (&[("if-none-match", TAG)], NotModified),
    (&[("if-none-match", "W/\"0b7c\"")], NotModified),
    (&[("if-none-match", "*")], NotModified),
    (&[("if-none-match", "\"a\", \"0b7c\"")], NotModified),
    (&[("if-none-match", "\"a,b\" ,\"0b7c\"")], NotModified),
    (&[("if-none-match", "\"a\"")], Whole),
    (&[("if-none-match", "0b7c")], Whole),
    (&[("if-none-match", "\"a,\"0b7c\"")], Whole),
    (&[("if-none-match", "\"0b7c\"x")], Whole),
    (&[("if-none-match", "")], Whole),
    // nginx: 200.
    (&[("if-none-match", "\"a\""), ("if-none-match", TAG)], NotModified),
    (&[("if-match", TAG)], Whole),
    (&[("if-match", "*")], Whole),
    (&[("if-match", "\"a\",\"0b7c\"")], Whole),
    (&[("if-match", "W/\"0b7c\"")], Failed),
    (&[("if-match", "\"a\"")], Failed),
    (&[("if-match", "0b7c")], Failed),
    (&[("if-modified-since", SAME)], NotModified),
    (&[("if-modified-since", BEFORE)], Whole),
    (&[("if-modified-since", "yesterday")], Whole),
    // Obsolete forms of dates.
    (&[("if-modified-since", "Tuesday, 15-Nov-94 12:45:26 GMT")], NotModified),
    (&[("if-modified-since", "Tue Nov 15 12:45:26 1994")], NotModified),
    // nginx: 200.
    (&[("if-modified-since", AFTER)], NotModified),
    (&[("if-unmodified-since", SAME)], Whole),
    (&[("if-unmodified-since", AFTER)], Whole),
    (&[("if-unmodified-since", BEFORE)], Failed),
    // nginx: 412.
    (&[("if-unmodified-since", "yesterday")], Whole),
    // Tags go before dates.
    (&[("if-none-match", "\"a\""), ("if-modified-since", SAME)], Whole),
    (&[("if-match", "\"a\""), ("if-unmodified-since", SAME)], Failed),
    // nginx: 200, 412.
    (&[("if-none-match", TAG), ("if-modified-since", BEFORE)], NotModified),
    (&[("if-match", TAG), ("if-unmodified-since", BEFORE)], Whole),
    // A failed precondition goes before "not modified", and both before ranges.
    (&[("if-match", "\"a\""), ("if-none-match", TAG)], Failed),
    (&[("if-match", TAG), ("if-none-match", TAG)], NotModified),
    (&[("if-unmodified-since", BEFORE), ("if-none-match", TAG)], Failed),
    (&[("range", "bytes=0-1"), ("if-none-match", TAG)], NotModified),
    (&[("range", "bytes=20000-"), ("if-none-match", TAG)], NotModified),
    (&[("range", "bytes=0-1"), ("if-match", "\"a\"")], Failed),
    (&[("range", "bytes=0-1"), ("if-match", TAG)], Parts(&[(0, 1)])),
    (&[("range", "bytes=0-1"), ("if-none-match", "\"a\"")], Parts(&[(0, 1)])),
    (&[("range", "bytes=0-1"), ("if-modified-since", SAME)], NotModified),
    // If-Range.
    (&[("range", "bytes=0-1"), ("if-range", TAG)], Parts(&[(0, 1)])),
    (&[("range", "bytes=0-1,4-5"), ("if-range", TAG)], Parts(&[(0, 1), (4, 5)])),
    (&[("range", "bytes=0-1"), ("if-range", "\"a\"")], Whole),
    (&[("range", "bytes=0-1"), ("if-range", "W/\"0b7c\"")], Whole),
    (&[("range", "bytes=0-1"), ("if-range", "*")], Whole),
    (&[("range", "bytes=0-1"), ("if-range", SAME)], Parts(&[(0, 1)])),
    (&[("range", "bytes=0-1"), ("if-range", BEFORE)], Whole),
    (&[("range", "bytes=0-1"), ("if-range", AFTER)], Whole),
    (&[("range", "bytes=0-1"), ("if-range", "yesterday")], Whole),
    (&[("range", "bytes=20000-"), ("if-range", "\"a\"")], Whole),
    (&[("range", "bytes=20000-"), ("if-range", TAG)], Unsatisfiable),
    (&[("if-range", "\"a\"")], Whole),
];

fn content() -> Bytes {
    (0..LENGTH).map(|position| (position % 251) as u8).collect()
}

fn ask(method: &Method, content: &Bytes, headers: &[(&str, &str)]) -> Response {
    let entity = Entity {
        etag: TAG.to_owned(),
        media_type: "audio/mpeg".to_owned(),
        file_name: Some("Gespräch.mp3".to_owned()),
        last_modified: Some(UNIX_EPOCH + STORED),
        sha256_hex: Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()),
        attachment: false,
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    respond(content, &entity, method, &map)
}

fn header(response: &Response, name: impl axum::http::header::AsHeaderName) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned())
}

/// The bytes of the parts, with what stands around them when they are several.
fn body_of(parts: &[(u64, u64)], content_type: &str, content: &Bytes) -> Vec<u8> {
    let slice = |(first, last): &(u64, u64)| &content[*first as usize..=*last as usize];
    if let [only] = parts {
        return slice(only).to_vec();
    }
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("several parts");
    let mut body = Vec::new();
    for part in parts {
        let (first, last) = part;
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: audio/mpeg\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(slice(part));
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

async fn check(response: Response, expect: Expect, what: &str) {
    let content = content();
    let content_type = header(&response, CONTENT_TYPE).unwrap_or_default();
    let (status, content_range, body) = match expect {
        Whole => (StatusCode::OK, None, Some(content.to_vec())),
        Parts(parts) => {
            let single = match parts {
                [(first, last)] => Some(format!("bytes {first}-{last}/{LENGTH}")),
                _ => None,
            };
            (StatusCode::PARTIAL_CONTENT, single, Some(body_of(parts, &content_type, &content)))
        }
        NotModified => (StatusCode::NOT_MODIFIED, None, Some(Vec::new())),
        Failed => (StatusCode::PRECONDITION_FAILED, None, None),
        Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{LENGTH}")), None),
    };
    assert_eq!(response.status(), status, "{what}");
    assert_eq!(header(&response, CONTENT_RANGE), content_range, "{what}");
    assert_eq!(header(&response, ETAG).as_deref(), Some(TAG), "{what}");
    if matches!(expect, Whole | Parts(_)) {
        assert_eq!(header(&response, ACCEPT_RANGES).as_deref(), Some("bytes"), "{what}");
        let length = body.as_ref().map(|body| body.len().to_string());
        assert_eq!(header(&response, CONTENT_LENGTH), length, "{what}");
    }
    let sent = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    if let Some(body) = body {
        assert!(sent == body, "{what}: another body");
    }
}

#[tokio::test]
async fn ranges() {
    for (range, expect) in RANGES {
        check(ask(&Method::GET, &content(), &[("range", *range)]), *expect, range).await;
    }
}

#[tokio::test]
async fn conditions() {
    for (headers, expect) in CONDITIONS {
        check(ask(&Method::GET, &content(), headers), *expect, &format!("{headers:?}")).await;
    }
}

#[tokio::test]
async fn head_says_what_get_would_without_ranges() {
    // nginx: 206.
    let requests: [&[(&str, &str)]; 3] = [&[], &[("range", "bytes=0-1")], &[("range", "bytes=20000-")]];
    for headers in requests {
        let response = ask(&Method::HEAD, &content(), headers);
        assert_eq!(response.status(), StatusCode::OK, "{headers:?}");
        assert_eq!(header(&response, CONTENT_LENGTH).as_deref(), Some("10000"));
        assert_eq!(header(&response, CONTENT_RANGE), None);
        assert!(to_bytes(response.into_body(), usize::MAX).await.expect("a body").is_empty());
    }
    assert_eq!(ask(&Method::HEAD, &content(), &[("if-none-match", TAG)]).status(), StatusCode::NOT_MODIFIED);
    assert_eq!(ask(&Method::HEAD, &content(), &[("if-match", "\"a\"")]).status(), StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn too_many_ranges_are_ignored() {
    let ranges = |count: u64| {
        let all: Vec<String> = (0..count).map(|at| format!("{}-{}", at * 10, at * 10)).collect();
        format!("bytes={}", all.join(","))
    };
    assert_eq!(ask(&Method::GET, &content(), &[("range", ranges(64).as_str())]).status(), StatusCode::PARTIAL_CONTENT);
    check(ask(&Method::GET, &content(), &[("range", ranges(65).as_str())]), Whole, "65 ranges").await;
}

#[test]
fn an_empty_file_has_no_parts() {
    let status = |range| ask(&Method::GET, &Bytes::new(), &[("range", range)]).status();
    assert_eq!(status("bytes=0-"), StatusCode::OK);
    assert_eq!(status("bytes=0-9"), StatusCode::OK);
    assert_eq!(status("bytes=-5"), StatusCode::OK);
    assert_eq!(status("bytes=5-"), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[test]
fn describes_what_it_sends() {
    let response = ask(&Method::GET, &content(), &[("range", "bytes=0-9")]);
    for (name, value) in [
        ("content-type", "audio/mpeg"),
        ("content-length", "10"),
        ("content-range", "bytes 0-9/10000"),
        ("accept-ranges", "bytes"),
        ("etag", TAG),
        ("last-modified", SAME),
        ("repr-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
        ("content-disposition", "inline; filename=\"Gespr_ch.mp3\"; filename*=UTF-8''Gespr%C3%A4ch.mp3"),
        ("cache-control", "private, no-cache"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(header(&response, name).as_deref(), Some(value), "{name}");
    }
}
