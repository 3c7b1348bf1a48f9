//! The way of a request: read within its limit, authenticated, redacted, made into events, appended, answered.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use trunklog_storage::archive::{Message, Receipt};
use trunklog_storage::error::Error;
use trunklog_storage::event::{Event, Headers, Micros, Source, new_event_id, now};
use trunklog_storage::keys::Principal;
use trunklog_storage::position::Position;

use crate::IngestState;
use crate::auth::{self, Arrived, Secrets};
use crate::reject::Refusal;

/// Names the last message that a request stored.
pub const OFFSET_HEADER: &str = "trunklog-offset";

/// Headers that are kept with the message; none of them carries a credential or a signature.
const KEPT_HEADERS: [&str; 11] = [
    "accept",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "host",
    "traceparent",
    "user-agent",
    "x-account-id",
    "x-hook-id",
    "x-request-id",
];

/// What is read of a refused body, so that the sender gets to see the answer.
const DRAIN_BYTES: usize = 32 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// From so many events on, decoding leaves the threads that serve requests.
const DECODE_ASIDE: usize = 16;

/// The request as it came, its secret found, authenticated and already redacted. Not `Debug`: the principal may hold
/// a shared secret.
pub struct Inbound {
    /// Whose key it was.
    pub principal: Principal,
    /// The key's tenant.
    pub tenant: String,
    /// By the route ([`Source::Trunklog`] for `/in/events`).
    pub source: Source,
    /// HTTP method.
    pub method: String,
    /// Path, percent-encoded as sent.
    pub path: String,
    /// Query, percent-encoded as sent; `None` if empty.
    pub query: Option<String>,
    /// Selected headers, names in lower case.
    pub headers: Arc<Headers>,
    /// Content type as sent.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
    /// When it came.
    pub received_at: Micros,
    /// What must not be kept, should it stand in the message in another form still.
    pub secrets: Secrets,
}

impl Inbound {
    /// Reads, limits and authenticates a request of `source`. `field_names` are the fields of query or body that may
    /// hold the key, best first. Errors are complete answers in the general dialect; sources with another dialect
    /// word the [`Refusal`] themselves.
    pub async fn read(
        state: &IngestState,
        request: Request,
        source: Source,
        limit: usize,
        field_names: &[&str],
    ) -> Result<Inbound, Refusal> {
        let (parts, mut body) = request.into_parts();
        let result = read_parts(state, &parts, &mut body, source, limit, field_names).await;
        if result.is_err() && !parts.headers.contains_key(header::EXPECT) {
            drain(body).await;
        }
        result
    }

    /// Authenticates a request of `source` whose body is left to the caller, or whose answer needs none; the key stands
    /// in the path or in `Authorization`. [`Inbound::body`] is empty.
    ///
    /// # Errors
    /// As [`Inbound::read`]. Nothing of the body was read.
    pub fn open(state: &IngestState, parts: &Parts, source: Source) -> Result<Inbound, Refusal> {
        let outside = Secrets::outside_fields(&Arrived::of(parts), &parts.headers)?;
        let secrets = outside.ok_or(Refusal::Unauthorized)?;
        let principal = authenticate(state, &secrets, address(parts), source)?;
        assemble(state, parts, source, principal, secrets, &Bytes::new())
    }

    /// A new event of this request with a fresh id.
    pub fn event(&self, kind: &str, payload: Bytes) -> Event {
        Event {
            id: new_event_id(),
            tenant: self.tenant.as_str().into(),
            source: self.source,
            kind: kind.into(),
            received_at: self.received_at,
            subject: None,
            structured: false,
            method: Some(self.method.as_str().into()),
            path: Some(self.path.as_str().into()),
            query: self.query.as_deref().map(Into::into),
            headers: Arc::clone(&self.headers),
            content_type: self.content_type.as_deref().map(Into::into),
            error: None,
            payload,
        }
    }

    /// Neither query nor body.
    pub fn is_empty(&self) -> bool {
        self.query.is_none() && self.body.is_empty()
    }

    /// The content type without parameters, in lower case; empty if none was sent.
    pub fn media_type(&self) -> Cow<'_, str> {
        media_type(self.content_type.as_deref())
    }
}

/// A content type without its parameters, in lower case; empty if there is none.
pub fn media_type(content_type: Option<&str>) -> Cow<'_, str> {
    let named = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if named.bytes().any(|byte| byte.is_ascii_uppercase()) { named.to_ascii_lowercase().into() } else { named.into() }
}

async fn read_parts(
    state: &IngestState,
    parts: &Parts,
    body: &mut Body,
    source: Source,
    limit: usize,
    field_names: &[&str],
) -> Result<Inbound, Refusal> {
    let arrived = Arrived::of(parts);
    let address = address(parts);
    // A key outside the body is checked before the body is read.
    let outer = match Secrets::outside_fields(&arrived, &parts.headers)? {
        Some(secrets) => Some((authenticate(state, &secrets, address, source)?, secrets)),
        None if field_names.is_empty() => return Err(Refusal::Unauthorized),
        None => None,
    };
    let raw = read_body(&parts.headers, body, limit).await?;
    let (principal, secrets) = match outer {
        Some(found) => found,
        None => {
            let secrets =
                Secrets::in_field(arrived.query.as_deref(), &raw, field_names).ok_or(Refusal::Unauthorized)?;
            (authenticate(state, &secrets, address, source)?, secrets)
        }
    };
    if source == Source::Placetel {
        auth::check_signature(&principal, &parts.headers, &raw)?;
    }
    assemble(state, parts, source, principal, secrets, &raw)
}

/// Puts together what is known of a request, redacted.
fn assemble(
    state: &IngestState,
    parts: &Parts,
    source: Source,
    principal: Principal,
    mut secrets: Secrets,
    raw: &Bytes,
) -> Result<Inbound, Refusal> {
    let received_at = now();
    let (arrived, address) = (Arrived::of(parts), address(parts));
    let tenant = principal.tenant.clone().ok_or_else(admin_key)?;
    let encoding = parts.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::UnsupportedMediaType("compressed bodies are not taken".to_owned()));
    }
    // Another working key may stand in the message besides the one that was used.
    let works = |token: &str| state.keys.authenticate(token, address);
    let mut texts = vec![arrived.path.as_bytes(), arrived.query.as_deref().unwrap_or_default().as_bytes()];
    texts.extend(KEPT_HEADERS.iter().filter_map(|name| parts.headers.get(*name)).map(HeaderValue::as_bytes));
    secrets.add_encoded_keys(&texts, works);
    texts.push(&raw[..]);
    secrets.add_other_keys(&texts, works);
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(header_text);
    Ok(Inbound {
        principal,
        tenant,
        source,
        method: parts.method.as_str().to_owned(),
        path: secrets.redact_text(&arrived.path),
        query: arrived.query.as_deref().filter(|query| !query.is_empty()).map(|query| secrets.redact_text(query)),
        headers: Arc::new(kept_headers(&parts.headers, &secrets)),
        content_type: content_type.map(|text| secrets.redact_text(&text)),
        body: secrets.redact(raw),
        received_at,
        secrets,
    })
}

fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

fn admin_key() -> Refusal {
    Refusal::Forbidden("an admin key does not ingest".to_owned())
}

fn authenticate(
    state: &IngestState,
    secrets: &Secrets,
    address: Option<IpAddr>,
    source: Source,
) -> Result<Principal, Refusal> {
    let principal = auth::authenticate(&state.keys, secrets.token(), address)?;
    if principal.tenant.is_none() {
        return Err(admin_key());
    }
    let allowed = match source {
        Source::Trunklog => principal.may_ingest_any(),
        source => principal.may_ingest(source),
    };
    if allowed { Ok(principal) } else { Err(Refusal::Forbidden("the key lacks the scope for this route".to_owned())) }
}

/// The length of the body, if the sender said it.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Reads the body, and stops as soon as it is longer than `limit`.
async fn read_body(headers: &HeaderMap, body: &mut Body, limit: usize) -> Result<Bytes, Refusal> {
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge(limit));
    }
    let capacity = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default().min(64 << 10);
    let mut read = BytesMut::with_capacity(capacity);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::Unreadable("the body broke off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > limit {
            return Err(Refusal::TooLarge(limit));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Closing a connection with unread bytes resets it, and the sender would lose the answer.
pub(crate) async fn drain(mut body: Body) {
    let reading = async {
        let mut rest = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            rest = rest.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if rest == 0 {
                break;
            }
        }
    };
    // Whether it ended or ran out of time, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

fn header_text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Whether a header of this name (in lower case) is kept with a message.
pub fn is_kept_header(name: &str) -> bool {
    KEPT_HEADERS.contains(&name)
}

fn kept_headers(headers: &HeaderMap, secrets: &Secrets) -> Headers {
    let kept = KEPT_HEADERS.iter().filter_map(|name| Some((*name, headers.get(*name)?)));
    kept.map(|(name, value)| (name.into(), secrets.redact_text(&header_text(value)).into())).collect()
}

/// Decodes the events, appends them, and gives the receipts.
pub async fn accept_events(state: &IngestState, events: Vec<Event>) -> Result<Vec<Receipt>, Refusal> {
    let archive = state.archive.clone();
    let aside = events.len() >= DECODE_ASIDE;
    let decode = move || -> Vec<Message> {
        events.into_iter().map(|event| Message::new(event, archive.decoder().as_ref())).collect()
    };
    // Decoding a large body takes long enough to hold up other requests.
    let messages = if aside {
        tokio::task::spawn_blocking(decode).await.map_err(|_| Refusal::from(Error::Closed))?
    } else {
        decode()
    };
    accept(state, messages).await
}

/// Appends and gives the receipts, when the messages are durable and visible.
pub async fn accept(state: &IngestState, messages: Vec<Message>) -> Result<Vec<Receipt>, Refusal> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let sources: Vec<Source> = messages.iter().map(|message| message.event.source).collect();
    let receipts = state.archive.append(messages).await.map_err(|error| {
        tracing::warn!(%error, "the archive refused messages");
        Refusal::from(error)
    })?;
    for (source, receipt) in sources.into_iter().zip(&receipts) {
        let result = Outcome::of(receipt).as_str();
        metrics::counter!("trunklog_messages_total", "source" => source.as_str(), "result" => result).increment(1);
    }
    Ok(receipts)
}

/// What became of one message; exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    Duplicate,
    Quarantined,
}

impl Outcome {
    fn of(receipt: &Receipt) -> Outcome {
        match (receipt.quarantined, receipt.duplicate) {
            (true, _) => Outcome::Quarantined,
            (false, true) => Outcome::Duplicate,
            (false, false) => Outcome::Stored,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Stored => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Quarantined => "quarantined",
        }
    }
}

/// Adds `Trunklog-Offset`.
pub fn stored(response: Response, receipt: &Receipt) -> Response {
    stored_at(response, receipt.position())
}

fn stored_at(mut response: Response, position: Position) -> Response {
    if let Ok(value) = HeaderValue::from_str(&position.to_string()) {
        response.headers_mut().insert(OFFSET_HEADER, value);
    }
    response
}

/// `{"accepted","duplicates","quarantined","offset"}`; the offset is that of the last message stored, of each
/// partition.
pub fn counts(receipts: &[Receipt]) -> Response {
    let count = |outcome| receipts.iter().filter(|receipt| Outcome::of(receipt) == outcome).count();
    let last = receipts.iter().map(Receipt::position).reduce(Position::max);
    let body = serde_json::json!({
        "accepted": count(Outcome::Stored),
        "duplicates": count(Outcome::Duplicate),
        "quarantined": count(Outcome::Quarantined),
        "offset": last.map(|last| last.json()),
    });
    let response = Json(body).into_response();
    match last {
        Some(last) => stored_at(response, last),
        None => response,
    }
}
