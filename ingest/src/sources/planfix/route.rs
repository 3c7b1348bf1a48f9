//! `POST /in/planfix`: forms in, Planfix's own JSON answers out. The token comes before the parameters.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use trunklog_storage::archive::Receipt;
use trunklog_storage::error::Error;
use trunklog_storage::event::{Event, Source};

use super::{contact, links};
use crate::IngestState;
use crate::accept::{Inbound, accept_events, stored};
use crate::fetch::FetchRequest;
use crate::form::Form;
use crate::reject::Refusal;

/// The provisional type that the decoder replaces.
const KIND: &str = "planfix.post";
/// The tables and samples of the API say `planfix_token`, its prose `token`.
const TOKEN_FIELDS: [&str; 2] = ["planfix_token", "token"];

/// The one route.
pub fn routes() -> Router<IngestState> {
    Router::new().route("/in/planfix", post(command)).route("/in/planfix/", post(command))
}

async fn command(State(state): State<IngestState>, request: Request) -> Response {
    take(&state, request).await.unwrap_or_else(refused)
}

async fn take(state: &IngestState, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let limit = settings.limits.message_bytes;
    let inbound = Inbound::read(state, request, Source::Planfix, limit, &TOKEN_FIELDS).await?;
    if !matches!(&*inbound.media_type(), "" | "application/x-www-form-urlencoded") {
        return Err(Refusal::UnsupportedMediaType("a form is taken here".to_owned()));
    }
    if inbound.is_empty() {
        return Err(Refusal::Unprocessable("the request has neither query nor body".to_owned()));
    }
    let event = inbound.event(KIND, inbound.body.clone());
    let fields = Form::of_event(&event).unwrap_or_default();
    if fields.get("cmd") == Some("contact") {
        return Ok(match fields.text("phone") {
            Some(phone) => contact::answer(state, &settings, &inbound.tenant, phone).await,
            None => invalid_parameters(),
        });
    }
    let receipts = match links::in_fields(&event.tenant, event.received_at, &fields) {
        Some(link) => accept_link(state, event, link).await?,
        None => accept_events(state, vec![event]).await?,
    };
    Ok(match receipts.last() {
        Some(receipt) if receipt.quarantined => stored(invalid_parameters(), receipt),
        Some(receipt) => stored(accepted(), receipt),
        None => accepted(),
    })
}

/// Stores the message and then has its file fetched. A task of its own, because a sender that hangs up ends this
/// request, and the file of a message that is stored already must be fetched all the same.
async fn accept_link(state: &IngestState, event: Event, link: FetchRequest) -> Result<Vec<Receipt>, Refusal> {
    let state = state.clone();
    let accepting = tokio::spawn(async move {
        let receipts = accept_events(&state, vec![event]).await?;
        // A repeat's file is fetched already, or on its way.
        if receipts.last().is_some_and(|receipt| !receipt.duplicate && !receipt.quarantined) {
            state.fetcher.request(link);
        }
        Ok::<_, Refusal>(receipts)
    });
    accepting.await.map_err(|_| Refusal::from(Error::Closed))?
}

fn accepted() -> Response {
    json(StatusCode::OK, "")
}

fn invalid_parameters() -> Response {
    json(StatusCode::BAD_REQUEST, r#"{"error":"Invalid parameters"}"#)
}

fn json(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Planfix knows two refusals; the rest speaks the general dialect.
fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthorized | Refusal::Forbidden(_) => json(StatusCode::UNAUTHORIZED, r#"{"error":"Invalid token"}"#),
        Refusal::Unprocessable(_) | Refusal::Unreadable(_) => invalid_parameters(),
        other => other.into_response(),
    }
}
