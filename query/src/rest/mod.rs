//! The HTTP interface: `/v1/sql` and the call lists.

mod auth;
mod call;
mod calls;
mod cursor;
mod event;
mod members;
mod parameters;
mod problem;
mod rows;
mod sql;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use trunklog_storage::keys::Keys;

use crate::engine::QueryEngine;

/// What the handlers work with.
#[derive(Clone)]
pub struct QueryState {
    /// Answers the queries.
    pub engine: Arc<QueryEngine>,
    /// Says who asks.
    pub keys: Keys,
}

/// Everything that is read over HTTP.
pub fn router(state: QueryState) -> Router {
    Router::new()
        .route("/v1/sql", post(sql::run))
        .route("/v1/calls", get(calls::list))
        .route("/v1/calls/{call_id}", get(call::show))
        .route("/v1/calls/{call_id}/events", get(call::events))
        .with_state(state)
}
