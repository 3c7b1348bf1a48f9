//! The sound of recordings: as stored, decoded, by id, by call and by the URL it was uploaded to.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use trunklog_storage::event::Source;

use super::decoded::{decode, no_such_channel, not_acceptable};
use super::find::{Found, Which, find};
use super::media_type::{Accept, WAV};
use super::serve::{respond, serve};
use crate::engine::Access;
use crate::error::QueryError;
use crate::moment::{AsOf, Moment};
use crate::rest::QueryState;
use crate::rest::auth::RECORDINGS_READ;
use crate::rest::parameters::{Common, Parameters};
use crate::rest::problem::Problem;
use crate::rest::stream::put_as_of;

/// `GET /v1/recordings/{recording_id}/audio`
pub(super) async fn stored(
    State(state): State<QueryState>,
    recording_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let which = recording_id.ok().map(|Path(id)| Which::Id(id));
    let (found, as_of) = ask(&state, &parts, which).await?;
    Ok(dated(negotiated(&state, &found, &parts).await?, as_of))
}

/// `GET /v1/calls/{call_id}/audio`
pub(super) async fn of_call(
    State(state): State<QueryState>,
    call_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let which = call_id.ok().map(|Path(id)| Which::OfCall(id));
    let (found, as_of) = ask(&state, &parts, which).await?;
    Ok(dated(negotiated(&state, &found, &parts).await?, as_of))
}

/// `GET /v1/recordings/{recording_id}.wav`
pub(super) async fn wav(state: &QueryState, recording_id: &str, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take_with(RECORDINGS_READ, state, &parts, &mut parameters)?;
    let channel = channel(&mut parameters)?;
    parameters.nothing_left()?;
    common.wait(state).await?;
    let (found, as_of) = find(state, common.access, common.moment, Which::Id(recording_id.to_owned())).await?;
    if let Some(asked) = channel
        && found.channels.is_some_and(|channels| i64::from(asked) >= channels)
    {
        return Err(no_such_channel(asked));
    }
    Ok(dated(decoded(state, &found, channel, &parts).await?, as_of))
}

/// `GET /v1/recordings/{recording_id}.mp3`
pub(super) async fn mp3(state: &QueryState, recording_id: &str, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let (found, as_of) = ask(state, &parts, Some(Which::Id(recording_id.to_owned()))).await?;
    if found.container.as_deref() != Some("mp3") {
        return Err(not_acceptable("the recording is not stored as MP3; nothing is encoded"));
    }
    Ok(dated(as_stored(state, &found, &parts).await?, as_of))
}

/// The stored bytes for who needs no key, such as the bearer of a link.
pub(super) async fn serve_stored(
    state: &QueryState,
    access: Access,
    recording_id: &str,
    parts: &Parts,
) -> Result<Response, Problem> {
    let (found, as_of) = find(state, access, Moment::Now, Which::Id(recording_id.to_owned())).await?;
    Ok(dated(as_stored(state, &found, parts).await?, as_of))
}

/// Answers `GET` and `HEAD` of what was stored last at an upload URL. Whoever calls this has authenticated the request.
///
/// `uploaded_as` is what follows `/recordings/`, as sent, with `?` and the query if there is one. Without a query an
/// upload that was sent with one is meant too.
pub async fn uploaded(state: &QueryState, tenant: &str, source: Source, uploaded_as: &str, parts: &Parts) -> Response {
    let which = Which::UploadedAs(source, uploaded_as.to_owned());
    let answer = match find(state, Access::tenant(tenant), Moment::Now, which).await {
        Ok((found, as_of)) => as_stored(state, &found, parts).await.map(|response| dated(response, as_of)),
        Err(problem) => Err(problem),
    };
    answer.into_response()
}

/// Authenticates first: without a key nothing is said about the parameters.
async fn ask(state: &QueryState, parts: &Parts, which: Option<Which>) -> Result<(Arc<Found>, AsOf), Problem> {
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take_with(RECORDINGS_READ, state, parts, &mut parameters)?;
    parameters.nothing_left()?;
    // What is not UTF-8 names no recording.
    let which = which.ok_or_else(|| Problem::not_found("recording"))?;
    common.wait(state).await?;
    find(state, common.access, common.moment, which).await
}

async fn as_stored(state: &QueryState, found: &Found, parts: &Parts) -> Result<Response, Problem> {
    let entity = found.entity();
    let stored = found.open(state).await?;
    Ok(serve(&stored, &entity, &parts.method, &parts.headers))
}

/// Sends the client to the bucket, if the configuration says so: the bytes then do not pass through us. The address is
/// signed for GET; HEAD is answered here.
async fn redirected(state: &QueryState, found: &Found, parts: &Parts) -> Result<Option<Response>, Problem> {
    if parts.method == Method::HEAD {
        return Ok(None);
    }
    let Some(address) = found.elsewhere(state).await? else { return Ok(None) };
    if let Some(response) = found.entity().decided(&parts.method, &parts.headers) {
        return Ok(Some(response));
    }
    // The address opens the recording to whoever has it.
    let headers = [(LOCATION, address), (CACHE_CONTROL, "no-store".to_owned())];
    Ok(Some((StatusCode::TEMPORARY_REDIRECT, headers).into_response()))
}

/// With what it was read at.
fn dated(mut response: Response, as_of: AsOf) -> Response {
    put_as_of(response.headers_mut(), as_of);
    response
}

/// In what form the sound is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Stored,
    Decoded,
}

/// As stored if the client takes that at all, however it ranks it: a browser that likes WAV better (Firefox says so)
/// plays MP3 too, and decoding makes ten times the bytes of it. `None` if it takes neither.
fn form(accept: &Accept, media_type: &str) -> Option<Form> {
    match (accept.takes(media_type), accept.takes(WAV)) {
        (true, _) => Some(Form::Stored),
        (false, true) => Some(Form::Decoded),
        (false, false) => None,
    }
}

/// In a form that the client takes.
async fn negotiated(state: &QueryState, found: &Found, parts: &Parts) -> Result<Response, Problem> {
    let media_type = found.entity().media_type;
    let form = form(&Accept::of(&parts.headers), &media_type);
    let form = form.ok_or_else(|| not_acceptable(format!("there are {media_type}, as stored, and {WAV}")))?;
    let mut response = match form {
        Form::Stored => match redirected(state, found, parts).await? {
            Some(response) => response,
            None => as_stored(state, found, parts).await?,
        },
        Form::Decoded => decoded(state, found, None, parts).await?,
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

async fn decoded(state: &QueryState, found: &Found, channel: Option<u16>, parts: &Parts) -> Result<Response, Problem> {
    let (tag, ending) = match channel {
        None => ("wav".to_owned(), ".wav".to_owned()),
        Some(channel) => (format!("wav-{channel}"), format!("-{channel}.wav")),
    };
    let entity = found.derived(&tag, WAV, &ending);
    // Before anything is decoded for a client that has it.
    if let Some(response) = entity.decided(&parts.method, &parts.headers) {
        return Ok(response);
    }
    let decoded = decode(state, found, channel, &entity.etag).await?;
    Ok(respond(&decoded, &entity, &parts.method, &parts.headers))
}

fn channel(parameters: &mut Parameters) -> Result<Option<u16>, QueryError> {
    match parameters.one("channel")?.as_deref() {
        None => Ok(None),
        Some("0") => Ok(Some(0)),
        Some("1") => Ok(Some(1)),
        Some(other) => Err(QueryError::parameter("channel", format!("`{other}` is neither 0 nor 1"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::ACCEPT;
    use trunklog_storage::position::Position;

    use super::*;

    #[test]
    fn what_is_stored_is_sent_if_it_is_taken_at_all() {
        for (accept, expected) in [
            ("", Some(Form::Stored)),
            ("*/*", Some(Form::Stored)),
            ("audio/*", Some(Form::Stored)),
            ("audio/mpeg, audio/wav", Some(Form::Stored)),
            ("audio/wav;q=0.5, audio/mpeg;q=0.9", Some(Form::Stored)),
            ("audio/wav;q=0.9, audio/mpeg;q=0.5", Some(Form::Stored)),
            ("audio/wav, */*;q=0.1", Some(Form::Stored)),
            ("audio/x-wav;q=0.1", Some(Form::Decoded)),
            ("audio/mpeg;q=0, audio/*;q=0.3", Some(Form::Decoded)),
            ("audio/wav;q=0, audio/ogg", None),
            ("text/html", None),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(form(&Accept::of(&headers), "audio/mpeg"), expected, "{accept}");
        }
        let wav = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("audio/wav"))]);
        assert_eq!(form(&Accept::of(&wav), WAV), Some(Form::Stored));
    }

    #[test]
    fn says_what_it_was_read_at() {
        let as_of = AsOf { offset: Position::parse("17").expect("a token"), time: 0 };
        for status in [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED] {
            let response = dated(status.into_response(), as_of);
            assert_eq!(response.headers()["trunklog-as-of"], "17", "{status}");
        }
    }
}
