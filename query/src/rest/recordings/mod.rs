//! Recordings over HTTP: lists and metadata, their sound, their waveforms, and links to them.
//!
//! The way of a request for sound: `find` (which row) → `serve` (which status, by `conditional`, and which bytes, by
//! `range`) → pieces of 64 KiB. Nothing here holds a recording in memory.

mod audio;
mod cache;
pub(in crate::rest) mod conditional;
mod decoded;
mod disposition;
mod find;
mod links;
mod list;
mod media_type;
mod multipart;
mod range;
mod serve;
#[cfg(test)]
mod tests;
mod waveform;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};

use super::QueryState;
use super::problem::Problem;

pub use audio::uploaded;
pub use cache::RecordingCache;

/// The routes of recordings.
pub(super) fn routes() -> Router<QueryState> {
    Router::new()
        .route("/v1/recordings", get(list::list))
        .route("/v1/recordings/{recording_id}", get(one))
        .route("/v1/recordings/{recording_id}/audio", get(audio::stored))
        .route("/v1/recordings/{recording_id}/waveform", get(waveform::show))
        .route("/v1/recordings/{recording_id}/links", post(links::create))
        .route("/v1/recordings/{recording_id}/links/{link_id}", delete(links::revoke))
        .route("/v1/links/{token}", get(links::open))
        .route("/v1/calls/{call_id}/audio", get(audio::of_call))
}

/// `GET /v1/recordings/{recording_id}`, `.wav` and `.mp3`: a pattern of the router takes whole segments only.
async fn one(
    State(state): State<QueryState>,
    segment: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    // What is not UTF-8 names no recording; no id is empty.
    let segment = segment.map(|Path(segment)| segment).unwrap_or_default();
    if let Some(id) = segment.strip_suffix(".wav") {
        return audio::wav(&state, id, request).await;
    }
    if let Some(id) = segment.strip_suffix(".mp3") {
        return audio::mp3(&state, id, request).await;
    }
    list::show(&state, &segment, request).await
}
