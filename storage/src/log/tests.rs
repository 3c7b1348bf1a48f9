//! The embedded log against the conformance suite, and against damaged files.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::log::conformance;

const SEGMENT: u64 = 20 << 20;

fn config(directory: &Path) -> LogConfig {
    LogConfig { directory: directory.join("log"), segment_bytes: SEGMENT, queue_limit: 1024, min_free_bytes: 0 }
}

fn open(directory: &Path) -> Result<EmbeddedLog, Error> {
    let log = EmbeddedLog::open(config(directory))?;
    log.start(log.bounds().next, Box::new(|_| ()))?;
    Ok(log)
}

fn one(text: &str) -> Batch {
    Batch { records: vec![Bytes::copy_from_slice(text.as_bytes())], carry: None }
}

/// Changes the bytes of the only segment, as a crash or a bad disk would.
fn damage(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join("log").join(segment::file_name(0));
    let mut file = File::options().read(true).write(true).open(path).expect("the segment is there");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("readable");
    change(&mut bytes);
    file.seek(SeekFrom::Start(0)).expect("seekable");
    file.write_all(&bytes).expect("writable");
}

fn position_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the record is there")
}

#[tokio::test]
async fn passes_the_conformance_suite() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let open = |publisher| -> Result<Arc<dyn Log>, Error> {
        let log = EmbeddedLog::open(config(directory.path()))?;
        log.start(log.bounds().next, publisher)?;
        Ok(Arc::new(log))
    };
    conformance::run(&open).await.expect("the log works");
}

/// Also in the middle of a group that was written at once.
#[tokio::test]
async fn it_is_read_from_any_offset() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    let mut all: Vec<Bytes> = Vec::new();
    for count in [1, 3, 1, 7, 2, 1] {
        let records: Vec<Bytes> = (all.len()..all.len() + count).map(|number| number.to_string().into()).collect();
        all.extend(records.iter().cloned());
        log.append(Batch { records, carry: None }).await.expect("appended");
    }
    for from in 0..=all.len() {
        let read = log.read(Offset(from as u64), usize::MAX).expect("readable");
        let expected: Vec<_> = (from..all.len()).map(|at| (Offset(at as u64), all[at].clone())).collect();
        assert_eq!(read, expected, "from {from}");
    }
}

#[tokio::test]
async fn what_was_passed_can_be_read_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    let long = Bytes::from(vec![b'x'; 7 << 20]);
    for _ in 0..5 {
        log.append(Batch { records: vec![long.clone()], carry: None }).await.expect("appended");
    }
    for before in 0..=5 {
        log.passed(Offset(before));
        let read = log.read(Offset(0), usize::MAX).expect("readable");
        assert!(read.len() == 5 && read.iter().all(|(_, record)| *record == long), "before {before}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let _log = open(directory.path()).expect("the first opens");
    assert!(matches!(open(directory.path()), Err(Error::Conflict(_))));
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_appending_goes_on() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    log.append(one("kept")).await.expect("appended");
    log.append(one("torn")).await.expect("appended");
    log.close().await;
    drop(log);
    damage(directory.path(), |bytes| {
        let at = position_of(bytes, "torn");
        bytes[at] ^= 1;
    });
    let log = open(directory.path()).expect("recovers");
    assert_eq!(log.bounds().next, Offset(1));
    assert_eq!(log.append(one("again")).await.expect("appended")[..], [Offset(1)]);
    let records: Vec<Bytes> =
        log.read(Offset(0), usize::MAX).expect("readable").into_iter().map(|(_, record)| record).collect();
    assert_eq!(records, [Bytes::from_static(b"kept"), Bytes::from_static(b"again")]);
}

#[tokio::test]
async fn corruption_before_the_end_refuses_and_names_the_offset() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    for text in ["first", "second", "third"] {
        log.append(one(text)).await.expect("appended");
    }
    log.close().await;
    drop(log);
    damage(directory.path(), |bytes| {
        let at = position_of(bytes, "second");
        bytes[at] ^= 1;
    });
    let refused = open(directory.path()).err().expect("must refuse");
    assert!(matches!(&refused, Error::Corrupt(text) if text.contains("offset 1")), "{refused}");
}

#[tokio::test]
async fn a_shortened_segment_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    log.append(one("kept")).await.expect("appended");
    log.close().await;
    drop(log);
    let path = directory.path().join("log").join(segment::file_name(0));
    File::options().write(true).open(path).and_then(|file| file.set_len(4200)).expect("shortened");
    assert!(matches!(open(directory.path()), Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn frames_of_a_former_life_never_verify() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    let large = "x".repeat(5 << 20);
    for _ in 0..12 {
        log.append(one(&large)).await.expect("appended");
    }
    log.trim(Offset(12)).expect("trims");
    assert!(log.bounds().first > Offset(0), "whole segments went");
    for _ in 0..9 {
        log.append(one(&large)).await.expect("appended into recycled segments");
    }
    log.append(one("last")).await.expect("appended");
    let bounds = log.bounds();
    log.close().await;
    drop(log);
    let log = open(directory.path()).expect("recovers");
    assert_eq!(log.bounds(), bounds);
    assert_eq!(log.read(Offset(21), 1).expect("readable")[0].1, Bytes::from_static(b"last"));
    assert!(matches!(log.read(Offset(0), 1), Err(Error::Gone(_))));
}

#[tokio::test]
async fn a_full_disk_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = EmbeddedLog::open(LogConfig { min_free_bytes: u64::MAX, ..config(directory.path()) }).expect("opens");
    log.start(log.bounds().next, Box::new(|_| ())).expect("starts");
    assert!(matches!(log.append(one("refused")).await, Err(Error::Full(_))));
    assert_eq!(log.bounds().next, Offset(0));
    assert_eq!(log.poisoned(), None, "a full disk does not poison");
}

/// The records of segments before the last one are verified when they are read, not when the log is opened.
#[tokio::test]
async fn damage_in_an_earlier_segment_is_found_by_whoever_reads_it_and_a_lost_frame_at_once() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = open(directory.path()).expect("opens");
    let large = "x".repeat(5 << 20);
    for text in ["first", "second", "third", &large, &large, &large, &large] {
        log.append(one(text)).await.expect("appended");
    }
    let bounds = log.bounds();
    log.close().await;
    drop(log);
    assert_eq!(
        std::fs::read_dir(directory.path().join("log")).expect("a directory").flatten().filter(is_segment).count(),
        2
    );
    damage(directory.path(), |bytes| {
        let at = position_of(bytes, "second");
        bytes[at] ^= 1;
    });
    let log = open(directory.path()).expect("the frames still follow each other");
    assert_eq!(log.bounds(), bounds);
    assert_eq!(log.read(Offset(0), 1).expect("whole")[0].1, Bytes::from_static(b"first"));
    let read = log.read(Offset(1), 1);
    assert!(matches!(&read, Err(Error::Corrupt(text)) if text.contains("offsets 1 to 1")), "{read:?}");
    log.close().await;
    drop(log);
    damage(directory.path(), |bytes| {
        let at = position_of(bytes, "third") - 28;
        bytes[at] ^= 1;
    });
    let refused = open(directory.path()).err().expect("must refuse");
    assert!(matches!(&refused, Error::Corrupt(text) if text.contains("from offset 1 do not verify")), "{refused}");
}

fn is_segment(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|extension| extension == "seg")
}
