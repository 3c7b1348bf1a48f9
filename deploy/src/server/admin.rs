//! `/v1/admin/…`: fold and compact, hand over, rebuild, hash.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use trunklog_storage::event::format_time;
use trunklog_storage::position::Position;

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
    let position = state.archive.flush().await?;
    Ok(Json(json!({ "offset": position.json() })))
}

/// `POST /v1/admin/handover?partition=`: this node folds no more, or not that partition; another one goes on.
pub async fn hand_over(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["partition"])?;
    let wrong = |_| Problem::parameter("partition", "`partition` must be the number of one");
    let partition: Option<usize> = parameters.get("partition").map(|text| text.parse().map_err(wrong)).transpose()?;
    let partitions = state.archive.each().len();
    if partition.is_some_and(|partition| partition >= partitions) {
        return Err(Problem::parameter("partition", format!("there are {partitions} partitions, counted from 0")));
    }
    tracing::info!(by = administrator.key_id, partition, "handing over");
    state.archive.hand_over(partition).await?;
    Ok(Json(json!({ "folds": state.archive.led() })))
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
    let as_of = parameters.get("as_of").map(|text| Position::parse(text).ok_or_else(wrong)).transpose()?;
    if as_of.is_some_and(|position| !position.is_reached_by(&state.archive.visible())) {
        return Err(Problem::parameter("as_of", "this offset has not been reached"));
    }
    let archive = state.archive.clone();
    // Reads every row, so it runs where it takes no time from senders.
    let hashed = state.background.spawn(async move {
        let snapshot = match as_of {
            Some(position) => archive.snapshot_as_of(position).await?,
            None => archive.snapshot().await?,
        };
        let tables = archive.hash(&snapshot).await?;
        Ok::<_, trunklog_storage::error::Error>((snapshot.position(), snapshot.time, tables))
    });
    let (position, time, tables) = hashed.await.map_err(super::task_failed)??;
    let tables: Vec<_> = tables
        .iter()
        .map(|table| json!({ "table": table.table, "rows": table.rows, "sha256": table.sha256 }))
        .collect();
    Ok(Json(json!({ "tables": tables, "as_of": { "offset": position.json(), "time": format_time(time) } })))
}
