//! Who asks: the administrator that a request to our own routes must come from.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use trunklog_storage::keys::{Denied, Principal, from_authorization};

use super::AppState;
use super::problem::Problem;

/// An authenticated administrator; a handler that takes one cannot be reached by anybody else.
pub struct Administrator(pub Principal);

impl FromRequestParts<AppState> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Administrator, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header
            .and_then(from_authorization)
            .ok_or_else(|| Problem::unauthorized("send a key: `Authorization: Bearer tlk_…`"))?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let principal = state.keys.authenticate(&token, address).map_err(|denied| match denied {
            Denied::Unauthorized => Problem::unauthorized(denied.to_string()),
            Denied::Address => Problem::forbidden(denied.to_string()),
        })?;
        if !principal.is_admin() {
            return Err(Problem::forbidden("the key lacks the scope `admin`"));
        }
        Ok(Administrator(principal))
    }
}
