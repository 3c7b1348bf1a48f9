//! `POST /in/events`: bulk load and replay, one structured CloudEvent per line.

mod line;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use trunklog_storage::archive::Receipt;
use trunklog_storage::error::Error;
use trunklog_storage::event::{Event, Source, new_event_id};
use trunklog_storage::keys::Keys;

use crate::IngestState;
use crate::accept::{Inbound, accept_events, counts};
use crate::auth::Secrets;
use crate::reject::Refusal;
use line::{BadLine, Line};

/// So many messages are decoded and appended at once.
const BATCH: usize = 2048;

/// The one route.
pub fn routes() -> Router<IngestState> {
    Router::new().route("/in/events", post(load))
}

async fn load(State(state): State<IngestState>, request: Request) -> Result<Response, Refusal> {
    let limits = state.settings.load().limits;
    // The source comes with each line; the key must hold for any.
    let inbound = Inbound::read(&state, request, Source::Trunklog, limits.report_bytes, &[]).await?;
    check_media_type(&inbound.media_type())?;
    if inbound.is_empty() {
        return Err(Refusal::Unprocessable("the request has neither query nor body".to_owned()));
    }
    let template = inbound.event("", Bytes::new());
    let keys = state.keys.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut events = read_lines(&template, &inbound.body, limits.message_bytes)?;
        events.iter_mut().for_each(|event| redact(event, inbound.secrets.clone(), &keys));
        Ok::<_, Refusal>(events)
    });
    let mut events = reading.await.map_err(|_| Refusal::from(Error::Closed))??;
    let mut receipts: Vec<Receipt> = Vec::with_capacity(events.len());
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(BATCH));
        receipts.extend(accept_events(&state, std::mem::replace(&mut events, rest)).await?);
    }
    Ok(counts(&receipts))
}

/// The body was redacted as it came; what was in base64 shows only now.
fn redact(event: &mut Event, mut secrets: Secrets, keys: &Keys) {
    let works = |token: &str| keys.authenticate(token, None);
    let texts = event.path.iter().chain(&event.query).chain(&event.content_type).chain(event.headers.values());
    let mut texts: Vec<&[u8]> = texts.map(|text| text.as_bytes()).collect();
    secrets.add_encoded_keys(&texts, works);
    texts.push(&event.payload);
    secrets.add_other_keys(&texts, works);
    event.payload = secrets.redact(&event.payload);
    let texts = event.path.iter_mut().chain(&mut event.query).chain(&mut event.content_type);
    for text in texts.chain(Arc::make_mut(&mut event.headers).values_mut()) {
        *text = secrets.redact_text(text).into();
    }
}

fn check_media_type(media_type: &str) -> Result<(), Refusal> {
    const TAKEN: [&str; 11] = [
        "",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/cloudevents+json",
        "application/json",
        "text/plain",
        "application/octet-stream",
        // curl says so when nobody told it otherwise.
        "application/x-www-form-urlencoded",
        "application/json-lines",
    ];
    if TAKEN.contains(&media_type) {
        Ok(())
    } else {
        Err(Refusal::UnsupportedMediaType("lines of JSON are taken here".to_owned()))
    }
}

/// An event per line. A line that is no event is kept as a quarantined one; a line of another tenant refuses all.
fn read_lines(template: &Event, body: &Bytes, limit: usize) -> Result<Vec<Event>, Refusal> {
    let mut events: Vec<Event> = Vec::new();
    let mut unattributed: Vec<usize> = Vec::new();
    let mut attributed: Option<Source> = None;
    for text in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        if text.len() > limit {
            return Err(Refusal::TooLarge(limit));
        }
        match Line::parse(text, &template.tenant).and_then(|line| line.into_event(template, body)) {
            Ok(event) => {
                attributed = attributed.or(Some(event.source));
                events.push(event);
            }
            Err(BadLine::OtherTenant) => {
                return Err(Refusal::Forbidden("a line names another tenant than the key's".to_owned()));
            }
            Err(BadLine::Invalid { error, source }) => {
                if source.is_none() {
                    unattributed.push(events.len());
                }
                events.push(bad_event(template, body.slice_ref(text), error, source.unwrap_or(Source::Kazoo)));
            }
        }
    }
    // Every message has a source; a line that names none goes with the first event's.
    if let Some(source) = attributed {
        for index in unattributed {
            events[index].source = source;
            events[index].kind = format!("{source}.unknown").into();
        }
    }
    Ok(events)
}

fn bad_event(template: &Event, payload: Bytes, error: String, source: Source) -> Event {
    Event {
        id: new_event_id(),
        source,
        kind: format!("{source}.unknown").into(),
        error: Some(error),
        payload,
        ..template.clone()
    }
}

#[cfg(test)]
mod tests;
