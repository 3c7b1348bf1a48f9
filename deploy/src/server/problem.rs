//! Errors of our own routes as RFC 9457 `application/problem+json`.

use std::io;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use trunklog_storage::error::Error;

/// What a route refuses with.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    retryable: bool,
    parameter: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, slug: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        let retryable = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        Problem { status, slug, title, detail: detail.into(), retryable, parameter: None }
    }

    /// A parameter or field is wrong.
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "parameter", "A parameter is wrong", detail);
        Problem { parameter: Some(name.into()), ..problem }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "No valid key", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub fn method_not_allowed() -> Problem {
        let detail = "this route does not take that method; `Allow` names those that it takes";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    pub fn internal() -> Problem {
        let detail = "the request failed inside trunklog; its log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available", detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Full(_) | Error::Busy | Error::Unavailable(_) | Error::Poisoned(_) | Error::Closed => {
                Problem::unavailable(error.to_string())
            }
            Error::Gone(_) => Problem::new(StatusCode::GONE, "gone", "No longer available", error.to_string()),
            Error::Conflict(_) => Problem::conflict(error.to_string()),
            Error::Config(reason) => Problem::bad_request(reason),
            error if error.is_outage() => Problem::unavailable(error.to_string()),
            error if is_out_of_space(&error) => {
                tracing::error!(%error, "no space left");
                Problem::unavailable("no space left on the server's disk")
            }
            error => {
                tracing::error!(%error, "a request failed");
                Problem::internal()
            }
        }
    }
}

/// Whether a full disk is what lies at the bottom of this error.
fn is_out_of_space(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        next = cause.source();
    }
    // Some layers of the tables keep only the text of what failed below them.
    error.to_string().contains("(os error 28)")
}

/// An I/O error that wraps another is no link of its chain, so it is looked into.
fn is_full(error: &io::Error) -> bool {
    let wrapped = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) || wrapped.is_some_and(is_full)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:trunklog:problem:{}", self.slug),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "retryable": self.retryable,
        });
        if let Some(parameter) = self.parameter {
            body["parameter"] = parameter.into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trunklog\""));
        }
        if self.retryable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: Error) -> Response {
        Problem::from(error).into_response()
    }

    #[test]
    fn a_full_disk_is_no_defect() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let plain = Error::Io { context: "writing".into(), source: full() };
        let wrapped = Error::Io { context: "writing".into(), source: io::Error::other(full()) };
        let deep = Error::Arrow(arrow::error::ArrowError::IoError("writing".into(), full()));
        for error in [plain, wrapped, deep] {
            let answer = answer(error);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key(header::RETRY_AFTER));
        }
        let other = Error::Io { context: "reading".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(answer(other).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
