//! Uploads are taken whole or not at all, and given back where they were uploaded to.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use trunklog_storage::archive::Receipt;
use trunklog_storage::error::Error;
use trunklog_storage::event::{Event, Source, call_id, now};
use trunklog_storage::recording::message::{UPLOAD_TYPE, Upload};

use super::super::account::check_account;
use super::body::{Incoming, too_large};
use super::content::{self, Content, Head};
use super::digest::Digests;
use super::parts::{self, DOCUMENT_BYTES, Expected};
use super::target::{Sent, Target, below, uploaded_as};
use crate::IngestState;
use crate::accept::{Inbound, accept_events, announced_length, drain, stored};
use crate::form::lenient_pairs;
use crate::recordings::{self, Identity};
use crate::reject::Refusal;
use crate::settings::TenantSettings;

/// PUT and POST store a recording, GET and HEAD give back what was stored last at this URL.
///
/// # Errors
/// Refusals; nothing is kept of a refused upload.
pub(in super::super) async fn serve(state: IngestState, source: Source, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return give_back(&state, source, &parts).await;
    }
    let (inbound, digests) = match begin(&state, &parts, source) {
        Ok(begun) => begun,
        Err(refusal) => {
            if !parts.headers.contains_key(header::EXPECT) {
                drain(body).await;
            }
            return Err(refusal);
        }
    };
    let incoming = Arc::new(Mutex::new(Incoming::new(body, digests, state.media.limit_bytes())));
    let content = match receive(&state, &inbound, &parts.headers, &incoming).await {
        Ok(content) => content,
        Err(refusal) => {
            // A sender that went silent or away reads no answer.
            if !matches!(refusal, Refusal::Timeout(_) | Refusal::Unreadable(_)) {
                drain(incoming.lock().await.take_rest()).await;
            }
            return Err(refusal);
        }
    };
    // On a task of its own: a sender that hangs up now does not leave audio behind without its message.
    let storing = tokio::spawn(store(state, inbound, content));
    storing.await.map_err(|_| Refusal::from(Error::Closed))?
}

async fn give_back(state: &IngestState, source: Source, parts: &Parts) -> Result<Response, Refusal> {
    let inbound = Inbound::open(state, parts, source)?;
    let uploaded_as = uploaded_as(below(&inbound.path, source), inbound.query.as_deref());
    Ok(state.recorded.answer(&inbound.tenant, source, &uploaded_as, parts).await)
}

/// What is checked before the body is read.
fn begin(state: &IngestState, parts: &Parts, source: Source) -> Result<(Inbound, Digests), Refusal> {
    let inbound = Inbound::open(state, parts, source)?;
    check_whole(&parts.method, &parts.headers)?;
    let mut target = target(&inbound, None, None);
    if inbound.content_type.as_deref().and_then(parts::boundary).is_some() {
        // The document, which is still to come, may name the account.
        target.path_accounts.clear();
    }
    check_owner(state.settings.load().of(&inbound.tenant), &target)?;
    let limit = state.media.limit_bytes();
    if announced_length(&parts.headers).is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    Ok((inbound, Digests::of(&parts.headers)?))
}

/// A part of a recording is not put in the place of the whole (RFC 9110, section 14.5).
fn check_whole(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if *method == Method::PUT && headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::Unreadable("recordings are taken whole, without `Content-Range`".to_owned()));
    }
    Ok(())
}

async fn receive(
    state: &IngestState,
    inbound: &Inbound,
    headers: &HeaderMap,
    incoming: &Arc<Mutex<Incoming>>,
) -> Result<Content, Refusal> {
    let fields = lenient_pairs(inbound.query.as_deref().unwrap_or_default().as_bytes());
    let base64 = fields.iter().any(|(name, value)| name == "base64_encode_data" && value == "true");
    let document_bytes = state.settings.load().limits.message_bytes.min(DOCUMENT_BYTES);
    let head = Head {
        content_type: inbound.content_type.as_deref(),
        length: announced_length(headers),
        expected: Expected { base64, document_bytes },
    };
    let content = content::read(&state.media, incoming, &head).await?;
    if content.transferred == 0 && inbound.query.is_none() {
        return Err(Refusal::Unprocessable("the request has neither a query nor a body".to_owned()));
    }
    Ok(content)
}

fn target(inbound: &Inbound, metadata: Option<&Value>, part_name: Option<&str>) -> Target {
    Target::of(&Sent {
        path: below(&inbound.path, inbound.source),
        query: inbound.query.as_deref(),
        metadata,
        part_name,
        received_at: inbound.received_at,
    })
}

/// The account that is named decides; without one, that of a storage plan's path, which stands in one of two places.
fn check_owner(tenant: &TenantSettings, target: &Target) -> Result<(), Refusal> {
    if target.account_id.is_some() {
        return check_account(tenant, target.account_id.as_deref());
    }
    let mut checked = Ok(());
    for account in &target.path_accounts {
        checked = check_account(tenant, Some(account));
        if checked.is_ok() {
            break;
        }
    }
    checked
}

/// Keeps the media and appends the message that says so.
async fn store(state: IngestState, mut inbound: Inbound, content: Content) -> Result<Response, Refusal> {
    let source = inbound.source;
    inbound.received_at = now();
    let Content { received, parts, .. } = content;
    let metadata = parts.metadata.map(|document| read_document(&state, &mut inbound, &document));
    let redacted = |text: Option<String>| text.map(|text| inbound.secrets.redact_text(&text));
    let (media_type, part_name) = (redacted(parts.media_type), redacted(parts.name));
    let name = part_name.filter(|_| target(&inbound, None, None).name.is_empty());
    let target = target(&inbound, metadata.as_ref(), name.as_deref());
    check_owner(state.settings.load().of(&inbound.tenant), &target)?;

    let identity = Identity {
        tenant: &inbound.tenant,
        source,
        key_or_path: target.key_or(below(&inbound.path, source)),
        external_id: target.recording_id.as_deref(),
    };
    let (id, upload, known, claim) = recordings::keep(&state.archive, &state.media, received, &identity).await?;
    let upload = Upload { media_type, name, metadata, ..upload };
    let receipt = match append(&state, &inbound, &upload).await {
        Ok(receipt) => receipt,
        Err(refusal) => {
            // After any other failure the message may be in the log all the same.
            let surely_not_stored =
                matches!(&refusal, Refusal::Unavailable(error) if matches!(**error, Error::Full(_) | Error::Busy));
            if surely_not_stored && !known {
                recordings::forget(&state.media, &upload.object).await;
            }
            return Err(refusal);
        }
    };
    drop(claim);
    if !known {
        metrics::counter!("trunklog_recording_bytes_total", "source" => source.as_str()).increment(upload.bytes);
    }
    let call = target.call_key().map(|key| call_id(&inbound.tenant, source, key));
    Ok(stored(answer(&id, call.as_deref(), &upload, known), &receipt))
}

/// The document that came with the media, without keys that may stand in it.
fn read_document(state: &IngestState, inbound: &mut Inbound, document: &Bytes) -> Value {
    let works = |token: &str| state.keys.authenticate(token, None);
    inbound.secrets.add_encoded_keys(&[&document[..]], works);
    inbound.secrets.add_other_keys(&[&document[..]], works);
    let document = inbound.secrets.redact(document);
    let read: Option<Value> = serde_json::from_slice(&document).ok();
    // It will stand inside the message, which must be read back: reading has a limit of nesting.
    let comes_back = |value: &Value| serde_json::from_str::<Value>(&json!([[value]]).to_string()).is_ok();
    let readable = read.filter(comes_back);
    readable.unwrap_or_else(|| Value::String(String::from_utf8_lossy(&document).into_owned()))
}

async fn append(state: &IngestState, inbound: &Inbound, upload: &Upload) -> Result<Receipt, Refusal> {
    let payload = serde_json::to_vec(upload).expect("an upload is texts and numbers");
    let event = Event {
        content_type: Some(UPLOAD_TYPE.into()),
        ..inbound.event(&format!("{}.recording", inbound.source), Bytes::from(payload))
    };
    let receipts = accept_events(state, vec![event]).await?;
    Ok(receipts.into_iter().next().expect("one message gets one receipt"))
}

fn answer(id: &str, call_id: Option<&str>, upload: &Upload, known: bool) -> Response {
    let mut body = json!({ "recording_id": id, "sha256": upload.sha256, "bytes": upload.bytes });
    if let Some(call_id) = call_id {
        body["call_id"] = json!(call_id);
    }
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    let mut add = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    add(header::ETAG, format!("\"{}\"", upload.sha256));
    add(header::LOCATION, format!("/v1/recordings/{id}"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "0123456789abcdef0123456789abcdef";
    const FOREIGN: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn the_account_of_a_storage_plan_must_be_the_tenants() {
        let tenant = TenantSettings { kazoo_accounts: vec![OWN.to_owned()], ..TenantSettings::default() };
        let target = |named: Option<&str>, in_path: &[&str]| Target {
            account_id: named.map(str::to_owned),
            path_accounts: in_path.iter().map(|account| (*account).to_owned()).collect(),
            ..Target::default()
        };
        let own: [(Option<&str>, &[&str]); 5] =
            [(None, &[]), (None, &[OWN]), (None, &[FOREIGN, OWN]), (None, &[OWN, FOREIGN]), (Some(OWN), &[FOREIGN])];
        for (named, in_path) in own {
            assert!(check_owner(&tenant, &target(named, in_path)).is_ok(), "{named:?} {in_path:?}");
        }
        let foreign: [(Option<&str>, &[&str]); 3] =
            [(None, &[FOREIGN]), (None, &[FOREIGN, FOREIGN]), (Some(FOREIGN), &[OWN])];
        for (named, in_path) in foreign {
            let checked = check_owner(&tenant, &target(named, in_path));
            assert!(matches!(checked, Err(Refusal::Forbidden(_))), "{named:?} {in_path:?}");
            assert!(check_owner(&TenantSettings::default(), &target(named, in_path)).is_ok());
        }
    }

    #[test]
    fn parts_of_recordings_are_not_put() {
        let range = HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static("bytes 0-1/4"))]);
        assert!(matches!(check_whole(&Method::PUT, &range), Err(Refusal::Unreadable(_))));
        assert!(check_whole(&Method::PUT, &HeaderMap::new()).is_ok());
        // Only for PUT does the header mean something.
        assert!(check_whole(&Method::POST, &range).is_ok());
    }
}
