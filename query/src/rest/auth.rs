//! Who asks, and whose rows that lets them read.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap};
use trunklog_storage::keys::{Denied, Principal, from_authorization};

use super::QueryState;
use super::problem::Problem;
use crate::engine::Access;

/// Lets read what the tables say.
pub(super) const QUERY: &str = "query";

/// Lets listen to recordings.
pub(super) const RECORDINGS_READ: &str = "recordings:read";

/// The access of a request that needs this scope; `tenant` is the parameter of that name, which narrows an
/// administrator's view.
pub(super) fn access(
    scope: &str,
    state: &QueryState,
    headers: &HeaderMap,
    extensions: &Extensions,
    tenant: Option<&str>,
) -> Result<Access, Problem> {
    let principal = principal(state, headers, extensions)?;
    if principal.is_admin() {
        return Ok(tenant.map_or_else(Access::all, Access::tenant));
    }
    if !principal.has(scope) {
        return Err(Problem::forbidden(format!("the key lacks the scope `{scope}`")));
    }
    let Some(own) = &principal.tenant else {
        return Err(Problem::forbidden("the key belongs to no tenant"));
    };
    if tenant.is_some_and(|tenant| tenant != own) {
        return Err(Problem::forbidden("the key belongs to another tenant"));
    }
    Ok(Access::tenant(own))
}

/// Who asks.
pub(super) fn principal(
    state: &QueryState,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Principal, Problem> {
    if let Some(principal) = extensions.get::<Principal>() {
        return Ok(principal.clone());
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(from_authorization).ok_or_else(Problem::unauthorized)?;
    let address = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    state.keys.authenticate(&token, address).map_err(|denied| match denied {
        Denied::Unauthorized => Problem::unauthorized(),
        Denied::Address => Problem::forbidden("the key may not be used from this address"),
    })
}
