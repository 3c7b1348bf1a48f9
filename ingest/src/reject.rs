//! Refusals: what ingest answers when it stores nothing, as RFC 9457 problem documents.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trunklog_storage::error::Error;

/// Why a request was not taken. Nothing of it was stored.
#[derive(Debug)]
pub enum Refusal {
    /// No key, or one that is unknown, expired or revoked, or a wrong signature.
    Unauthorized,
    /// The key may not do this.
    Forbidden(String),
    /// The body, or one line of it, has more bytes than this.
    TooLarge(usize),
    /// A content type that this route does not take.
    UnsupportedMediaType(String),
    /// There is nothing in the request.
    Unprocessable(String),
    /// The body broke off or could not be read.
    Unreadable(String),
    /// The body stopped coming.
    Timeout(String),
    /// The body is not what its digest says.
    DigestMismatch(String),
    /// The archive cannot take it now.
    Unavailable(Box<Error>),
    /// No such route.
    NotFound,
    /// The route takes other methods.
    MethodNotAllowed,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Unreadable(_) | Refusal::DigestMismatch(_) => StatusCode::BAD_REQUEST,
            Refusal::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn detail(&self) -> String {
        match self {
            Refusal::Unauthorized => "a valid key is needed".to_owned(),
            Refusal::Forbidden(detail)
            | Refusal::UnsupportedMediaType(detail)
            | Refusal::Unprocessable(detail)
            | Refusal::Unreadable(detail)
            | Refusal::Timeout(detail)
            | Refusal::DigestMismatch(detail) => detail.clone(),
            Refusal::TooLarge(limit) => format!("at most {limit} bytes are taken"),
            Refusal::Unavailable(error) => error.to_string(),
            Refusal::NotFound => "there is no such route".to_owned(),
            Refusal::MethodNotAllowed => "the route takes other methods".to_owned(),
        }
    }

    fn slug(&self) -> &'static str {
        match self {
            Refusal::Unauthorized => "unauthorized",
            Refusal::Forbidden(_) => "forbidden",
            Refusal::TooLarge(_) => "too-large",
            Refusal::UnsupportedMediaType(_) => "unsupported-media-type",
            Refusal::Unprocessable(_) => "unprocessable",
            Refusal::Unreadable(_) => "unreadable",
            Refusal::Timeout(_) => "timeout",
            Refusal::DigestMismatch(_) => "digest-mismatch",
            Refusal::Unavailable(_) => "unavailable",
            Refusal::NotFound => "not-found",
            Refusal::MethodNotAllowed => "method-not-allowed",
        }
    }

    fn retry_after(&self) -> Option<u32> {
        match self {
            Refusal::Unavailable(error) if matches!(**error, Error::Busy) => Some(1),
            Refusal::Unavailable(_) => Some(5),
            _ => None,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::TooLarge(limit) => Refusal::TooLarge(usize::try_from(limit).unwrap_or(usize::MAX)),
            error => Refusal::Unavailable(Box::new(error)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = problem(status, self.slug(), &self.detail(), self.retry_after().is_some());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"trunklog\", Bearer"));
        }
        response
    }
}

/// A problem document.
pub fn problem(status: StatusCode, slug: &str, detail: &str, retryable: bool) -> Response {
    let document = serde_json::json!({
        "type": format!("urn:trunklog:problem:{slug}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "retryable": retryable,
    });
    let content_type: [(HeaderName, HeaderValue); 1] =
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
    (status, content_type, Json(document)).into_response()
}
