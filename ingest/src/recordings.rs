//! Recordings on their way into the archive: which one it is, that its bytes are kept once, and how it is read back
//! where it was uploaded to. Uploads and fetched files go the same way.

use async_trait::async_trait;
use axum::http::request::Parts;
use axum::response::Response;
use trunklog_storage::error::Error;
use trunklog_storage::event::{Source, format_time, now};
use trunklog_storage::media::{Claim, Media, Received};
use trunklog_storage::partitions::Partitions;
use trunklog_storage::recording::message::Upload;
use trunklog_storage::recording::recording_id;

/// Reads back what was uploaded: the binary plugs in what serves recordings.
#[async_trait]
pub trait RecordedAudio: Send + Sync + 'static {
    /// Answers GET or HEAD of what was stored last at this upload URL, with `Range` and conditional headers; 404 if
    /// there is nothing. `uploaded_as` is what follows `/recordings/`, percent-encoded as sent, with its query.
    async fn answer(&self, tenant: &str, source: Source, uploaded_as: &str, parts: &Parts) -> Response;
}

/// What a recording's id rests on, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Whose recording it is.
    pub tenant: &'a str,
    /// The telephone system that made it.
    pub source: Source,
    /// The source's key of its call, else the path it was uploaded to.
    pub key_or_path: &'a str,
    /// The sender's id of it.
    pub external_id: Option<&'a str>,
}

/// Keeps the bytes of a recording, unless they are known already. Gives its id, an upload with everything about its
/// bytes, whether it was known, and a claim that must be held until the message about it is appended: nobody else
/// stores the same recording meanwhile.
///
/// # Errors
/// Those of storage; nothing is kept then. `Corrupt` when the recording is known, but its bytes are lost or damaged and
/// could not be put back.
pub async fn keep(
    archive: &Partitions,
    media: &Media,
    received: Received,
    identity: &Identity<'_>,
) -> Result<(String, Upload, bool, Claim), Error> {
    let Identity { tenant, source, key_or_path, external_id } = *identity;
    let id = recording_id(tenant, source, key_or_path, external_id, &received.sha256);
    let claim = media.claim(&id).await;
    let mut upload = Upload { sha256: received.sha256.clone(), bytes: received.bytes, ..Upload::default() };
    if let Some(object) = known_object(archive, &id).await? {
        heal(media, received, tenant, &object).await?;
        upload.object = object;
        return Ok((id, upload, true, claim));
    }
    let mut day = format_time(now());
    day.truncate("yyyy-mm-dd".len());
    upload.object = received.keep(tenant, &day, &id).await?;
    Ok((id, upload, false, claim))
}

/// Takes back bytes whose message was refused. Should that fail, the sweep for orphans will find them.
pub async fn forget(media: &Media, object: &str) {
    if let Err(error) = media.remove(object).await {
        tracing::warn!(%error, object, "cannot remove a recording that was not acknowledged");
    }
}

/// Where the bytes of a recording lie that was acknowledged before.
async fn known_object(archive: &Partitions, id: &str) -> Result<Option<String>, Error> {
    if !archive.knows_recording(id)? {
        return Ok(None);
    }
    let known = archive.recording(id).await?;
    let object = known.and_then(|known| known.state.object().map(str::to_owned));
    if object.is_none() {
        tracing::warn!(recording_id = id, "a recording that is known has no object; its bytes are kept again");
    }
    Ok(object)
}

/// Puts the bytes of a known recording back where its object is lost. What lies there is never overwritten, and a file
/// that recordings share is not made again.
async fn heal(media: &Media, received: Received, tenant: &str, object: &str) -> Result<(), Error> {
    match media.open_object(object).await {
        Ok(stored) if stored.bytes() == received.bytes => return Ok(()),
        Ok(_) | Err(Error::Missing(_) | Error::Corrupt(_)) => {}
        Err(error) => return Err(error),
    }
    if let Some((day, name)) = day_and_name(object) {
        let kept = received.keep(tenant, day, name).await?;
        if kept == object {
            tracing::warn!(object, "the lost bytes of a recording came again and are back in their place");
            return Ok(());
        }
        forget(media, &kept).await;
    }
    tracing::error!(object, "the bytes of a recording are lost or damaged and cannot be put back");
    Err(Error::Corrupt(format!("the bytes of `{object}`, which was stored before")))
}

/// Day and file name in an object key; `None` if the file is shared.
fn day_and_name(object: &str) -> Option<(&str, &str)> {
    let (directory, name) = object.rsplit_once('/').filter(|(_, name)| !name.contains('#'))?;
    let (_, day) = directory.rsplit_once('/')?;
    Some((day, name))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;
    use trunklog_storage::event::new_event_id;
    use trunklog_storage::media::MediaConfig;

    use super::*;

    const TENANT: &str = "acme";
    const DAY: &str = "2026-01-31";
    const AUDIO: &[u8] = b"some audio";

    /// A media store in a directory that goes with it.
    struct Place {
        data_dir: PathBuf,
        media: Media,
    }

    impl Place {
        fn new() -> Place {
            let data_dir = std::env::temp_dir().join(format!("trunklog-heal-{}", new_event_id()));
            std::fs::create_dir_all(&data_dir).expect("a directory");
            let config = MediaConfig {
                data_dir: data_dir.clone(),
                limit_bytes: 1 << 20,
                small_bytes: 64 << 10,
                min_free_bytes: 0,
                bucket: None,
                presign: None,
            };
            Place { media: Media::open(config).expect("a media store"), data_dir }
        }

        async fn received(&self) -> Received {
            let mut receiver = self.media.receive(None).expect("has room");
            receiver.write(Bytes::from_static(AUDIO)).await.expect("takes bytes");
            receiver.finish().await.expect("came whole")
        }

        async fn heal(&self, object: &str) -> Result<(), Error> {
            heal(&self.media, self.received().await, TENANT, object).await
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.data_dir);
        }
    }

    #[tokio::test]
    async fn lost_bytes_come_back_into_their_place() {
        let place = Place::new();
        let object = place.received().await.keep(TENANT, DAY, "0123").await.expect("is kept");
        let file = place.data_dir.join(&object);
        place.heal(&object).await.expect("nothing to do");
        std::fs::remove_file(&file).expect("was there");
        place.heal(&object).await.expect("is put back");
        assert_eq!(std::fs::read(&file).expect("is there"), AUDIO);
    }

    #[tokio::test]
    async fn what_cannot_be_put_back_is_said() {
        let place = Place::new();
        let object = place.received().await.keep(TENANT, DAY, "0123").await.expect("is kept");
        let file = place.data_dir.join(&object);
        std::fs::write(&file, b"cut").expect("is damaged");
        let packed = format!("objects/recordings/{TENANT}/{DAY}/0.pack#3+10");
        for object in [&object, &packed] {
            assert!(matches!(place.heal(object).await, Err(Error::Corrupt(_))), "{object}");
        }
        assert_eq!(std::fs::read(&file).expect("is there"), b"cut", "nothing is overwritten");
        let others = std::fs::read_dir(file.parent().expect("has a directory")).expect("is there").count();
        assert_eq!(others, 1, "nothing is left of what came");
    }
}
