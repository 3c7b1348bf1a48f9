//! All routes put together: for the network, and for the socket in the data directory.

use std::any::Any;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use trunklog_ingest::IngestState;
use trunklog_query::QueryState;

use super::problem::Problem;
use super::{AppState, admin, health, keys, metrics, shared_settings};
use crate::config::Role;

/// What the network may reach.
pub fn public(state: AppState, ingest: IngestState, query: QueryState) -> Router {
    let open = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        .with_state(state.clone());
    let role = state.role;
    let mut routes = open.merge(administration(state));
    if matches!(role, Role::All | Role::Ingest) {
        routes = routes.merge(trunklog_ingest::router(ingest));
    }
    if matches!(role, Role::All | Role::Query) {
        routes = routes.merge(trunklog_query::router(query)).merge(trunklog_dashboards::router());
    }
    finish(routes, role)
}

/// What the socket offers: everything that reads and administers. A request without a key acts as the administrator.
pub fn local(state: AppState, query: QueryState) -> Router {
    let token = HeaderValue::from_str(&format!("Bearer {}", state.keys.local_token()))
        .expect("tokens are letters, digits and `_`");
    let routes = administration(state).merge(trunklog_query::router(query));
    finish(routes, Role::All).layer(middleware::from_fn(move |mut request: Request, next: Next| {
        request.headers_mut().entry(header::AUTHORIZATION).or_insert_with(|| token.clone());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0))));
        next.run(request)
    }))
}

fn administration(state: AppState) -> Router {
    Router::new()
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/v1/tenants", get(keys::tenants))
        .route("/v1/admin/flush", post(admin::flush))
        .route("/v1/admin/rebuild", post(admin::rebuild))
        .route("/v1/admin/handover", post(admin::hand_over))
        .route("/v1/admin/settings", get(shared_settings::show).put(shared_settings::replace))
        .route("/v1/admin/hash", get(admin::hash))
        .with_state(state)
}

/// Answers for what no route takes, and for handlers that fail; must come after all merging.
fn finish(routes: Router, role: Role) -> Router {
    let nothing = match role {
        Role::All => "there is nothing at this path".to_owned(),
        role => format!("there is nothing at this path on a node with `--role {}`", role.as_str()),
    };
    routes
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .fallback(|| async { Problem::not_found(nothing) })
        .layer(CatchPanicLayer::custom(panicked))
}

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().copied();
    let cause = text.or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    tracing::error!(cause, "a handler panicked");
    Problem::internal().into_response()
}
