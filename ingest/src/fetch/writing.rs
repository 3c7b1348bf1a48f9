//! What came of a link, written into the log as `trunklog.fetch`, and the file before it.

use trunklog_storage::error::Error;
use trunklog_storage::media::Media;
use trunklog_storage::partitions::Partitions;
use trunklog_storage::recording::message::{self, Fetch, FetchOutcome, Upload};

use super::FetchRequest;
use super::client::Fetched;
use crate::recordings::{Identity, forget, keep};

const KIND: &str = "trunklog.fetch";
/// A log that takes nothing is asked so often.
const APPEND_TRIES: u32 = 60;

/// How far the fetching of this link has come.
pub(super) fn fetch(request: &FetchRequest, outcome: FetchOutcome, attempts: u32) -> Fetch {
    Fetch {
        source: request.source,
        call_key: request.call_key.clone(),
        url: request.url.clone(),
        outcome,
        attempts,
        error: None,
        upload: None,
    }
}

/// Keeps a file and says in the log that it is stored. A file that the call has already is not kept twice.
pub(super) async fn store(
    archive: &Partitions,
    media: &Media,
    request: &FetchRequest,
    attempts: u32,
    fetched: Fetched,
) -> Result<(), Error> {
    let Fetched { received, media_type, name } = fetched;
    let identity =
        Identity { tenant: &request.tenant, source: request.source, key_or_path: &request.call_key, external_id: None };
    // The claim is held until the message is appended.
    let (_id, upload, known, _claim) = keep(archive, media, received, &identity).await?;
    let (object, bytes) = (upload.object.clone(), upload.bytes);
    let upload = Some(Upload { media_type, name, ..upload });
    let stored = Fetch { upload, ..fetch(request, FetchOutcome::Stored, attempts) };
    let appended = append(archive, &request.tenant, &stored).await;
    // Only what was refused is certainly not in the log.
    let refused = matches!(appended, Err(Error::Full(_) | Error::Busy));
    if refused && !known {
        forget(media, &object).await;
    }
    if appended.is_ok() && !known {
        metrics::counter!("trunklog_recording_bytes_total", "source" => request.source.as_str()).increment(bytes);
    }
    appended
}

/// Appends one message of trunklog's own; waits a while for a log that is full or busy.
pub(super) async fn append(archive: &Partitions, tenant: &str, fetch: &Fetch) -> Result<(), Error> {
    let event = message::event(tenant, KIND, Some(&fetch.call_key), fetch);
    archive.append_patiently(event, Some(APPEND_TRIES)).await
}
