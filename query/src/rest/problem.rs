//! Errors as RFC 9457 problem documents.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Limit, QueryError};

/// One problem document.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    parameter: Option<String>,
    limit: Option<Limit>,
    retry_after: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, slug, title, detail: detail.into(), parameter: None, limit: None, retry_after: None }
    }

    pub(super) fn unauthorized() -> Problem {
        let detail = "send a key as `Authorization: Bearer`; it must exist, not be expired and not be revoked";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "No valid key", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    pub(super) fn not_found(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", format!("there is no such {what}"))
    }

    fn retry(mut self, seconds: &'static str) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    fn at(mut self, parameter: impl Into<String>) -> Problem {
        self.parameter = Some(parameter.into());
        self
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        let detail = error.to_string();
        if matches!(error, QueryError::Internal(_)) {
            tracing::error!(error = error.kind(), "a query failed");
        }
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            QueryError::Sql(_) => Problem::new(StatusCode::BAD_REQUEST, "sql", "The SQL is wrong", detail),
            QueryError::ReadOnly(_) => {
                Problem::new(StatusCode::FORBIDDEN, "read-only", "Only queries are allowed", detail)
            }
            QueryError::Limit { limit, .. } => {
                let mut problem =
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "limit", "A limit was reached", detail);
                problem.limit = Some(limit);
                problem
            }
            QueryError::Busy => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", "Too many queries", detail).retry("1")
            }
            QueryError::Parameter { parameter, .. } => {
                Problem::new(StatusCode::BAD_REQUEST, "parameter", "A parameter is wrong", detail).at(parameter)
            }
            QueryError::NotFound(_) => Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail).at("name"),
            QueryError::NotYet(_) => {
                Problem::new(unavailable, "not-visible-yet", "Not visible yet", detail).retry("1").at("min_offset")
            }
            QueryError::Gone(_) => Problem::new(StatusCode::GONE, "gone", "No longer available", detail),
            QueryError::Unavailable(_) => Problem::new(unavailable, "unavailable", "Not available", detail).retry("5"),
            QueryError::Internal(_) => {
                let detail = "the server's log says more";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:trunklog:problem:{}", self.slug),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "retryable": self.retry_after.is_some(),
        });
        if let Some(parameter) = self.parameter {
            body["parameter"] = parameter.into();
        }
        if let Some(limit) = self.limit {
            body["limit"] = limit.as_str().into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
