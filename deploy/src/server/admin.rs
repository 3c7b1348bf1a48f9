//! `/v1/admin/…`: fold and compact, hand over, rebuild, hash.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use trunklog_storage::event::{Tokens, format_time};

use super::AppState;
use super::access::Administrator;
use super::parameters::Parameters;
use super::problem::Problem;

/// `POST /v1/admin/flush`: folds and compacts all up to now.
pub async fn flush(
    _administrator: Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let offset = state.archive.flush().await?;
    Ok(Json(json!({ "offset": state.archive.tokens().json(offset) })))
}

/// `POST /v1/admin/handover`: this node folds no more, another one goes on.
pub async fn hand_over(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    tracing::info!(by = administrator.key_id, "handing over");
    state.archive.hand_over().await?;
    Ok(Json(json!({ "offset": state.archive.tokens().json(state.archive.status().folded) })))
}

/// `POST /v1/admin/rebuild`: folds every message again.
pub async fn rebuild(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    tracing::info!(by = administrator.key_id, "rebuilding");
    let report = state.archive.rebuild().await?;
    tracing::info!(messages = report.messages, calls = report.calls, "rebuilt");
    Ok(Json(json!({ "messages": report.messages, "calls": report.calls, "recordings": report.recordings })))
}

/// `GET /v1/admin/hash?as_of=`: SHA-256 over the rows of each table.
pub async fn hash(
    _administrator: Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["as_of"])?;
    let wrong = || Problem::parameter("as_of", "`as_of` must be an offset");
    let as_of = parameters.get("as_of").map(|text| Tokens::parse(text).ok_or_else(wrong)).transpose()?;
    if as_of.is_some_and(|offset| state.archive.visible().is_none_or(|visible| visible < offset)) {
        return Err(Problem::parameter("as_of", "this offset has not been reached"));
    }
    let archive = state.archive.clone();
    // Reads every row, so it runs where it takes no time from senders.
    let hashed = state.background.spawn(async move {
        let snapshot = match as_of {
            Some(offset) => archive.snapshot_as_of(offset).await?,
            None => archive.snapshot().await?,
        };
        let tables = archive.hash(&snapshot).await?;
        Ok::<_, trunklog_storage::error::Error>((snapshot.offset, snapshot.time, tables))
    });
    let (offset, time, tables) = hashed.await.map_err(super::task_failed)??;
    let tables: Vec<_> = tables
        .iter()
        .map(|table| json!({ "table": table.table, "rows": table.rows, "sha256": table.sha256 }))
        .collect();
    Ok(Json(
        json!({ "tables": tables, "as_of": { "offset": state.archive.tokens().json(offset), "time": format_time(time) } }),
    ))
}
