//! Recordings read back where they were uploaded to: what ingest asks and query answers.

use async_trait::async_trait;
use axum::http::request::Parts;
use axum::response::Response;
use trunklog_ingest::RecordedAudio;
use trunklog_query::QueryState;
use trunklog_query::recordings::uploaded;
use trunklog_storage::event::Source;

/// Serves what is stored.
pub struct ServedRecordings {
    query: QueryState,
}

impl ServedRecordings {
    pub fn new(query: QueryState) -> ServedRecordings {
        ServedRecordings { query }
    }
}

#[async_trait]
impl RecordedAudio for ServedRecordings {
    async fn answer(&self, tenant: &str, source: Source, uploaded_as: &str, parts: &Parts) -> Response {
        uploaded(&self.query, tenant, source, uploaded_as, parts).await
    }
}
