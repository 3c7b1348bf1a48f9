//! trunklog_ingest: HTTP in, and what the messages mean.
//!
//! A request comes in under `/in`, by [`router`]; [`accept::Inbound`] limits, authenticates and redacts it
//! ([`auth`]); the source's own module in [`sources`] makes events of it and answers in the sender's dialect;
//! [`accept::accept`] appends them, and answers only when they are durable. What a message says about its call is
//! decoded from the stored form alone, by the [`adapters`] that the archive gets at start.

pub mod accept;
pub mod adapters;
pub mod auth;
pub mod fetch;
pub mod form;
pub mod numbers;
pub mod recordings;
pub mod reject;
pub mod settings;
pub mod sources;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::Response;
use tower::util::MapRequest;
use trunklog_storage::event::Source;
use trunklog_storage::keys::Keys;
use trunklog_storage::media::Media;
use trunklog_storage::partitions::Partitions;

pub use accept::{Inbound, accept, accept_events, counts, stored};
pub use adapters::adapters;
pub use form::{Form, FormError};
pub use recordings::RecordedAudio;
pub use reject::Refusal;
pub use settings::{Contact, ContactLookup, Limits, NoContacts, Settings, SharedSettings, TenantSettings};

/// What the handlers need; cheap to clone.
#[derive(Clone)]
pub struct IngestState {
    /// Where messages go.
    pub archive: Partitions,
    /// Who may send.
    pub keys: Keys,
    /// What is configured.
    pub settings: SharedSettings,
    /// Names and managers for Planfix's `contact` beyond the contacts file.
    pub contacts: std::sync::Arc<dyn ContactLookup>,
    /// Where the bytes of recordings go.
    pub media: Media,
    /// Fetches the files that messages link to.
    pub fetcher: fetch::FetchQueue,
    /// Gives recordings back where they were uploaded to.
    pub recorded: std::sync::Arc<dyn RecordedAudio>,
}

/// Everything under `/in`, with and without a key as the first segment.
pub fn router(state: IngestState) -> Router {
    let inner: Router = Router::new()
        .merge(counted(sources::bulk::routes(), "bulk"))
        .merge(counted(sources::placetel::routes(), Source::Placetel.as_str()))
        .merge(counted(sources::planfix::routes(), Source::Planfix.as_str()))
        .nest("/in/kazoo", counted(sources::kazoo::routes(Source::Kazoo), Source::Kazoo.as_str()))
        .nest("/in/virtualpbx", counted(sources::virtualpbx::routes(), Source::Virtualpbx.as_str()))
        .nest("/in/voispeed", counted(sources::voispeed::routes(), Source::Voispeed.as_str()))
        .fallback(|| async { Refusal::NotFound })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .with_state(state);
    // The key must leave the path before routes are matched, so the rewriting wraps the router.
    let rewritten = MapRequest::new(inner, auth::take_path_key as fn(Request) -> Request);
    Router::new().route_service("/in/{*rest}", rewritten).layer(from_fn(without_head))
}

/// Axum takes a HEAD for a GET, but here a GET stores a message. Only recordings are there to be looked at.
async fn without_head(mut request: Request, next: Next) -> Response {
    if request.uri().path().split('/').any(|segment| segment == "recordings") {
        return next.run(request).await;
    }
    if request.method() == Method::HEAD {
        // No route takes this one, so the answer is that others are allowed.
        *request.method_mut() = Method::TRACE;
    }
    let mut response = next.run(request).await;
    let allowed = response.headers().get(header::ALLOW).and_then(|value| value.to_str().ok());
    let allowed = allowed.map(|methods| methods.split(',').filter(|method| *method != "HEAD").collect::<Vec<_>>());
    if let Some(value) = allowed.and_then(|methods| HeaderValue::from_str(&methods.join(",")).ok()) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Counts what was refused, however the source words its refusals: an error that stored nothing.
fn counted(routes: Router<IngestState>, label: &'static str) -> Router<IngestState> {
    routes.layer(map_response(move |response: Response| async move {
        if is_refusal(&response) {
            metrics::counter!("trunklog_messages_total", "source" => label, "result" => "refused").increment(1);
        }
        response
    }))
}

fn is_refusal(response: &Response) -> bool {
    const REFUSALS: [StatusCode; 9] = [
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    REFUSALS.contains(&response.status()) && !response.headers().contains_key(accept::OFFSET_HEADER)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn answer(method: Method, path: &str) -> Response {
        let inner: Router =
            Router::new().route("/in/hook", get(|| async {})).route("/in/recordings/r", get(|| async {}));
        let rewritten = MapRequest::new(inner, auth::take_path_key as fn(Request) -> Request);
        let router: Router = Router::new().route_service("/in/{*rest}", rewritten).layer(from_fn(without_head));
        let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_head_stores_nothing() {
        let refused = answer(Method::HEAD, "/in/hook").await;
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()[header::ALLOW], "GET");
        assert_eq!(answer(Method::GET, "/in/hook").await.status(), StatusCode::OK);
        assert_eq!(answer(Method::HEAD, "/in/recordings/r").await.status(), StatusCode::OK);
    }
}
