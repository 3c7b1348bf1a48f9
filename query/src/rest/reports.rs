//! `GET /v1/reports` and `/v1/reports/{name}`: the catalogue, answers for who polls, and a stream of changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use trunklog_storage::position::Position;

use super::QueryState;
use super::auth;
use super::call::json_body;
use super::parameters::{Common, Parameters};
use super::problem::Problem;
use super::recordings::conditional::{Precondition, Validators, precondition};
use super::stream::put_as_of;
use crate::engine::Access;
use crate::error::QueryError;
use crate::format::{Format, negotiate};
use crate::moment::Moment;
use crate::reports::{Question, Request as Asked, Served, catalogue_json};

/// What is answered may be kept, but must be asked for again.
const CACHING: HeaderValue = HeaderValue::from_static("private, no-cache");
/// How often a stream of changes looks, at most.
const PACE: Duration = Duration::from_millis(100);
/// How often it looks whether the key still holds, and shows that it lives.
const BEAT: Duration = Duration::from_secs(10);

/// The routes. Of a state that a request need not copy in all its parts: pollers are many.
pub(super) fn routes(state: QueryState) -> Router {
    let routes = Router::new().route("/v1/reports", get(list)).route("/v1/reports/{name}", get(show));
    routes.with_state(Arc::new(state))
}

/// The catalogue.
async fn list(State(state): State<Arc<QueryState>>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    auth::access(auth::QUERY, &state, &parts.headers, &parts.extensions, None)?;
    Parameters::of(&parts.uri)?.nothing_left()?;
    Ok(json_body(catalogue_json().to_string().into_bytes()))
}

/// One report.
async fn show(
    State(state): State<Arc<QueryState>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    state.engine.polled().requests.increment(1);
    let asked = Polling::of(&state, &name, &parts)?;
    let form = Form::of(&parts.headers)?;
    let served = match asked {
        Polling::Once { access, request, moment, common } => {
            common.wait(&state).await?;
            state.engine.report_once(&access, &request, moment).await?
        }
        Polling::Again { question, min_offset, common } => {
            if let Some(common) = common {
                common.wait(&state).await?;
            }
            if form == Form::Changes {
                return Ok(changes(state, parts, question).into_response());
            }
            question.answer(&state.engine, min_offset).await?
        }
    };
    match form {
        Form::Rows(format) => respond(&parts, &served, format),
        Form::Changes => {
            Err(QueryError::parameter("as_of", "what was does not change: there is nothing to stream").into())
        }
    }
}

/// In which form the client wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Rows(Format),
    /// Server-sent events.
    Changes,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = match (accepted.next(), accepted.next()) {
            (None, _) => return Ok(Form::Rows(Format::Json)),
            (Some(only), None) => only.to_owned(),
            (Some(first), Some(second)) => [first, second].into_iter().chain(accepted).collect::<Vec<_>>().join(","),
        };
        if let Some(format) = negotiate(Some(&accept)) {
            return Ok(Form::Rows(format));
        }
        // Who takes rows as well gets these.
        let streams = accept.split([',', ';']).any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"));
        streams.then_some(Form::Changes).ok_or_else(|| {
            let detail = "there are JSON, NDJSON, CSV, Arrow streams, Parquet and text/event-stream";
            Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "No such form", detail)
        })
    }
}

/// A question to a report.
enum Polling {
    /// About an earlier moment.
    Once { access: Access, request: Box<Asked>, moment: Moment, common: Common },
    /// About now; it may come again.
    Again { question: Arc<Question>, min_offset: Option<Position>, common: Option<Common> },
}

impl Polling {
    fn of(state: &QueryState, name: &str, parts: &Parts) -> Result<Polling, Problem> {
        let url = parts.uri.path_and_query().map(|url| url.as_str()).unwrap_or_default();
        let own = auth::access(auth::QUERY, state, &parts.headers, &parts.extensions, None)?;
        // What does not change from poll to poll need not be understood again.
        if let Some(question) = state.engine.polled().by_url(&own, url) {
            return Ok(Polling::Again { question, min_offset: None, common: None });
        }
        let mut parameters = Parameters::of(&parts.uri)?;
        let common = Common::take(state, parts, &mut parameters)?;
        let access = common.access.clone();
        let request = Asked::parse(name, parameters)?;
        if common.moment != Moment::Now {
            return Ok(Polling::Once { access, request: Box::new(request), moment: common.moment, common });
        }
        let only_asks = common.min_offset.is_none() && access == own;
        let url = only_asks.then(|| url.to_owned());
        let question = state.engine.polled().question(&access, &request, url);
        Ok(Polling::Again { question, min_offset: common.min_offset, common: Some(common) })
    }
}

fn respond(parts: &Parts, served: &Served, format: Format) -> Result<Response, Problem> {
    let encoded = served.encoded(format)?;
    let validators = Validators { etag: encoded.etag.to_str().unwrap_or_default(), last_modified: None };
    let mut response = match precondition(&parts.method, &parts.headers, validators) {
        Precondition::Holds => {
            let mut response = Response::new(Body::from(encoded.bytes));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            response
        }
        Precondition::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Precondition::Failed => StatusCode::PRECONDITION_FAILED.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, encoded.etag);
    headers.insert(CACHE_CONTROL, CACHING);
    headers.insert(VARY, HeaderValue::from_static("accept, authorization, cookie"));
    put_as_of(headers, served.checked);
    headers.insert("trunklog-lag-ms", HeaderValue::from(served.checked_at.elapsed().as_millis() as u64));
    Ok(response)
}

/// What a stream of changes knows.
struct Watch {
    state: Arc<QueryState>,
    parts: Parts,
    question: Arc<Question>,
    told: Option<HeaderValue>,
}

/// An event at once, and one after each change.
fn changes(state: Arc<QueryState>, parts: Parts, question: Arc<Question>) -> Response {
    let watch = Watch { state, parts, question, told: None };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<Event, Infallible>(event), watch))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(BEAT)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Watch {
    /// The next change; `None` when the key no longer holds or the server stops.
    async fn next(&mut self) -> Option<Event> {
        let stopping = self.state.stopping.clone();
        loop {
            auth::access(auth::QUERY, &self.state, &self.parts.headers, &self.parts.extensions, None).ok()?;
            let served = tokio::select! {
                served = self.question.answer(&self.state.engine, None) => served,
                () = stopping.cancelled() => return None,
            };
            let served = match served {
                Ok(served) => served,
                Err(QueryError::Busy) => {
                    tokio::time::sleep(PACE).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.kind(),
                        report = self.question.definition().name,
                        "a stream of changes ended"
                    );
                    return None;
                }
            };
            let etag = served.encoded(Format::Json).ok()?.etag;
            if self.told.as_ref() != Some(&etag) {
                let tag = etag.to_str().unwrap_or_default().trim_matches('"').to_owned();
                let data = format!(r#"{{"etag":"\"{tag}\"","as_of":{}}}"#, served.as_of().to_json());
                self.told = Some(etag);
                return Some(Event::default().event("changed").id(tag).data(data));
            }
            tokio::select! {
                () = self.state.engine.archive().wait_for_more(served.checked.offset, BEAT) => {}
                () = tokio::time::sleep(served.until_change(BEAT)) => {}
                () = stopping.cancelled() => return None,
            }
            // An answer younger than this would be the one of before.
            tokio::time::sleep(PACE.saturating_sub(served.checked_at.elapsed())).await;
        }
    }
}
