//! `GET /v1/calls/{call_id}` and its messages.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use datafusion::common::ScalarValue;
use trunklog_storage::event::Source;

use super::QueryState;
use super::event::{can_belong, decode, to_json};
use super::parameters::{Common, Parameters};
use super::problem::Problem;
use crate::error::QueryError;
use crate::format::json::{write_members, write_object, write_text};
use crate::row::Row;
use crate::session::Session;

const CALL: &str = "SELECT * FROM calls WHERE call_id = $1";
/// VOIspeed's user events without ids: they stand between the call's first and last message.
const BY_RANGE: &str = r#"SELECT * FROM events WHERE tenant = $1 AND source = 'voispeed' AND call_key IS NULL
    AND "offset" BETWEEN $2 AND $3 ORDER BY "partition", "offset""#;
const RECORDINGS: &str = "SELECT * FROM recordings WHERE tenant = $1 AND call_id = $2
    ORDER BY started_at ASC NULLS LAST, received_at ASC NULLS LAST, recording_id ASC";

/// Keys of calls whose messages carry none begin so.
const KEYLESS: char = '~';

/// Keys that one query asks for; a call of more legs takes more queries.
const KEYS: usize = 200;

/// The columns of a message in the timeline.
const TIMELINE: [&str; 8] =
    ["event_id", "type", "received_at", "occurred_at", "offset", "duplicate_of", "quarantined", "error"];

/// The call's row and its messages, all at one snapshot.
struct Found {
    session: Session,
    call: Vec<RecordBatch>,
    events: Vec<RecordBatch>,
}

impl Found {
    fn call(&self) -> Result<Row<'_>, Problem> {
        Row::all(&self.call).next().ok_or_else(|| Problem::not_found("call"))
    }
}

pub(super) async fn show(
    State(state): State<QueryState>,
    call_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let found = find(&state, request, call_id).await?;
    let call = found.call()?;
    let recordings = recordings(&found.session, call).await?;
    let mut out = b"{".to_vec();
    let shown = without(call.batch, "recordings")?;
    write_members(&mut out, &shown, call.at);
    out.extend_from_slice(b",\"messages\":[");
    for (index, row) in messages(&state, &found, call).into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_object(&mut out, &only(row.batch, &TIMELINE)?, row.at);
    }
    out.extend_from_slice(b"],\"recordings\":[");
    for (index, row) in Row::all(&recordings).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_object(&mut out, row.batch, row.at);
    }
    out.push(b']');
    Ok(finish(out, &found))
}

pub(super) async fn events(
    State(state): State<QueryState>,
    call_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let found = find(&state, request, call_id).await?;
    let call = found.call()?;
    let decoder = state.engine.archive().decoder();
    let mut out = b"{\"items\":[".to_vec();
    for (index, row) in messages(&state, &found, call).into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'{');
        write_members(&mut out, row.batch, row.at);
        out.extend_from_slice(b",\"text\":");
        match row.bytes("payload").and_then(|payload| std::str::from_utf8(payload).ok()) {
            Some(text) => write_text(&mut out, text),
            None => out.extend_from_slice(b"null"),
        }
        let decoded = decode(decoder.as_ref(), row).map(|decoded| to_json(&decoded)).unwrap_or_default();
        out.extend_from_slice(format!(",\"decoded\":{decoded}}}").as_bytes());
    }
    // All of them, however many there are.
    out.extend_from_slice(b"],\"next_cursor\":null");
    Ok(finish(out, &found))
}

async fn find(
    state: &QueryState,
    request: Request,
    call_id: Result<Path<String>, PathRejection>,
) -> Result<Found, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take(state, &parts, &mut parameters)?;
    parameters.nothing_left()?;
    // What is not UTF-8 names no call.
    let Ok(Path(call_id)) = call_id else { return Err(Problem::not_found("call")) };
    common.wait(state).await?;
    let session = state.engine.session(common.access, common.moment).await?;
    let call = call_or_its_own(state, &session, &call_id).await?;
    let Some(row) = Row::all(&call).next() else { return Err(Problem::not_found("call")) };
    let events = timeline(&session, row).await?;
    Ok(Found { session, call, events })
}

/// The call of this id; of what became a leg of another call that call.
async fn call_or_its_own(state: &QueryState, session: &Session, call_id: &str) -> Result<Vec<RecordBatch>, QueryError> {
    let call = session.collect(CALL, vec![text(call_id)]).await?.batches;
    let is_id = call_id.len() == 32 && call_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id || Row::all(&call).next().is_some() {
        return Ok(call);
    }
    match state.engine.archive().call_of_leg(call_id).await? {
        // Asked for through the session, so that nobody sees another tenant's.
        Some(whole) => Ok(session.collect(CALL, vec![text(&whole)]).await?.batches),
        None => Ok(call),
    }
}

/// Those of the call, and those that its legs got before it was known whose legs they are.
async fn recordings(session: &Session, call: Row<'_>) -> Result<Vec<RecordBatch>, QueryError> {
    let column = |name: &str| text(call.text(name).unwrap_or_default());
    let mut found = session.collect(RECORDINGS, vec![column("tenant"), column("call_id")]).await?.batches;
    let known: HashSet<String> =
        Row::all(&found).filter_map(|row| row.text("recording_id").map(str::to_owned)).collect();
    let missing: Vec<String> = call.texts("recordings").into_iter().filter(|id| !known.contains(id)).collect();
    if !missing.is_empty() {
        let sql = format!(
            "SELECT * FROM recordings WHERE tenant = $1 AND recording_id IN ({}) ORDER BY received_at, recording_id",
            placeholders(2, missing.len())
        );
        let parameters = std::iter::once(column("tenant")).chain(missing.iter().map(|id| text(id)));
        found.extend(session.collect(&sql, parameters.collect()).await?.batches);
    }
    Ok(found)
}

/// `$2, $3, $4`
fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// The keys under which the call's messages stand: of Kazoo also those of legs, which may have come before their call
/// was known.
fn keys(call: Row<'_>) -> Vec<String> {
    let own = call.text("call_key").unwrap_or_default();
    let mut keys = vec![own.to_owned()];
    let kazoo = [Source::Kazoo, Source::Virtualpbx].map(Source::as_str);
    if call.text("source").is_some_and(|source| kazoo.contains(&source)) {
        // `0` stands for a leg of which nothing is known.
        keys.extend(call.texts_in("legs", "leg_key").into_iter().filter(|key| key != "0" && key != own));
    }
    keys
}

/// What may be the call's messages, in the order of the log for each [`KEYS`] of its keys.
async fn timeline(session: &Session, call: Row<'_>) -> Result<Vec<RecordBatch>, QueryError> {
    let column = |name: &str| text(call.text(name).unwrap_or_default());
    let whole = |name: &str| ScalarValue::Int64(call.whole(name));
    if keyless(call) {
        let parameters = vec![column("tenant"), whole("first_offset"), whole("last_offset")];
        return Ok(session.collect(BY_RANGE, parameters).await?.batches);
    }
    let mut events = Vec::new();
    for some in keys(call).chunks(KEYS) {
        let sql = format!(
            r#"SELECT * FROM events WHERE tenant = $1 AND source = $2 AND call_key IN ({})
            ORDER BY "partition", "offset""#,
            placeholders(3, some.len())
        );
        let parameters = [column("tenant"), column("source")].into_iter().chain(some.iter().map(|key| text(key)));
        events.extend(session.collect(&sql, parameters.collect()).await?.batches);
    }
    Ok(events)
}

/// The rows that are this call's messages, in the order of the log.
fn messages<'a>(state: &QueryState, found: &'a Found, call: Row<'_>) -> Vec<Row<'a>> {
    let rows = Row::all(&found.events);
    if !keyless(call) {
        let mut rows: Vec<Row<'a>> = rows.collect();
        rows.sort_by_cached_key(|row| (row.whole("partition"), row.whole("offset")));
        return rows;
    }
    let decoder = state.engine.archive().decoder();
    rows.filter(|row| decode(decoder.as_ref(), *row).is_some_and(|decoded| can_belong(&decoded, call))).collect()
}

fn keyless(call: Row<'_>) -> bool {
    let key = call.text("call_key").unwrap_or_default();
    call.text("source") == Some(Source::Voispeed.as_str()) && key.starts_with(KEYLESS)
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_owned()))
}

fn only(batch: &RecordBatch, names: &[&str]) -> Result<RecordBatch, QueryError> {
    let indices: Vec<usize> = names.iter().filter_map(|name| batch.schema_ref().index_of(name).ok()).collect();
    Ok(batch.project(&indices)?)
}

fn without(batch: &RecordBatch, name: &str) -> Result<RecordBatch, QueryError> {
    let fields = batch.schema_ref().fields().iter().enumerate();
    let indices: Vec<usize> = fields.filter(|(_, field)| field.name() != name).map(|(index, _)| index).collect();
    Ok(batch.project(&indices)?)
}

fn finish(mut out: Vec<u8>, found: &Found) -> Response {
    out.extend_from_slice(format!(",\"as_of\":{}}}", found.session.as_of().to_json()).as_bytes());
    json_body(out)
}

/// A body that is JSON already.
pub(super) fn json_body(body: Vec<u8>) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
