//! Waveforms of recordings: drawn once, kept beside the audio as a cache that may be lost at any time.

use std::path::{Path, PathBuf};

use super::audio::{AudioError, Peaks};
use super::{Media, StoredReader};
use crate::Error;
use crate::error::Context;

/// Samples a pixel of what is kept; other zoom levels are multiples, made from it ([`Peaks::zoom`]).
pub const BASE_SAMPLES_PER_PIXEL: u32 = 256;

impl Media {
    /// The waveform of a recording at [`BASE_SAMPLES_PER_PIXEL`]: the one that was kept, else drawn on a blocking
    /// thread of the current runtime and kept. Two requests at once draw once.
    ///
    /// It takes the claim of the recording: a caller must not hold it.
    ///
    /// # Errors
    /// [`Error::Missing`] when the audio is not there or cannot be decoded; [`Error::Io`] when it cannot be read.
    pub async fn waveform(&self, object: &str, recording_id: &str) -> Result<Peaks, Error> {
        let path = waveform_path(self.data_dir(), recording_id)?;
        if let Some(peaks) = read_kept(path.clone()).await? {
            return Ok(peaks);
        }
        let claim = self.claim(recording_id).await;
        if let Some(peaks) = read_kept(path.clone()).await? {
            return Ok(peaks);
        }
        let stored = self.open_object(object).await?;
        let reader = stored.reader().await?;
        let id = recording_id.to_owned();
        // The claim goes along: a request that is given up must not let a second one draw meanwhile.
        blocking(move || {
            let _claim = claim;
            draw(reader, &path, &id)
        })
        .await
    }
}

fn draw(reader: StoredReader, path: &Path, recording_id: &str) -> Result<Peaks, Error> {
    let peaks = Peaks::compute(reader, BASE_SAMPLES_PER_PIXEL).map_err(|error| match error {
        AudioError::Io(source) => Error::Io { context: "reading audio for a waveform".to_owned(), source },
        error => Error::Missing(format!("waveform of {recording_id}: {error}")),
    })?;
    // A full disk is no reason to refuse what is drawn.
    if let Err(error) = keep(&peaks, path) {
        tracing::warn!(%recording_id, %error, "a waveform was not kept");
    }
    Ok(peaks)
}

/// Puts the file in place whole; not synced, because it can be drawn again.
fn keep(peaks: &Peaks, path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let staged = path.with_extension("tmp");
    std::fs::write(&staged, peaks.to_binary())?;
    std::fs::rename(&staged, path)
}

/// `None` also for a file that a crash left broken.
async fn read_kept(path: PathBuf) -> Result<Option<Peaks>, Error> {
    blocking(move || match std::fs::read(&path) {
        Ok(binary) => Ok(Peaks::from_binary(&binary)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("reading a waveform"),
    })
    .await
}

fn waveform_path(data_dir: &Path, recording_id: &str) -> Result<PathBuf, Error> {
    let is_id = recording_id.len() == 32 && recording_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return Err(Error::Missing(format!("recording {recording_id}")));
    }
    let directory = data_dir.join("objects").join("waveforms").join(&recording_id[..2]);
    Ok(directory.join(format!("{recording_id}.dat")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Closed))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::join_all;

    use super::super::MediaConfig;
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    async fn stored(directory: &tempfile::TempDir, bytes: &[u8]) -> (Media, String) {
        let data_dir = directory.path().to_owned();
        let config = MediaConfig {
            data_dir,
            limit_bytes: 4 << 20,
            small_bytes: 64 << 10,
            min_free_bytes: 0,
            bucket: None,
            presign: None,
        };
        let media = Media::open(config).expect("opens");
        let mut receiver = media.receive(None).expect("there is room");
        receiver.write(Bytes::copy_from_slice(bytes)).await.expect("written");
        let received = receiver.finish().await.expect("finished");
        let object = received.keep("acme", "2026-01-31", ID).await.expect("kept");
        (media, object)
    }

    fn fixture(name: &str) -> Vec<u8> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/recordings/");
        std::fs::read(format!("{directory}{name}")).expect("the shared recording is there")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_waveform_is_drawn_once_and_outlives_the_audio() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (media, object) = stored(&directory, &fixture("support-mono.mp3")).await;
        let all = join_all((0..8).map(|_| media.waveform(&object, ID))).await;
        let first = all[0].as_ref().expect("drawn").clone();
        assert_eq!((first.channels(), first.length()), (1, 177_803_usize.div_ceil(256)));
        assert!(all.iter().all(|peaks| peaks.as_ref().is_ok_and(|peaks| *peaks == first)));
        media.remove(&object).await.expect("removed");
        assert_eq!(media.waveform(&object, ID).await.expect("kept"), first);
        let path = waveform_path(directory.path(), ID).expect("an id");
        assert_eq!(std::fs::read(&path).expect("the file is there"), first.to_binary());
        std::fs::write(&path, b"half").expect("written");
        assert!(matches!(media.waveform(&object, ID).await, Err(Error::Missing(_))));
    }

    #[tokio::test]
    async fn what_is_no_audio_and_what_is_no_id_has_no_waveform() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (media, object) = stored(&directory, &fixture("not-audio.mp3")).await;
        for id in [ID, "../../../etc/passwd", ""] {
            assert!(matches!(media.waveform(&object, id).await, Err(Error::Missing(_))), "{id}");
        }
        assert!(!directory.path().join("objects/waveforms").exists());
    }
}
