//! `GET /v1/calls`: what the list of calls is made of; how lists work is in [`super::listing`].

use axum::extract::{Request, State};
use axum::response::Response;
use trunklog_storage::schema;

use super::QueryState;
use super::listing::Listing;
use super::problem::Problem;

pub(super) async fn list(State(state): State<QueryState>, request: Request) -> Result<Response, Problem> {
    listing().answer(&state, request).await
}

/// The list of calls.
pub(super) fn listing() -> Listing {
    Listing {
        table: "calls",
        id_column: "call_id",
        time_column: "started_at",
        default_sort: "-started_at",
        number_columns: &["from_number", "to_number", "from_e164", "to_e164"],
        columns: schema::calls(),
    }
}
