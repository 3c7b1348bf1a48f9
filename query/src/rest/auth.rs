//! Who asks, and whose rows that lets them read.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap};
use trunklog_storage::keys::{Denied, Principal, from_authorization};

use super::QueryState;
use super::problem::Problem;
use crate::engine::Access;

const SCOPE: &str = "query";

/// The access of this request; `tenant` is the parameter of that name, which narrows an administrator's view.
pub(super) fn access(
    state: &QueryState,
    headers: &HeaderMap,
    extensions: &Extensions,
    tenant: Option<&str>,
) -> Result<Access, Problem> {
    let principal = principal(state, headers, extensions)?;
    if principal.is_admin() {
        return Ok(tenant.map_or_else(Access::all, Access::tenant));
    }
    if !principal.has(SCOPE) {
        return Err(Problem::forbidden("the key lacks the scope `query`"));
    }
    let Some(own) = &principal.tenant else {
        return Err(Problem::forbidden("the key belongs to no tenant"));
    };
    if tenant.is_some_and(|tenant| tenant != own) {
        return Err(Problem::forbidden("the key belongs to another tenant"));
    }
    Ok(Access::tenant(own))
}

fn principal(state: &QueryState, headers: &HeaderMap, extensions: &Extensions) -> Result<Principal, Problem> {
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
