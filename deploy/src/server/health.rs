//! `/healthz`, `/readyz`: for whoever restarts the process, and for whoever sends it traffic.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::AppState;

/// 200 while the process is of use; 503 once only a restart helps.
pub async fn alive(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
    match state.archive.status().poisoned {
        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Some(reason) => failed("poisoned", &reason),
    }
}

/// 200 while requests are welcome.
pub async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
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
            (StatusCode::OK, Json(answer))
        }
    }
}

fn failed(status: &str, reason: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": status, "reason": reason })))
}
