//! Links to recordings: made and revoked with a key, opened without one.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION, REFERRER_POLICY};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use datafusion::common::ScalarValue;
use serde_json::{Value, json};
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::event::format_time;
use trunklog_storage::keys::Principal;
use trunklog_storage::links::Link;

use super::audio;
use crate::engine::Access;
use crate::error::QueryError;
use crate::moment::Moment;
use crate::rest::QueryState;
use crate::rest::auth;
use crate::rest::call::json_body;
use crate::rest::members::Members;
use crate::rest::parameters::{Common, Parameters};
use crate::rest::problem::Problem;
use crate::row::Row;

/// The longest body, in bytes.
const BODY_BYTES: usize = 4096;
/// How long a link lives unless the body says otherwise, in seconds.
const LIFETIME: u64 = 3600;
/// The longest life of a link, in seconds: one year.
const LONGEST: u64 = 31_536_000;

const RECORDING: &str = "SELECT tenant, status FROM recordings WHERE recording_id = $1";

/// Authenticates first: without a key nothing is said about the parameters.
fn ask(state: &QueryState, parts: &Parts) -> Result<(Principal, Common), Problem> {
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take_with(auth::RECORDINGS_READ, state, parts, &mut parameters)?;
    let principal = auth::principal(state, &parts.headers, &parts.extensions)?;
    if common.moment != Moment::Now {
        return Err(QueryError::parameter("as_of", "links are made and revoked now").into());
    }
    parameters.nothing_left()?;
    Ok((principal, common))
}

/// `POST /v1/recordings/{recording_id}/links`
pub(super) async fn create(
    State(state): State<QueryState>,
    recording_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (principal, common) = ask(&state, &parts)?;
    let expires_in = expires_in(&read(body).await?)?;
    let base = base((state.public_url)().as_deref(), &parts)?;
    // What is not UTF-8 names no recording.
    let Ok(Path(recording_id)) = recording_id else { return Err(Problem::not_found("recording")) };
    let tenant = owner(&state, common, &recording_id).await?;
    let (links, recording, by) = (state.links.clone(), recording_id.clone(), principal.key_id.clone());
    let created = blocking(move || links.create(&tenant, &recording, expires_in, &by)).await?;
    tracing::info!(link = created.id, recording = recording_id, by = principal.key_id, "made a link");
    let answer = json!({
        "id": created.id,
        "url": format!("{base}/v1/links/{}", created.token),
        "expires_at": format_time(created.expires_at),
    });
    let location = format!("/v1/recordings/{recording_id}/links/{}", created.id);
    let mut response = json_body(answer.to_string().into_bytes());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    // Both ids are letters, digits and `_`, or there were no such recording.
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    // The answer holds a secret, so no cache may keep it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `DELETE /v1/recordings/{recording_id}/links/{link_id}`
pub(super) async fn revoke(
    State(state): State<QueryState>,
    ids: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, _) = request.into_parts();
    let (principal, common) = ask(&state, &parts)?;
    let Ok(Path((recording_id, id))) = ids else { return Err(Problem::not_found("link")) };
    let (links, tenant, link) = (state.links.clone(), common.access.only_tenant().cloned(), id.clone());
    if !blocking(move || links.revoke(tenant.as_deref(), &recording_id, &link)).await? {
        return Err(Problem::not_found("link"));
    }
    tracing::info!(link = id, by = principal.key_id, "revoked a link");
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/links/{token}`, which takes no key: the token is one.
pub(super) async fn open(
    State(state): State<QueryState>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let link = token.ok().and_then(|Path(token)| state.links.find(&token));
    let mut response = match link {
        Some(link) => opened(&state, &link, &parts).await.into_response(),
        None => Problem::not_found("link").into_response(),
    };
    seal(response.headers_mut());
    response
}

async fn opened(state: &QueryState, link: &Link, parts: &Parts) -> Result<Response, Problem> {
    Parameters::of(&parts.uri)?.nothing_left()?;
    audio::serve_stored(state, Access::tenant(&link.tenant), &link.recording_id, parts).await
}

/// The address is a secret: no page may learn it from its referrer, and what a cache kept would outlive the link.
fn seal(headers: &mut HeaderMap) {
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Whose recording this is, if those who ask may read it.
async fn owner(state: &QueryState, common: Common, recording_id: &str) -> Result<String, Problem> {
    common.wait(state).await?;
    let session = state.engine.session(common.access, common.moment).await?;
    let bound = vec![ScalarValue::Utf8(Some(recording_id.to_owned()))];
    let batches = session.collect(RECORDING, bound).await?.batches;
    let row = Row::all(&batches).next().ok_or_else(|| Problem::not_found("recording"))?;
    if matches!(row.text("status"), Some("deleted" | "erased")) {
        return Err(QueryError::Gone("the audio of this recording".to_owned()).into());
    }
    Ok(row.text("tenant").unwrap_or_default().to_owned())
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let bytes = to_bytes(body, BODY_BYTES).await.map_err(|_| {
        let detail = format!("at most {BODY_BYTES} bytes are read");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    })?;
    Ok(bytes.to_vec())
}

/// How long the link shall live; an empty body says nothing about it.
fn expires_in(body: &[u8]) -> Result<Duration, QueryError> {
    let mut seconds = LIFETIME;
    if body.trim_ascii().is_empty() {
        return Ok(Duration::from_secs(seconds));
    }
    let members: Members = serde_json::from_slice(body)
        .map_err(|error| QueryError::parameter("body", format!("the body is no JSON object: {error}")))?;
    for (name, raw) in &members.0 {
        if name != "expires_in" {
            return Err(QueryError::parameter(name.as_str(), format!("there is no member `{name}`")));
        }
        let value: Option<Value> = serde_json::from_str(raw.get()).ok();
        let number = value.as_ref().and_then(Value::as_u64).filter(|number| (1..=LONGEST).contains(number));
        seconds = number.ok_or_else(|| {
            let detail = format!("`expires_in` is a whole number of seconds from 1 to {LONGEST}");
            QueryError::parameter("expires_in", detail)
        })?;
    }
    Ok(Duration::from_secs(seconds))
}

/// What stands before the path of a link: as configured, else where this request was sent. Forwarding headers are not
/// believed, as anybody may send them.
fn base(public_url: Option<&str>, parts: &Parts) -> Result<String, QueryError> {
    if let Some(url) = public_url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let header = || parts.headers.get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = parts.uri.authority().cloned().or_else(header);
    match authority.filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty()) {
        Some(authority) => Ok(format!("http://{authority}")),
        None => Err(QueryError::parameter("Host", "the header `Host` names no host, which a link needs")),
    }
}

/// Runs what blocks on the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, QueryError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    Ok(outcome.map_err(|error| QueryError::Internal(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_fault<T: std::fmt::Debug>(outcome: Result<T, QueryError>) -> String {
        match outcome.expect_err("is wrong") {
            QueryError::Parameter { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn reads_how_long_a_link_lives() {
        for (body, seconds) in [
            ("", 3600),
            (" \r\n", 3600),
            ("{}", 3600),
            (r#"{"expires_in":1}"#, 1),
            (r#"{ "expires_in" : 31536000 }"#, 31_536_000),
        ] {
            assert_eq!(expires_in(body.as_bytes()).expect("reads"), Duration::from_secs(seconds), "{body}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for wrong in ["0", "-1", "31536001", "1.5", "\"60\"", "null", "[]", "99999999999999999999999"] {
            let body = format!(r#"{{"expires_in":{wrong}}}"#);
            assert_eq!(at_fault(expires_in(body.as_bytes())), "expires_in", "{wrong}");
        }
        assert_eq!(at_fault(expires_in(br#"{"expires":1}"#)), "expires");
        for wrong in [&b"[]"[..], b"60", b"{", b"\xff", br#"{"expires_in":1,"expires_in":2}"#] {
            assert_eq!(at_fault(expires_in(wrong)), "body", "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn links_begin_with_the_configured_address_or_the_one_that_was_asked() {
        let parts = |host: Option<&'static str>| {
            let mut request = Request::new(Body::empty());
            if let Some(host) = host {
                request.headers_mut().insert(HOST, HeaderValue::from_static(host));
            }
            request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("https"));
            request.into_parts().0
        };
        let configured = base(Some("https://calls.example.org/"), &parts(Some("127.0.0.1:8080")));
        assert_eq!(configured.expect("an address"), "https://calls.example.org");
        assert_eq!(base(None, &parts(Some("127.0.0.1:8080"))).expect("an address"), "http://127.0.0.1:8080");
        assert_eq!(base(None, &parts(Some("[::1]:8080"))).expect("an address"), "http://[::1]:8080");
        for wrong in [None, Some(""), Some("a/b"), Some("user@example.org")] {
            assert_eq!(at_fault(base(None, &parts(wrong))), "Host", "{wrong:?}");
        }
    }

    #[test]
    fn no_cache_and_no_referrer_learns_of_a_link() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        seal(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
    }
}
