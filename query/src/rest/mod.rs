//! The HTTP interface: `/v1/sql`, reports, the lists of calls and recordings, and the sound of recordings.

mod auth;
mod call;
mod calls;
mod cursor;
mod event;
mod listing;
mod members;
mod parameters;
mod problem;
pub mod recordings;
mod reports;
mod sql;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;
use trunklog_storage::keys::Keys;
use trunklog_storage::links::Links;
use trunklog_storage::media::Media;

use crate::engine::QueryEngine;
use recordings::RecordingCache;

/// What the handlers work with.
#[derive(Clone)]
pub struct QueryState {
    /// Answers the queries.
    pub engine: Arc<QueryEngine>,
    /// Says who asks.
    pub keys: Keys,
    /// Holds the audio.
    pub media: Media,
    /// Links to recordings that need no key.
    pub links: Links,
    /// What stands before the path of a link, as configured now; without it, where the request was sent.
    pub public_url: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// What serving recordings remembers.
    pub cache: RecordingCache,
    /// Streams that have no end of their own end with this.
    pub stopping: CancellationToken,
}

/// Everything that is read over HTTP.
pub fn router(state: QueryState) -> Router {
    let reports = reports::routes(state.clone());
    Router::new()
        .route("/v1/sql", post(sql::run))
        .route("/v1/calls", get(calls::list))
        .route("/v1/calls/{call_id}", get(call::show))
        .route("/v1/calls/{call_id}/events", get(call::events))
        .merge(recordings::routes())
        .with_state(state)
        .merge(reports)
}
