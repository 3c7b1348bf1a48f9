//! `serve --demo`: a tenant with a key of its own, what to try first, and traffic to look at.

use std::net::SocketAddr;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trunklog_storage::event::now;
use trunklog_storage::keys::NewKey;

use super::AppState;
use crate::error::Error;
use crate::{output, simulate};

const TENANT: &str = "demo";
/// Every start makes a key, so old ones go by themselves.
const KEY_LIFETIME_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;

/// Makes the key, prints what to try, and starts the traffic; it ends with `stop`.
pub fn start(state: &AppState, address: SocketAddr, stop: CancellationToken) -> Result<JoinHandle<()>, Error> {
    let history = state.archive.visible().is_empty();
    let scopes = ["ingest:*", "query", "recordings:read", "export"].map(str::to_owned).to_vec();
    let expires_at = Some(now().saturating_add(KEY_LIFETIME_MICROS));
    let request = NewKey { tenant: Some(TENANT.to_owned()), scopes, expires_at, ..NewKey::default() };
    let key = state.keys.create(request)?.token;
    let url = format!("http://{address}");
    output::line(&welcome(&url, &key));
    Ok(tokio::spawn(async move {
        simulate::demo(url, key, history, stop).await;
    }))
}

fn welcome(url: &str, key: &str) -> String {
    format!(
        "\
demo key: {key}
web: {url}/
try:
  curl -H 'Authorization: Bearer {key}' -H 'Content-Type: text/plain' {url}/v1/sql \\
    -d 'SELECT source, disposition, count(*) AS calls FROM calls GROUP BY 1, 2 ORDER BY 1, 3 DESC'
  curl -H 'Authorization: Bearer {key}' '{url}/v1/calls?limit=3'
  curl -H 'Authorization: Bearer {key}' '{url}/v1/recordings?limit=3'
  curl '{url}/in/{key}/placetel' -d event=IncomingCall -d call_id=my-first-call -d from=493012345 -d to=493098765 \\
    -d direction=in
  trunklog sql --url {url} --key {key} \"SELECT call_key, state, from_e164 FROM calls WHERE call_key = 'my-first-call'\""
    )
}
