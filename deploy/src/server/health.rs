//! `/healthz`, `/readyz`: for whoever restarts the process, and for whoever sends it traffic.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::AppState;

/// 200 while the process is of use; 503 once only a restart helps.
pub async fn alive(State(state): State<AppState>) -> Response {
    match state.archive.status().poisoned {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(reason) => failed("poisoned", &reason),
    }
}

/// 200 while requests are welcome.
pub async fn ready(State(state): State<AppState>) -> Response {
    if state.is_draining() {
        return failed("draining", "the server is stopping");
    }
    let status = state.archive.status();
    match status.poisoned {
        Some(reason) => failed("poisoned", &reason),
        None => {
            let answer = json!({
                "status": "ready",
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_s": state.started.elapsed().as_secs(),
                "role": state.role.as_str(),
                "leads": status.leads,
                "partitions": state.archive.each().len(),
                "folds": state.archive.led(),
            });
            Json(answer).into_response()
        }
    }
}

fn failed(status: &str, reason: &str) -> Response {
    let body = Json(json!({ "status": status, "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response()
}
