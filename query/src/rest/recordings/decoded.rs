//! Decoded audio in a file without a name: gone when nobody reads it any more, whatever happens to the process.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::task::spawn_blocking;
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::media::audio::{AudioError, decode_wav};
use trunklog_storage::media::{Media, StoredReader};

use super::find::Found;
use super::serve::Content;
use crate::error::QueryError;
use crate::rest::QueryState;
use crate::rest::problem::Problem;

/// Bytes of one read.
const PIECE_BYTES: u64 = 64 << 10;

/// A WAV file says its size in 32 bits.
const LARGEST: u64 = u32::MAX as u64;

/// A whole WAV file; a cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    file: Arc<File>,
    bytes: u64,
}

impl Decoded {
    #[cfg(test)]
    pub(super) fn of(file: File, bytes: u64) -> Decoded {
        Decoded { file: Arc::new(file), bytes }
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Content for Decoded {
    fn length(&self) -> u64 {
        self.bytes
    }

    fn pieces(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let file = Arc::clone(&self.file);
        stream::try_unfold(range, move |left| read_piece(Arc::clone(&file), left)).boxed()
    }
}

/// The next piece, and what is left after it.
async fn read_piece(file: Arc<File>, left: Range<u64>) -> io::Result<Option<(Bytes, Range<u64>)>> {
    if left.start >= left.end {
        return Ok(None);
    }
    let (start, next) = (left.start, left.end.min(left.start + PIECE_BYTES));
    let read = spawn_blocking(move || {
        // At most a piece, which fits any usize.
        let mut piece = vec![0; (next - start) as usize];
        file.read_exact_at(&mut piece, start)?;
        Ok::<Bytes, io::Error>(Bytes::from(piece))
    });
    let piece = read.await.map_err(io::Error::other)??;
    Ok(Some((piece, next..left.end)))
}

/// The recording, or one channel of it, as 16-bit PCM in a WAV file. Asked for again within minutes it is not decoded
/// again.
pub(super) async fn decode(
    state: &QueryState,
    found: &Found,
    channel: Option<u16>,
    etag: &str,
) -> Result<Decoded, Problem> {
    if let Some(decoded) = state.cache.decoded(etag) {
        return Ok(decoded);
    }
    let stored = found.open(state).await?;
    let estimate = found.decoded_bytes(channel).unwrap_or(0);
    check_size(estimate)?;
    let turn = state.cache.turn().await?;
    // Somebody may have decoded it while we waited.
    if let Some(decoded) = state.cache.decoded(etag) {
        return Ok(decoded);
    }
    check_room(&state.media, estimate)?;
    let reader = stored.reader().await.map_err(QueryError::from)?;
    let directory = state.cache.directory().clone();
    // The place is held by the work, not by who waits for it and may leave.
    let work = state.engine.runtime().spawn_blocking(move || {
        let _turn = turn;
        write_wav(reader, channel, &directory)
    });
    let outcome = work.await.map_err(|error| QueryError::Internal(error.to_string()))?;
    let decoded = outcome.map_err(problem)?;
    state.cache.keep(etag, &decoded);
    Ok(decoded)
}

/// Hours of work for a file that could not be written to its end are refused before.
fn check_size(estimate: u64) -> Result<(), Problem> {
    if estimate > LARGEST {
        return Err(not_acceptable(AudioError::TooLong.to_string()));
    }
    Ok(())
}

/// Decoded audio goes to the disk of the recordings, which must keep as much room for them as it would at an upload.
fn check_room(media: &Media, estimate: u64) -> Result<(), QueryError> {
    match media.check_room(estimate) {
        Ok(()) => Ok(()),
        Err(StorageError::Full(_)) => Err(no_room()),
        Err(other) => Err(other.into()),
    }
}

fn no_room() -> QueryError {
    QueryError::Unavailable("there is too little room on disk to decode this now".to_owned())
}

fn write_wav(source: StoredReader, channel: Option<u16>, directory: &Path) -> Result<Decoded, AudioError> {
    let file = nameless(directory)?;
    decode_wav(source, channel, &file)?;
    let bytes = file.metadata()?.len();
    Ok(Decoded { file: Arc::new(file), bytes })
}

fn nameless(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!("decoded-{:032x}", rand::random::<u128>()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    remove_file(&path)?;
    Ok(file)
}

fn problem(error: AudioError) -> Problem {
    match error {
        AudioError::NoSuchChannel(channel) => no_such_channel(channel),
        AudioError::Io(error) if error.kind() == ErrorKind::StorageFull => no_room().into(),
        AudioError::Io(error) => QueryError::Internal(format!("decoding: {error}")).into(),
        other => not_acceptable(other.to_string()),
    }
}

/// The recording has fewer channels.
pub(super) fn no_such_channel(channel: u16) -> Problem {
    QueryError::parameter("channel", format!("the recording has no channel {channel}")).into()
}

/// It cannot be had in this form.
pub(super) fn not_acceptable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "No such form", detail)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use trunklog_storage::media::MediaConfig;

    use super::*;

    #[test]
    fn what_no_wav_file_can_hold_is_refused_at_once() {
        assert!(check_size(0).is_ok());
        assert!(check_size(LARGEST).is_ok());
        assert_eq!(check_size(LARGEST + 1).expect_err("too long").into_response().status(), StatusCode::NOT_ACCEPTABLE);
    }

    #[test]
    fn a_full_disk_is_not_filled_further() {
        let data_dir = std::env::temp_dir().join(format!("trunklog-decoded-{:032x}", rand::random::<u128>()));
        let config = MediaConfig {
            data_dir: data_dir.clone(),
            limit_bytes: 10,
            small_bytes: 10,
            min_free_bytes: 0,
            bucket: None,
            presign: None,
        };
        let roomy = Media::open(config.clone()).expect("opens");
        // What is decoded may be larger than what may be uploaded.
        assert!(check_room(&roomy, 1000).is_ok());
        let full = Media::open(MediaConfig { min_free_bytes: u64::MAX, ..config }).expect("opens");
        assert!(matches!(check_room(&full, 0), Err(QueryError::Unavailable(_))));
        std::fs::remove_dir_all(&data_dir).expect("removes");
    }
}
