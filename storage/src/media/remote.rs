//! Recordings in a bucket: stored whole, read in pieces, swept. Uploads gather on the local disk first: the key of a
//! recording follows from its bytes, and a bucket cannot rename.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::MultipartUpload;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::blocking;
use super::keep::Place;
use super::object_key::{RECORDINGS, is_component};
use super::temporary::Temporary;
use super::tree::Tree;
use crate::bucket::{Bucket, failed};
use crate::error::{Context, Error};
use crate::event::hex;

/// A recording up to this size is one request; others are sent in parts of this size.
const PART_BYTES: u64 = 8 << 20;
/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// Half as old as what a sweep takes away.
const OLD: Duration = Duration::from_secs(1800);

/// What is to be stored.
pub(super) enum Content {
    Memory(Bytes),
    Disk(Arc<File>),
}

impl Content {
    fn bytes(&self) -> Result<u64, Error> {
        match self {
            Content::Memory(bytes) => Ok(bytes.len() as u64),
            Content::Disk(file) => Ok(file.metadata().context("reading an upload")?.len()),
        }
    }

    async fn piece(&self, from: u64, length: u64) -> Result<Bytes, Error> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match self {
            Content::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                Ok(bytes.slice(from..from + length))
            }
            Content::Disk(file) => {
                let file = Arc::clone(file);
                blocking(move || {
                    let mut piece = vec![0; length];
                    file.read_exact_at(&mut piece, from).context("reading an upload")?;
                    Ok(Bytes::from(piece))
                })
                .await
            }
        }
    }
}

/// Stores a recording; returns its key. If one with the same bytes is there that one is taken, if one with other bytes
/// this one gets another name: nothing is overwritten.
pub(super) async fn keep(
    bucket: &Bucket,
    content: &Content,
    mut place: Place,
    sha256: Option<&str>,
) -> Result<String, Error> {
    if ![&place.tenant, &place.day, &place.name].into_iter().all(|name| is_component(name)) {
        return Err(Error::Config(format!("`{}` cannot be the key of a recording", place.key())));
    }
    loop {
        let key = place.key();
        if store(bucket, content, &key).await? || has_digest(bucket, &key, sha256).await? {
            return Ok(key);
        }
        place.name = format!("{}-{}", place.name, Uuid::now_v7().simple());
    }
}

/// Whether it was stored, and not another one there before.
async fn store(bucket: &Bucket, content: &Content, key: &str) -> Result<bool, Error> {
    let bytes = content.bytes()?;
    if bytes <= PART_BYTES {
        return bucket.create(key, content.piece(0, bytes).await?).await;
    }
    match bucket.find(key).await {
        Ok(_) => return Ok(false),
        Err(Error::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let mut upload = bucket.begin(key).await?;
    let sent = send(upload.as_mut(), content, bytes).await;
    if sent.is_err() {
        // Parts that stay are the business of the bucket's own rule for uploads that were given up.
        let _ = upload.abort().await;
    }
    sent.map(|()| true)
}

async fn send(upload: &mut dyn MultipartUpload, content: &Content, bytes: u64) -> Result<(), Error> {
    let mut sending = futures::stream::FuturesUnordered::new();
    let broken = |error| failed("storing a part of a recording".to_owned(), error);
    for from in (0..bytes).step_by(usize::try_from(PART_BYTES).unwrap_or(usize::MAX)) {
        let piece = content.piece(from, PART_BYTES.min(bytes - from)).await?;
        sending.push(upload.put_part(piece.into()));
        while sending.len() >= PARTS_AT_ONCE {
            sending.next().await.transpose().map_err(broken)?;
        }
    }
    while let Some(sent) = sending.next().await {
        sent.map_err(broken)?;
    }
    upload.complete().await.map_err(broken)?;
    Ok(())
}

/// Whether what lies there has this digest.
async fn has_digest(bucket: &Bucket, key: &str, sha256: Option<&str>) -> Result<bool, Error> {
    let Some(expected) = sha256 else { return Ok(false) };
    let found = bucket.find(key).await?;
    if found.modified_at + OLD < SystemTime::now() {
        // Nobody acknowledged it, and a sweep on another node may be about to take it away.
        return Ok(false);
    }
    let bytes = found.bytes;
    let mut hash = Sha256::new();
    let mut from = 0;
    while from < bytes {
        let until = bytes.min(from + PART_BYTES);
        hash.update(bucket.read_range(key, from..until).await?);
        from = until;
    }
    Ok(hex(&hash.finalize()) == expected)
}

/// A piece of an object as a file without a name on the local disk, for decoders that seek.
pub(super) async fn fetch(
    bucket: &Bucket,
    tree: &Arc<Tree>,
    key: &str,
    range: std::ops::Range<u64>,
) -> Result<Arc<File>, Error> {
    let what = || format!("fetching `{key}`");
    let temporary = Arc::new(Temporary::create(tree).context(what())?);
    let step = usize::try_from(PART_BYTES).unwrap_or(usize::MAX);
    let pieces = futures::stream::iter(range.clone().step_by(step));
    let mut pieces = pieces.map(|from| bucket.read_range(key, from..range.end.min(from + PART_BYTES))).buffered(2);
    while let Some(piece) = pieces.try_next().await? {
        let temporary = Arc::clone(&temporary);
        blocking(move || temporary.append(&piece).context("writing a recording that was fetched")).await?;
    }
    // Its name goes with it.
    Ok(temporary.file())
}

/// Takes away the objects that no key names and that were last written before this; returns the bytes freed.
pub(super) async fn sweep(
    bucket: &Bucket,
    before: SystemTime,
    is_referenced: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<u64, Error> {
    let mut freed = 0;
    let found = bucket.list(RECORDINGS).await?;
    for object in found.iter().filter(|object| object.modified_at < before && !is_referenced(&object.key)) {
        bucket.delete(&object.key).await?;
        freed += object.bytes;
        tracing::info!(object = %object.key, bytes = object.bytes, "removed a recording that was never acknowledged");
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};
    use tempfile::TempDir;

    use super::*;
    use crate::media::{Media, MediaConfig, Received};

    const DAY: &str = "2026-01-31";

    fn store() -> (TempDir, Bucket, Media) {
        let (directory, bucket) = (tempfile::tempdir().expect("temporary directory"), Bucket::in_memory());
        let media = Media::open(MediaConfig {
            data_dir: directory.path().to_owned(),
            limit_bytes: 64 << 20,
            small_bytes: 64 << 10,
            min_free_bytes: 0,
            bucket: Some(bucket.clone()),
            presign: Some(Duration::from_secs(60)),
        });
        (directory, bucket, media.expect("opens"))
    }

    /// Bytes that differ at every position and for every seed.
    fn noise(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8 ^ seed).collect()
    }

    async fn upload(media: &Media, bytes: &[u8]) -> Received {
        let mut receiver = media.receive(Some(bytes.len() as u64)).expect("there is room");
        for chunk in bytes.chunks(100_000) {
            receiver.write(Bytes::copy_from_slice(chunk)).await.expect("written");
        }
        receiver.finish().await.expect("finished")
    }

    async fn read(media: &Media, object: &str, range: std::ops::Range<u64>) -> Vec<u8> {
        let stored = media.open_object(object).await.expect("it is there");
        let pieces: Vec<Bytes> = stored.stream(range).try_collect().await.expect("readable");
        pieces.concat()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn recordings_of_all_sizes_come_back() {
        let (directory, _, media) = store();
        for (seed, length) in [0, 1, 5_000, 70_000, 3 << 20, 8 << 20, (8 << 20) + 1, 21 << 20].into_iter().enumerate() {
            let bytes = noise(length, seed as u8);
            let kept = upload(&media, &bytes).await.keep("acme", DAY, &format!("r{seed}")).await.expect("kept");
            assert_eq!(kept, format!("objects/recordings/acme/{DAY}/r{seed}"));
            assert_eq!(read(&media, &kept, 0..u64::MAX).await, bytes, "{length} bytes");
            let middle = (length / 3)..(length / 2);
            let range = middle.start as u64..middle.end as u64;
            assert_eq!(read(&media, &kept, range).await, bytes[middle], "a part of {length} bytes");
            let mut reader = media.open_object(&kept).await.expect("there").reader().await.expect("fetched");
            reader.seek(SeekFrom::Start(length as u64 / 2)).expect("it seeks");
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).expect("readable");
            assert_eq!(rest, bytes[length / 2..], "the rest of {length} bytes");
        }
        let left = std::fs::read_dir(directory.path().join("objects/.tmp")).expect("a directory").count();
        assert_eq!(left, 0, "uploads are on their way in `.tmp` only");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_overwritten() {
        let (_directory, _, media) = store();
        for length in [1_000, 100_000, 9 << 20] {
            let (ours, others) = (noise(length, 1), noise(length, 2));
            let name = format!("r{length}");
            let first = upload(&media, &ours).await.keep("acme", DAY, &name).await.expect("kept");
            let again = upload(&media, &ours).await.keep("acme", DAY, &name).await.expect("kept");
            assert_eq!(again, first, "the same bytes are the same object");
            let other = upload(&media, &others).await.keep("acme", DAY, &name).await.expect("kept");
            assert_ne!(other, first);
            assert_eq!(read(&media, &first, 0..u64::MAX).await, ours);
            assert_eq!(read(&media, &other, 0..u64::MAX).await, others);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn small_ones_share_objects_and_can_be_told_apart() {
        let (_directory, bucket, media) = store();
        let uploads = (0..40_u8).map(|seed| {
            let media = media.clone();
            async move {
                let bytes = noise(1_000 + usize::from(seed), seed);
                let kept = upload(&media, &bytes).await.keep("acme", DAY, &format!("r{seed}")).await.expect("kept");
                (kept, bytes)
            }
        });
        let kept = futures::future::join_all(uploads).await;
        assert!(bucket.list(RECORDINGS).await.expect("listed").len() < kept.len(), "some share");
        for (object, bytes) in &kept {
            assert_eq!(read(&media, object, 0..u64::MAX).await, *bytes);
            let signed = media.presign(object).await.expect("signed");
            assert_eq!(signed.is_none(), object.contains('#'), "{object}: {signed:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_no_message_names_is_swept() {
        let (_directory, bucket, media) = store();
        let bytes = noise(100_000, 1);
        let named = upload(&media, &bytes).await.keep("acme", DAY, "named").await.expect("kept");
        let orphan = upload(&media, &bytes).await.keep("acme", DAY, "orphan").await.expect("kept");
        let removed = upload(&media, &bytes).await.keep("acme", DAY, "removed").await.expect("kept");
        media.remove(&removed).await.expect("removed");
        media.remove(&removed).await.expect("nothing to remove");
        let name = named.clone();
        let later = SystemTime::now() + Duration::from_secs(10);
        let young = media.sweep(SystemTime::now() - Duration::from_secs(60), |_| false).await.expect("swept");
        assert_eq!(young, 0, "what is young may be named yet");
        let freed = media.sweep(later, move |object| object == name).await.expect("swept");
        assert_eq!(freed, bytes.len() as u64);
        let left: Vec<String> = bucket.list(RECORDINGS).await.expect("listed").into_iter().map(|it| it.key).collect();
        assert_eq!(left, [named]);
        assert!(matches!(media.open_object(&orphan).await, Err(Error::Missing(_))));
    }
}
