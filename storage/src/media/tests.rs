//! The media store against bytes that must come back, uploads that break off and keys that reach outside.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::event::hex;

const DAY: &str = "2026-01-31";

fn config(directory: &TempDir) -> MediaConfig {
    MediaConfig {
        data_dir: directory.path().to_owned(),
        limit_bytes: 4 << 20,
        small_bytes: 64 << 10,
        min_free_bytes: 0,
        bucket: None,
        presign: None,
    }
}

fn store() -> (TempDir, Media) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let media = Media::open(config(&directory)).expect("opens");
    (directory, media)
}

/// Bytes that differ at every position and for every seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

async fn upload(media: &Media, bytes: &[u8], chunk: usize) -> Received {
    let mut receiver = media.receive(Some(bytes.len() as u64)).expect("there is room");
    for chunk in bytes.chunks(chunk) {
        receiver.write(Bytes::copy_from_slice(chunk)).await.expect("written");
    }
    assert_eq!(receiver.bytes(), bytes.len() as u64);
    receiver.finish().await.expect("finished")
}

async fn read(media: &Media, object: &str, range: std::ops::Range<u64>) -> Vec<u8> {
    let stored = media.open_object(object).await.expect("it is there");
    let pieces: Vec<Bytes> = stored.stream(range).try_collect().await.expect("readable");
    pieces.concat()
}

/// Every file below a directory of the store.
fn files(directory: &TempDir, below: &str) -> Vec<PathBuf> {
    let mut waiting = vec![directory.path().join(below)];
    let mut files = Vec::new();
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).expect("a directory") {
            let path = entry.expect("readable").path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files
}

/// A piece may still be on its way when its upload is dropped.
async fn until_nothing_is_left(directory: &TempDir) {
    for _ in 0..500 {
        if files(directory, "objects").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left: {:?}", files(directory, "objects"));
}

#[tokio::test]
async fn bytes_come_back_as_they_came() {
    let (directory, media) = store();
    for length in [0, 1, 1000, 65_536, 65_537, 131_072, 131_073, 1_000_000, 4 << 20] {
        for chunk in [777, 65_536, 500_000] {
            let bytes = noise(length, length as u64);
            let received = upload(&media, &bytes, chunk).await;
            assert_eq!((received.bytes, received.sha256.as_str()), (length as u64, &*hex(&Sha256::digest(&bytes))));
            let object = received.keep("acme", DAY, &format!("id{length}x{chunk}")).await.expect("kept");
            assert_eq!(object, format!("objects/recordings/acme/{DAY}/id{length}x{chunk}"));
            assert!(read(&media, &object, 0..u64::MAX).await == bytes, "{length} bytes in chunks of {chunk}");
        }
    }
    assert!(files(&directory, "objects/.tmp").is_empty());
}

async fn keep_many(media: &Media, count: u64) -> Vec<(String, Vec<u8>)> {
    let keeping = (0..count).map(|number| {
        let media = media.clone();
        tokio::spawn(async move {
            let bytes = noise(1000 + number as usize * 37, number);
            let received = upload(&media, &bytes, 4096).await;
            let object = received.keep("acme", DAY, &format!("id{number}")).await.expect("kept");
            (object, bytes)
        })
    });
    futures::future::join_all(keeping).await.into_iter().map(|kept| kept.expect("no panic")).collect()
}

#[tokio::test]
async fn small_ones_that_come_together_share_files() {
    let (directory, media) = store();
    let kept = keep_many(&media, 300).await;
    for (object, bytes) in &kept {
        assert!(&read(&media, object, 0..u64::MAX).await == bytes, "{object}");
    }
    let count = files(&directory, "objects/recordings").len();
    assert!(count < 150, "300 uploads made {count} files");
    assert!(files(&directory, "objects/.tmp").is_empty());
    let objects: HashSet<&str> = kept.iter().map(|(object, _)| object.as_str()).collect();
    assert_eq!(objects.len(), 300);
}

#[tokio::test]
async fn tenants_and_days_never_share_a_file() {
    let (_directory, media) = store();
    let keeping = (0..60).map(|number| {
        let media = media.clone();
        tokio::spawn(async move {
            let tenant = format!("tenant{}", number % 3);
            let day = format!("2026-01-0{}", 1 + number % 2);
            let received = upload(&media, &noise(500, number), 500).await;
            let object = received.keep(&tenant, &day, &format!("id{number}")).await.expect("kept");
            assert!(object.starts_with(&format!("objects/recordings/{tenant}/{day}/")));
            assert!(read(&media, &object, 0..500).await == noise(500, number));
        })
    });
    for kept in futures::future::join_all(keeping).await {
        kept.expect("kept");
    }
}

#[tokio::test]
async fn what_is_dropped_leaves_nothing() {
    let (directory, media) = store();
    for length in [10, 70_000, 300_000, 3_000_000] {
        let mut receiver = media.receive(None).expect("there is room");
        receiver.write(Bytes::from(noise(length, 1))).await.expect("written");
        drop(receiver);
        drop(upload(&media, &noise(length, 2), 10_000).await);
    }
    until_nothing_is_left(&directory).await;
}

#[tokio::test]
async fn a_small_upload_touches_no_disk_before_it_is_kept() {
    let (directory, media) = store();
    let received = upload(&media, &noise(65_536, 1), 1000).await;
    assert!(files(&directory, "objects").is_empty());
    received.keep("acme", DAY, "id").await.expect("kept");
    assert_eq!(files(&directory, "objects").len(), 1);
}

#[tokio::test]
async fn too_large_leaves_nothing() {
    let (directory, media) = store();
    assert!(matches!(media.receive(Some((4 << 20) + 1)), Err(Error::TooLarge(limit)) if limit == 4 << 20));
    let mut receiver = media.receive(None).expect("there is room");
    receiver.write(Bytes::from(noise(4 << 20, 1))).await.expect("as large as may be");
    assert!(matches!(receiver.write(Bytes::from_static(b"x")).await, Err(Error::TooLarge(_))));
    assert!(matches!(receiver.finish().await, Err(Error::Io { .. })), "it is not whole");
    until_nothing_is_left(&directory).await;
}

#[tokio::test]
async fn a_full_disk_refuses() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let media = Media::open(MediaConfig { min_free_bytes: u64::MAX, ..config(&directory) }).expect("opens");
    assert!(matches!(media.receive(None), Err(Error::Full(_))));
    let media = Media::open(MediaConfig { limit_bytes: u64::MAX, ..config(&directory) }).expect("opens");
    assert!(matches!(media.receive(Some(u64::MAX / 2)), Err(Error::Full(_))));
}

#[tokio::test]
async fn a_range_is_a_slice() {
    let (_directory, media) = store();
    let long = noise(300_000, 7);
    let single = upload(&media, &long, 9999).await.keep("acme", DAY, "long").await.expect("kept");
    let packed = keep_many(&media, 40).await;
    let (member, short) = packed.iter().rev().find(|(object, _)| object.contains('#')).expect("some share a file");
    for (object, bytes) in [(&single, &long), (member, short)] {
        let length = bytes.len() as u64;
        for (from, to) in [(0, 1), (0, length), (5, 5), (1, 65_537), (65_535, 200_000), (length - 1, length + 9)] {
            let (start, end) = (from.min(length), to.min(length));
            let slice = &bytes[start.min(end) as usize..end as usize];
            assert!(read(&media, object, from..to).await == slice, "{from}..{to} of {object}");
        }
        assert!(read(&media, object, length + 5..u64::MAX).await.is_empty());
    }
}

#[tokio::test]
async fn a_stream_gives_pieces_of_64_kib() {
    let (_directory, media) = store();
    let object = upload(&media, &noise(200_000, 1), 9999).await.keep("acme", DAY, "id").await.expect("kept");
    let stored = media.open_object(&object).await.expect("it is there");
    let pieces: Vec<usize> = stored.stream(0..200_000).map(|piece| piece.expect("readable").len()).collect().await;
    assert_eq!(pieces, [65_536, 65_536, 65_536, 3392]);
    assert!(stored.modified_at().is_some());
}

#[tokio::test]
async fn readers_do_not_disturb_each_other() {
    let (_directory, media) = store();
    let kept = keep_many(&media, 40).await;
    let (object, bytes) = kept.iter().find(|(object, _)| object.contains('#')).expect("some share a file");
    let stored = media.open_object(object).await.expect("it is there");
    let (mut first, mut second) = (stored.reader().await.expect("opened"), stored.reader().await.expect("opened"));
    let mut ten = [0; 10];
    first.read_exact(&mut ten).expect("readable");
    assert_eq!(ten, bytes[..10]);
    let mut all = Vec::new();
    second.read_to_end(&mut all).expect("readable");
    assert!(&all == bytes, "the window ends where the recording ends");
    first.read_exact(&mut ten).expect("readable");
    assert_eq!(ten, bytes[10..20]);
    assert_eq!(first.seek(SeekFrom::End(-4)).expect("seekable"), bytes.len() as u64 - 4);
    assert_eq!(first.read(&mut ten).expect("readable"), 4);
    assert_eq!(ten[..4], bytes[bytes.len() - 4..]);
    assert_eq!(first.seek(SeekFrom::Start(1 << 40)).expect("beyond the end"), 1 << 40);
    assert_eq!(first.read(&mut ten).expect("nothing there"), 0);
    assert!(first.seek(SeekFrom::Current(-(2 << 40))).is_err());
}

#[tokio::test]
async fn symbolic_links_are_refused() {
    let (directory, media) = store();
    upload(&media, b"secret", 10).await.keep("acme", DAY, "real").await.expect("kept");
    let recordings = directory.path().join("objects/recordings");
    std::fs::write(directory.path().join("outside"), b"secret").expect("written");
    std::os::unix::fs::symlink(directory.path().join("outside"), recordings.join("acme").join(DAY).join("link"))
        .expect("linked");
    std::os::unix::fs::symlink(recordings.join("acme"), recordings.join("other")).expect("linked");
    for object in ["acme/2026-01-31/link", "other/2026-01-31/real", "acme/2026-01-31/../2026-01-31/real"] {
        let object = format!("objects/recordings/{object}");
        let opened = media.open_object(&object).await.err();
        assert!(matches!(opened, Some(Error::Corrupt(_) | Error::Missing(_))), "{object}: {opened:?}");
        assert!(media.inner.tree.walk(&object, rustix::fs::OFlags::RDONLY).is_err(), "{object}");
    }
    assert!(media.inner.tree.walk(&format!("objects/recordings/acme/{DAY}/real"), rustix::fs::OFlags::RDONLY).is_ok());
    let kept = upload(&media, b"bytes", 10).await.keep("other", DAY, "id").await;
    assert!(kept.is_err(), "nothing is written through a link");
    let kept = upload(&media, b"bytes", 10).await.keep("acme", DAY, "link").await.expect("kept");
    assert!(kept.starts_with("objects/recordings/acme/2026-01-31/link-"), "a link is not replaced: {kept}");
    assert_eq!(std::fs::read(directory.path().join("outside")).expect("readable"), b"secret");
}

#[tokio::test]
async fn a_store_on_a_symbolic_link_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("objects")).expect("linked");
    assert!(matches!(Media::open(config(&directory)).err(), Some(Error::Config(_))));
}

#[tokio::test]
async fn names_that_reach_outside_are_refused() {
    let (directory, media) = store();
    for (tenant, day, name) in
        [("..", DAY, "x"), ("acme", "../..", "x"), ("acme", DAY, "../x"), ("a/b", DAY, "x"), ("acme", DAY, "a#1+2")]
    {
        for length in [10, 100_000] {
            let kept = upload(&media, &noise(length, 1), 50_000).await.keep(tenant, day, name).await;
            assert!(matches!(kept, Err(Error::Config(_))), "{tenant}/{day}/{name}: {kept:?}");
        }
    }
    until_nothing_is_left(&directory).await;
    assert!(matches!(media.open_object("objects/recordings/../x/y").await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn a_start_empties_the_temporary_files_only() {
    let (directory, media) = store();
    let object = upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "id").await.expect("kept");
    drop(media);
    std::fs::write(directory.path().join("objects/.tmp/left"), b"half an upload").expect("written");
    let media = Media::open(config(&directory)).expect("opens");
    assert!(files(&directory, "objects/.tmp").is_empty());
    assert!(read(&media, &object, 0..u64::MAX).await == noise(100_000, 1));
}

#[tokio::test]
async fn the_same_id_twice_keeps_one_file() {
    let (directory, media) = store();
    for length in [1000, 100_000] {
        let id = format!("id{length}");
        let first = upload(&media, &noise(length, 1), 50_000).await.keep("acme", DAY, &id).await.expect("kept");
        let second = upload(&media, &noise(length, 1), 999).await.keep("acme", DAY, &id).await.expect("kept");
        assert_eq!(first, second);
    }
    assert_eq!(files(&directory, "objects").len(), 2);
}

#[tokio::test]
async fn a_damaged_leftover_is_neither_taken_nor_replaced() {
    let (directory, media) = store();
    let object = upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "id").await.expect("kept");
    let path = directory.path().join(&object);
    std::fs::write(&path, vec![0; 100_000]).expect("written");
    let again = upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "id").await.expect("kept");
    assert_ne!(again, object);
    assert!(read(&media, &again, 0..u64::MAX).await == noise(100_000, 1));
    assert_eq!(std::fs::read(&path).expect("readable"), vec![0; 100_000]);
}

#[tokio::test]
async fn a_sweep_keeps_what_is_referenced_and_what_is_young() {
    let (directory, media) = store();
    let kept = keep_many(&media, 40).await;
    let single = upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "single").await.expect("kept");
    let orphan = upload(&media, &noise(200_000, 2), 50_000).await.keep("acme", DAY, "orphan").await.expect("kept");
    let before = files(&directory, "objects").len();
    assert_eq!(
        media.sweep(SystemTime::now() - Duration::from_secs(3600), |_| false).await.expect("swept"),
        0,
        "all are young"
    );
    assert_eq!(files(&directory, "objects").len(), before);
    let member = kept.iter().map(|(object, _)| object).find(|object| object.contains('#')).expect("some share a file");
    let referenced: HashSet<String> =
        [member, &single].iter().map(|object| object.split('#').next().unwrap_or_default().to_owned()).collect();
    let freed = media
        .sweep(SystemTime::now() + Duration::from_secs(1), move |file| referenced.contains(file))
        .await
        .expect("swept");
    assert!(freed >= 200_000);
    assert_eq!(files(&directory, "objects").len(), 2);
    media.open_object(member).await.expect("referenced");
    media.open_object(&single).await.expect("referenced");
    assert!(matches!(media.open_object(&orphan).await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn a_repeat_makes_an_old_file_young() {
    let (directory, media) = store();
    let object = upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "id").await.expect("kept");
    let path = directory.path().join(&object);
    let old = std::time::SystemTime::now() - Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(&path).expect("opens").set_modified(old).expect("aged");
    upload(&media, &noise(100_000, 1), 50_000).await.keep("acme", DAY, "id").await.expect("kept");
    assert_eq!(media.sweep(SystemTime::now() - Duration::from_secs(3600), |_| false).await.expect("swept"), 0);
    media.open_object(&object).await.expect("not swept");
}

#[tokio::test]
async fn remove_takes_a_file_but_no_member_of_a_shared_one() {
    let (directory, media) = store();
    let object = upload(&media, &noise(1000, 1), 500).await.keep("acme", DAY, "id").await.expect("kept");
    media.remove(&object).await.expect("removed");
    media.remove(&object).await.expect("it may be gone");
    assert!(files(&directory, "objects").is_empty());
    let kept = keep_many(&media, 40).await;
    let (member, bytes) = kept.iter().find(|(object, _)| object.contains('#')).expect("some share a file");
    media.remove(member).await.expect("left to the sweep");
    assert!(&read(&media, member, 0..u64::MAX).await == bytes);
    assert!(media.remove("objects/recordings/../../x").await.is_err());
}

#[tokio::test]
async fn a_key_beyond_the_file_is_corrupt() {
    let (_directory, media) = store();
    let object = upload(&media, &noise(1000, 1), 500).await.keep("acme", DAY, "id").await.expect("kept");
    assert!(matches!(media.open_object(&format!("{object}#900+101")).await, Err(Error::Corrupt(_))));
    assert!(read(&media, &format!("{object}#900+100"), 0..u64::MAX).await == noise(1000, 1)[900..]);
}

#[tokio::test]
async fn one_claim_at_a_time() {
    let (_directory, media) = store();
    let first = media.claim("id").await;
    let other = media.claim("other").await;
    let waiting = tokio::spawn({
        let media = media.clone();
        async move { media.claim("id").await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    assert!(tokio::time::timeout(Duration::from_millis(5), media.claim("id")).await.is_err(), "gave up waiting");
    drop(first);
    drop(waiting.await.expect("its turn"));
    drop(other);
    assert_eq!(media.inner.claims.count(), 0, "nothing is remembered");
}

#[tokio::test]
async fn the_packer_ends_with_the_store() {
    let (_directory, media) = store();
    upload(&media, b"bytes", 10).await.keep("acme", DAY, "id").await.expect("kept");
    let tree = Arc::downgrade(&media.inner.tree);
    drop(media);
    for _ in 0..500 {
        if tree.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something still holds the store's directories");
}

#[tokio::test]
async fn a_slow_upload_holds_what_came() {
    let mut gathered = Vec::new();
    let mut grown = HashSet::new();
    for _ in 0..256 {
        receive::gather(&mut gathered, &[0; 512], 128 << 10);
        assert!(gathered.capacity() <= (2 * gathered.len()).min(128 << 10));
        grown.insert(gathered.capacity());
    }
    assert!(grown.len() < 20, "it grows by doubling");
}
