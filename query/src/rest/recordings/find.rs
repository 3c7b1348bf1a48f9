//! Which recording is meant, and where its bytes lie.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::common::ScalarValue;
use datafusion::prelude::{col, lit};
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::event::{Micros, Source, now};
use trunklog_storage::media::Stored;
use trunklog_storage::recording::Text;
use trunklog_storage::rows::KeyedRecording;

use super::media_type::served;
use super::serve::Entity;
use crate::engine::Access;
use crate::error::QueryError;
use crate::moment::{AsOf, Moment};
use crate::rest::QueryState;
use crate::rest::problem::Problem;
use crate::row::Row;

/// 16-bit PCM.
const BYTES_PER_SAMPLE: u64 = 2;

/// With those that the answers are sorted by.
const COLUMNS: &str = "recording_id, object, sha256, bytes, media_type, container, channels, sample_rate_hz,
    duration_ms, name, started_at, received_at, status, uploaded_as";

/// How a recording is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    /// By our id.
    Id(String),
    /// The call's only or first one.
    OfCall(String),
    /// The one stored last at this upload URL: what follows `/recordings/`, with the query if there was one.
    UploadedAs(Source, String),
}

/// What the table says about one recording, as far as serving it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub recording_id: String,
    pub sha256: String,
    pub channels: Option<i64>,
    pub container: Option<String>,
    sample_rate_hz: Option<i64>,
    duration_ms: Option<i64>,
    object: String,
    bytes: Option<i64>,
    media_type: Option<String>,
    name: Option<String>,
    received_at: Option<Micros>,
    gone: bool,
}

impl Found {
    fn read(row: Row<'_>) -> Found {
        let text = |name: &str| row.text(name).map(str::to_owned);
        Found {
            recording_id: text("recording_id").unwrap_or_default(),
            sha256: text("sha256").unwrap_or_default(),
            channels: row.whole("channels"),
            container: text("container"),
            sample_rate_hz: row.whole("sample_rate_hz"),
            duration_ms: row.whole("duration_ms"),
            object: text("object").unwrap_or_default(),
            bytes: row.whole("bytes"),
            media_type: text("media_type"),
            name: text("name"),
            received_at: row.time("received_at"),
            gone: matches!(row.text("status"), Some("deleted" | "erased")),
        }
    }

    fn of(recording: &KeyedRecording) -> Found {
        let state = &recording.state;
        let probed = state.probed();
        let text = |field: Text| state.get(field).map(str::to_owned);
        Found {
            recording_id: recording.id.to_string(),
            sha256: state.sha256.clone(),
            channels: probed.and_then(|probe| probe.channels),
            container: probed.and_then(|probe| probe.container.clone()),
            sample_rate_hz: probed.and_then(|probe| probe.sample_rate_hz),
            duration_ms: state.length_ms(),
            object: state.object().unwrap_or_default().to_owned(),
            bytes: i64::try_from(state.bytes).ok(),
            media_type: text(Text::MediaType),
            name: text(Text::Name),
            received_at: state.received_at(),
            gone: matches!(state.status(), "deleted" | "erased"),
        }
    }

    /// The stored bytes.
    pub(super) fn entity(&self) -> Entity {
        Entity {
            etag: format!("\"{}\"", self.sha256),
            media_type: served(self.container.as_deref(), self.media_type.as_deref()),
            file_name: Some(self.file_name().to_owned()),
            last_modified: self.last_modified(),
            sha256_hex: Some(self.sha256.clone()),
            attachment: false,
        }
    }

    /// Something that is made of the stored bytes, always the same. Its file name has this ending in place of the
    /// extension.
    pub(super) fn derived(&self, tag: &str, media_type: &str, ending: &str) -> Entity {
        let name = self.file_name();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        Entity {
            etag: format!("\"{}-{tag}\"", self.sha256),
            media_type: media_type.to_owned(),
            file_name: Some(format!("{stem}{ending}")),
            last_modified: self.last_modified(),
            sha256_hex: None,
            attachment: false,
        }
    }

    /// The key of the bytes.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    fn file_name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.recording_id)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        let micros = u64::try_from(self.received_at?).ok()?;
        Some(UNIX_EPOCH + Duration::from_micros(micros))
    }

    /// About how many bytes it, or one channel of it, has once decoded; `None` if the probe does not tell.
    pub(super) fn decoded_bytes(&self, channel: Option<u16>) -> Option<u64> {
        let natural = |number: Option<i64>| u64::try_from(number?).ok();
        let channels = if channel.is_some() { 1 } else { natural(self.channels)? };
        let samples = natural(self.duration_ms)?.saturating_mul(natural(self.sample_rate_hz)?) / 1000;
        Some(samples.saturating_mul(channels).saturating_mul(BYTES_PER_SAMPLE))
    }

    /// The address at which the client is to fetch the stored bytes, if it is to.
    pub(super) async fn elsewhere(&self, state: &QueryState) -> Result<Option<String>, Problem> {
        let signed = state.media.presign(&self.object).await.map_err(|error| self.unreadable(error))?;
        Ok(signed.map(String::from))
    }

    /// Opens the stored bytes, if they are all there.
    pub(super) async fn open(&self, state: &QueryState) -> Result<Stored, Problem> {
        let stored = state.media.open_object(&self.object).await.map_err(|error| self.unreadable(error))?;
        self.check_length(stored.bytes())?;
        Ok(stored)
    }

    /// Bytes that were cut off, or to which some were added, are not those that were acknowledged.
    fn check_length(&self, stored: u64) -> Result<(), Problem> {
        match self.bytes {
            Some(acknowledged) if u64::try_from(acknowledged).ok() != Some(stored) => {
                let object = &self.object;
                Err(self.unreadable(StorageError::Corrupt(format!("`{object}`: {stored} of {acknowledged} bytes"))))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that are not where the table says have been taken away since, or are lost: the log tells.
    pub(super) fn unreadable(&self, error: StorageError) -> Problem {
        match error {
            StorageError::Missing(_) => {
                tracing::error!(recording = self.recording_id, "the bytes of a recording are missing");
                gone()
            }
            StorageError::Corrupt(why) => {
                tracing::error!(recording = self.recording_id, why, "the bytes of a recording are damaged");
                QueryError::from(StorageError::Corrupt(why)).into()
            }
            other => QueryError::from(other).into(),
        }
    }
}

/// Finds the recording in what the access may see, and says what that was read at: 404 if there is none, 410 if its
/// bytes were taken away.
pub(super) async fn find(
    state: &QueryState,
    access: Access,
    moment: Moment,
    which: Which,
) -> Result<(Arc<Found>, AsOf), Problem> {
    let (found, as_of) = match (&which, moment) {
        (Which::Id(id), Moment::Now) => by_id(state, &access, id).await?,
        _ => match state.cache.found(&state.engine, &access, moment, &which) {
            Some(remembered) => remembered,
            None => look_up(state, access, moment, which).await?,
        },
    };
    if found.gone { Err(gone()) } else { Ok((found, as_of)) }
}

/// What an answer contains at least, if it is read after this.
fn visible(state: &QueryState) -> AsOf {
    let archive = state.engine.archive();
    AsOf { offset: archive.visible(), time: now() }
}

/// Not a query, so that playing does not wait for a place among queries.
async fn by_id(state: &QueryState, access: &Access, id: &str) -> Result<(Arc<Found>, AsOf), Problem> {
    let as_of = visible(state);
    let recording = state.engine.archive().recording(id).await.map_err(QueryError::from)?;
    let seen = recording.filter(|recording| access.only_tenant().is_none_or(|tenant| *tenant == recording.tenant));
    let recording = seen.ok_or_else(|| Problem::not_found("recording"))?;
    Ok((Arc::new(Found::of(&recording)), as_of))
}

/// The recording stored last at this upload URL. Senders that read back what they stored are not queries either; they
/// wait for each other.
async fn uploaded(
    state: &QueryState,
    access: &Access,
    source: Source,
    uploaded_as: &str,
) -> Result<Option<Found>, Problem> {
    let _turn = state.cache.look_up_turn().await;
    let (least, beyond) = without_query(uploaded_as);
    let at_url = col("uploaded_as").eq(lit(uploaded_as));
    let with_query = col("uploaded_as").gt_eq(lit(least.as_str())).and(col("uploaded_as").lt(lit(beyond.as_str())));
    let maybe = at_url.or(with_query).or(col("elsewhere"));
    // An upload to the very URL goes before one that had a query besides; then the last upload there.
    let last_upload = |recording: &KeyedRecording| {
        let uploads = &recording.state.uploads;
        let exact = uploads.get(uploaded_as).map(|at| (true, *at));
        let range = uploads.range(least.clone()..beyond.clone().max(least.clone()));
        exact.or_else(|| range.map(|(_, at)| (false, *at)).max())
    };
    let is_there = |recording: &KeyedRecording| {
        let own = recording.source == source && access.only_tenant().is_none_or(|tenant| *tenant == recording.tenant);
        own && last_upload(recording).is_some()
    };
    let archive = state.engine.archive();
    let found = archive.find_recordings(maybe, is_there).await.map_err(QueryError::from)?;
    let last = found.into_iter().max_by_key(|recording| (last_upload(recording), recording.id.clone()));
    Ok(last.as_ref().map(Found::of))
}

/// Who reads back without the query still means what was sent with one. All that begins with `path?` lies between that
/// and `path@`, the next letter.
fn without_query(uploaded_as: &str) -> (String, String) {
    if uploaded_as.contains('?') {
        (uploaded_as.to_owned(), uploaded_as.to_owned())
    } else {
        (format!("{uploaded_as}?"), format!("{uploaded_as}@"))
    }
}

/// The first row of a query with one id.
async fn first(
    state: &QueryState,
    access: &Access,
    moment: Moment,
    condition: &str,
    id: &str,
) -> Result<(Option<Found>, AsOf), Problem> {
    let session = state.engine.session(access.clone(), moment).await?;
    let sql = format!("SELECT {COLUMNS} FROM recordings WHERE {condition} LIMIT 1");
    let batches = session.collect(&sql, vec![ScalarValue::Utf8(Some(id.to_owned()))]).await?.batches;
    Ok((Row::all(&batches).next().map(Found::read), session.as_of()))
}

async fn look_up(
    state: &QueryState,
    access: Access,
    moment: Moment,
    which: Which,
) -> Result<(Arc<Found>, AsOf), Problem> {
    // Taken before the snapshot: what comes in between is in the answer, and only makes it be asked for again.
    let before = visible(state);
    let (found, as_of) = match &which {
        Which::Id(id) => first(state, &access, moment, "recording_id = $1", id).await?,
        // Bytes that are there go before bytes that were taken away.
        Which::OfCall(id) => {
            let order = "status IN ('deleted', 'erased'), started_at ASC NULLS LAST, received_at, recording_id";
            first(state, &access, moment, &format!("call_id = $1 ORDER BY {order}"), id).await?
        }
        Which::UploadedAs(source, uploaded_as) => (uploaded(state, &access, *source, uploaded_as).await?, before),
    };
    let found = Arc::new(found.ok_or_else(|| Problem::not_found("recording"))?);
    state.cache.remember(before.offset, &access, moment, which, &found);
    Ok((found, as_of))
}

fn gone() -> Problem {
    QueryError::Gone("the audio of this recording".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;

    /// A recording of which nothing is known but this.
    fn found(id: &str, name: Option<&str>) -> Found {
        Found {
            recording_id: id.to_owned(),
            sha256: "ab".repeat(32),
            channels: None,
            container: Some("mp3".to_owned()),
            sample_rate_hz: None,
            duration_ms: None,
            bytes: Some(1000),
            object: "objects/recordings/t/2026-01-02/x".to_owned(),
            media_type: Some("text/html".to_owned()),
            name: name.map(str::to_owned),
            received_at: Some(1_767_323_045_000_006),
            gone: false,
        }
    }

    #[test]
    fn says_what_is_served() {
        let sha256 = "ab".repeat(32);
        let entity = found("id1", Some("call_recording_1.mp3")).entity();
        assert_eq!(entity.etag, format!("\"{sha256}\""));
        assert_eq!(entity.media_type, "audio/mpeg");
        assert_eq!(entity.sha256_hex, Some(sha256.clone()));
        assert_eq!(entity.last_modified, Some(UNIX_EPOCH + Duration::from_micros(1_767_323_045_000_006)));
        let decoded = found("id1", Some("call_recording_1.mp3")).derived("wav-1", "audio/wav", "-1.wav");
        assert_eq!(decoded.etag, format!("\"{sha256}-wav-1\""));
        assert_eq!(decoded.file_name.as_deref(), Some("call_recording_1-1.wav"));
        assert_eq!(found("id1", None).derived("wav", "audio/wav", ".wav").file_name.as_deref(), Some("id1.wav"));
    }

    #[test]
    fn only_whole_bytes_are_served() {
        let found = found("id1", None);
        assert!(found.check_length(1000).is_ok());
        for wrong in [0, 999, 1001] {
            let problem = found.check_length(wrong).expect_err("is damaged");
            assert_eq!(problem.into_response().status(), StatusCode::INTERNAL_SERVER_ERROR, "{wrong}");
        }
    }

    #[test]
    fn estimates_what_decoding_makes() {
        let probed = |duration_ms| Found {
            channels: Some(2),
            sample_rate_hz: Some(8000),
            duration_ms: Some(duration_ms),
            ..found("id1", None)
        };
        assert_eq!(probed(1500).decoded_bytes(None), Some(48_000));
        assert_eq!(probed(1500).decoded_bytes(Some(1)), Some(24_000));
        assert!(probed(i64::MAX).decoded_bytes(None) > Some(u64::from(u32::MAX)));
        assert_eq!(probed(-1).decoded_bytes(None), None);
        assert_eq!(found("id1", None).decoded_bytes(None), None);
    }

    #[test]
    fn uploads_are_found_with_and_without_their_query() {
        let between = |least: &str, beyond: &str| (least.to_owned(), beyond.to_owned());
        assert_eq!(without_query("a/b.mp3"), between("a/b.mp3?", "a/b.mp3@"));
        assert_eq!(without_query("a/b.mp3?from=1"), between("a/b.mp3?from=1", "a/b.mp3?from=1"));
    }
}
