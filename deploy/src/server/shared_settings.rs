//! Settings that nodes share: `config/settings.toml` in the bucket, a layer under each node's own file. Whoever changes
//! them on one node has them in force on all within seconds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use trunklog_storage::bucket::Bucket;
use trunklog_storage::error::Error as StorageError;

use super::AppState;
use super::access::Administrator;
use super::parameters::Parameters;
use super::problem::Problem;
use crate::config::{Checked, Overrides, SHARED_FILE};
use crate::error::Error;

/// Settings of thousands of tenants.
const LARGEST: usize = 2 << 20;
/// How often each node looks for changes.
const LOOK: Duration = Duration::from_secs(1);

/// The settings in the bucket, as they were last seen.
#[derive(Default)]
pub struct Shared {
    bucket: Option<Bucket>,
    tag: Option<String>,
}

impl Shared {
    /// Those of this bucket, with their text; without one nothing is shared.
    async fn read(bucket: Option<&Bucket>) -> Result<(Shared, Option<Arc<str>>), StorageError> {
        let mut shared = Shared { bucket: bucket.cloned(), tag: None };
        let text = shared.newer().await?;
        Ok((shared, text))
    }

    async fn newer(&mut self) -> Result<Option<Arc<str>>, StorageError> {
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let Some((bytes, tag)) = bucket.read_newer(SHARED_FILE, self.tag.as_deref()).await? else { return Ok(None) };
        self.tag = Some(tag);
        Ok(Some(text(&bytes).into()))
    }

    /// Waits until they are others, and gives their text.
    pub async fn changed(&mut self) -> Option<Arc<str>> {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.newer().await {
                Ok(Some(text)) => return Some(text),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot look for changed settings; the old ones stay in force"),
            }
        }
    }
}

/// The configuration with what nodes share, if they do; and where that is from.
pub async fn load(overrides: &Overrides) -> Result<(Checked, Overrides, Shared), Error> {
    let config = overrides.load()?;
    let bucket = config.archive.bucket.as_ref().filter(|_| config.archive.is_shared());
    let (shared, text) = Shared::read(bucket).await?;
    let overrides = Overrides { shared: text, ..overrides.clone() };
    Ok((overrides.load()?, overrides, shared))
}

/// What is no UTF-8 is refused as TOML.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bucket that nodes share.
fn bucket(state: &AppState) -> Result<&Bucket, Problem> {
    let shared = state.archive.bucket().filter(|_| state.archive.is_shared());
    shared.ok_or_else(|| Problem::conflict("the settings of a single node are in its file: change it and send SIGHUP"))
}

/// `GET /v1/admin/settings`: the settings that nodes share, as TOML.
pub async fn show(
    _: Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let stored = bucket(&state)?.read_newer(SHARED_FILE, None).await?;
    let text = stored.map(|(bytes, _)| text(&bytes)).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "application/toml")], text))
}

/// `PUT /v1/admin/settings`: replaces them, if this node could start with them.
pub async fn replace(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<StatusCode, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let bucket = bucket(&state)?;
    let body = to_bytes(body, LARGEST).await;
    let body = body.map_err(|_| Problem::too_large(format!("at most {LARGEST} bytes are taken")))?;
    let body = text(&body);
    let wanted = Overrides { shared: Some(body.as_str().into()), ..(*state.overrides).clone() };
    wanted.load().map_err(|error| Problem::bad_request(error.to_string()))?;
    bucket.put(SHARED_FILE, body.into_bytes()).await?;
    tracing::info!(by = administrator.key_id, "the settings of all nodes were replaced");
    Ok(StatusCode::NO_CONTENT)
}
