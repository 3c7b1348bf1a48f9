//! The routes of VOIspeed and their answers: plain text, and counts for reports.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use trunklog_storage::archive::Receipt;
use trunklog_storage::event::{Event, Source};

use super::params::Params;
use super::report::Service;
use super::{ivr, xml};
use crate::IngestState;
use crate::accept::{Inbound, accept_events, counts, stored};
use crate::form::Form;
use crate::reject::Refusal;

const SOURCE: Source = Source::Voispeed;

/// The routes below `/in/voispeed`.
pub fn routes() -> Router<IngestState> {
    Router::new()
        .route("/event", get(receive_event).post(receive_event))
        .route("/ivr", get(receive_ivr))
        .route("/report", post(receive_report))
}

async fn receive_event(State(state): State<IngestState>, request: Request) -> Result<Response, Refusal> {
    let limit = state.settings.load().limits.message_bytes;
    let inbound = Inbound::read(&state, request, SOURCE, limit, &[]).await?;
    if inbound.is_empty() {
        return Ok(bad_request());
    }
    let receipt = append(&state, inbound.event("voispeed.event", inbound.body.clone())).await?;
    let answer = if receipt.quarantined { bad_request() } else { text(StatusCode::OK, "OK".to_owned()) };
    Ok(stored(answer, &receipt))
}

/// A call waits in the node, so the answer holds its commands whatever became of the message.
async fn receive_ivr(State(state): State<IngestState>, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let inbound = Inbound::read(&state, request, SOURCE, settings.limits.message_bytes, &[]).await?;
    if inbound.is_empty() {
        return Ok(bad_request());
    }
    let tenant = settings.of(&inbound.tenant);
    let event = inbound.event("voispeed.ivr", inbound.body.clone());
    let node = Params::of(&event, tenant).map(|params| ivr::node(&params)).unwrap_or_default();
    let receipt = append(&state, event).await?;
    let status = if receipt.quarantined { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(stored(text(status, ivr::answer(tenant, &node)), &receipt))
}

async fn receive_report(State(state): State<IngestState>, request: Request) -> Result<Response, Refusal> {
    let limits = state.settings.load().limits;
    let inbound = Inbound::read(&state, request, SOURCE, limits.report_bytes, &[]).await?;
    if inbound.is_empty() {
        return Ok(bad_request());
    }
    let events = report_events(&inbound);
    limits.check_messages(&events)?;
    Ok(counts(&accept_events(&state, events).await?))
}

/// One event per row; a body that cannot be cut into rows is one event.
fn report_events(inbound: &Inbound) -> Vec<Event> {
    let query = inbound.query.as_deref().unwrap_or_default();
    let service = Form::parse(query.as_bytes()).ok().and_then(|form| {
        form.pairs().iter().find(|(name, _)| name == "service").and_then(|(_, value)| Service::parse(value))
    });
    if inbound.body.trim_ascii().is_empty() {
        return Vec::new();
    }
    match xml::split(&inbound.body) {
        Ok(rows) => rows.into_iter().map(|row| row_event(inbound, inbound.body.slice(row), service)).collect(),
        Err(error) => {
            let kind = service.map_or("voispeed.unknown", Service::kind);
            vec![Event { error: Some(error), ..inbound.event(kind, inbound.body.clone()) }]
        }
    }
}

fn row_event(inbound: &Inbound, payload: Bytes, service: Option<Service>) -> Event {
    let by_fields = || xml::row(&payload).map_or(Service::CallReport, |row| Service::of_row(&row));
    let kind = service.unwrap_or_else(by_fields).kind();
    inbound.event(kind, payload)
}

async fn append(state: &IngestState, event: Event) -> Result<Receipt, Refusal> {
    let receipts = accept_events(state, vec![event]).await?;
    Ok(receipts.into_iter().next().expect("one message gets one receipt"))
}

fn bad_request() -> Response {
    text(StatusCode::BAD_REQUEST, "no usable parameter".to_owned())
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}
