//! The archive against a naive fold in memory, through folds, swaps, joins, crashes, rebuilds and late messages.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;

use super::compact::Scope;
use super::swap::Swap;
use super::toy::{HOUR, NOON, Toy};
use super::*;
use crate::call::CallState;
use crate::event::{Event, Id, Micros, Source, call_id};
use crate::fact::{CallRef, fingerprint};
use crate::rows::{self, KeyedCall};
use crate::sorted_map::SortedMap;

/// A small generator of numbers, so that a failing run can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn message(number: u64, dice: &mut Dice) -> Message {
    let key = format!("call-{}", dice.roll(60));
    let what = ["start", "answer", "end"][usize::try_from(dice.roll(3)).unwrap_or_default()];
    let received_at = NOON + Micros::try_from(number).unwrap_or_default() * HOUR / 7;
    let carried = received_at - Micros::try_from(dice.roll(60)).unwrap_or_default() * HOUR;
    let text = if dice.roll(40) == 0 { "gibberish".to_owned() } else { format!("{key}|{what}|{carried}") };
    let event = Event {
        id: format!("event-{number}").into(),
        tenant: ["acme", "other"][usize::try_from(dice.roll(2)).unwrap_or_default()].into(),
        source: Source::Placetel,
        kind: "toy".into(),
        received_at,
        subject: None,
        structured: dice.roll(5) == 0,
        method: None,
        path: None,
        query: None,
        headers: Arc::new(SortedMap::from([("host".into(), "test".into())])),
        content_type: None,
        error: (dice.roll(50) == 0).then(|| "ingest could not take it apart".to_owned()),
        payload: Bytes::from(text),
    };
    Message::new(event, &Toy)
}

async fn open(directory: &Path) -> Archive {
    let config = ArchiveConfig {
        segment_bytes: 20 << 20,
        min_free_bytes: 0,
        fold_interval: Duration::from_secs(3600),
        ..ArchiveConfig::new(directory)
    };
    Archive::open(config, Arc::new(Toy)).await.expect("the archive opens")
}

/// What a fold over all messages gives, without log, tables or snapshots.
#[derive(Default)]
struct Naive {
    calls: HashMap<String, KeyedCall>,
    messages: u64,
}

impl Naive {
    fn take(&mut self, offset: Offset, message: &Message) {
        self.messages += 1;
        let Some((CallRef::Key(key), fact)) = &message.decoded.fact else { return };
        let event = &message.event;
        let id = call_id(&event.tenant, event.source, key);
        let call = self.calls.entry(id.to_string()).or_insert_with(|| KeyedCall {
            tenant: event.tenant.as_str().into(),
            source: event.source,
            id: id.as_str().into(),
            key: Arc::clone(key),
            day: 0,
            state: Arc::default(),
        });
        let state = Arc::make_mut(&mut call.state);
        state.merge((**fact).clone());
        state.delivered(event.received_at, offset);
    }

    fn hash(&self) -> TableHash {
        let calls: Vec<KeyedCall> = self.calls.values().cloned().collect();
        hash::hash_calls(&rows::shown(&calls, &Toy).expect("rows"))
    }
}

async fn expect_equal(archive: &Archive, naive: &Naive, after: &str) {
    let snapshot = archive.snapshot().await.expect("a snapshot");
    let hashes = archive.hash(&snapshot).await.expect("hashes");
    assert_eq!(hashes[0], naive.hash(), "calls after {after}");
    assert_eq!(hashes[1].rows, naive.messages, "events after {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_a_naive_fold_through_folds_crashes_and_rebuilds() {
    for seed in [1, 2] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut archive = open(directory.path()).await;
        let (mut dice, mut naive, mut number) = (Dice(seed), Naive::default(), 0);
        for step in 0..40 {
            let after = match dice.roll(10) {
                0..=5 => {
                    let messages: Vec<Message> =
                        (0..=dice.roll(30)).map(|index| message(number + index, &mut dice)).collect();
                    number += messages.len() as u64;
                    let receipts = archive.append(messages.clone()).await.expect("appended");
                    for (receipt, message) in receipts.iter().zip(&messages) {
                        naive.take(receipt.offset, message);
                    }
                    "appending"
                }
                6 => {
                    archive.fold_now().await.expect("folded");
                    "a fold"
                }
                7 => {
                    archive.flush().await.expect("flushed");
                    "a flush"
                }
                8 => {
                    // As after kill -9: nothing is folded or said on the way out.
                    archive.inner.log.close().await;
                    drop(archive);
                    archive = reopen(directory.path()).await;
                    "a crash"
                }
                _ => {
                    archive.rebuild().await.expect("rebuilt");
                    "a rebuild"
                }
            };
            expect_equal(&archive, &naive, &format!("{after} (seed {seed}, step {step})")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_indexes_of_a_new_archive_need_not_be_made_again_at_its_first_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let last = say(&archive, &mut Naive::default(), "first", "start", 0).await;
    archive.fold_now().await.expect("folded");
    let tables = archive.inner.tables.lock().await;
    let until = [tables.fingerprints.until(), tables.calls.homes.until(), tables.recordings.homes.until()];
    assert_eq!(until, [Some(last); 3]);
}

/// Says something of a call; `minutes` after noon.
async fn say(archive: &Archive, naive: &mut Naive, key: &str, what: &str, minutes: i64) -> Offset {
    let mut event = Arc::unwrap_or_clone(message(0, &mut Dice(0)).event);
    let at = NOON + minutes * HOUR / 60;
    (event.received_at, event.payload) = (at, Bytes::from(format!("{key}|{what}|{at}")));
    event.error = None;
    event.id = format!("{key}-{what}-{minutes}").into();
    let message = Message::new(event, &Toy);
    let receipts = archive.append(vec![message.clone()]).await.expect("appended");
    naive.take(receipts[0].offset, &message);
    receipts[0].offset
}

/// Rows of calls in the table: final ones and parts.
async fn rows_of_calls(archive: &Archive) -> (u64, u64) {
    let tables = archive.inner.tables.lock().await;
    let rows = tables.calls.table.rows_by_partition().await.expect("readable");
    let of = |tier: &str| rows.iter().filter(|((_, of), _)| of == tier).map(|(_, rows)| rows).sum();
    (of(rows::FINAL), of(rows::PART))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_has_one_row_and_no_parts_however_many_folds_come() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut archive = open(directory.path()).await;
    let mut naive = Naive::default();
    let mut expected = Vec::new();
    for (minutes, what) in [(0, "start"), (1, "answer"), (20, "answer"), (40, "end")] {
        let offset = say(&archive, &mut naive, "long", what, minutes).await;
        expected.push((offset, naive.hash(), naive.messages));
        archive.fold_now().await.expect("folded");
        assert_eq!(rows_of_calls(&archive).await, (1, 0), "at {minutes} minutes");
        assert_eq!(archive.status().overlay_calls, 0, "queries read it from the table");
    }
    expect_equal(&archive, &naive, "four folds").await;
    expect_versions(&archive, &expected).await;
    // Many others, each with a fold of its own: what is replaced is not joined with others.
    for number in 0..40 {
        say(&archive, &mut naive, &format!("other-{number}"), "start", 41 + number).await;
        archive.flush().await.expect("flushed");
    }
    assert_eq!(rows_of_calls(&archive).await, (41, 0));
    expect_equal(&archive, &naive, "forty flushes").await;
    // The call ended an hour ago, so its row stays: what comes now is a part, until days are swapped.
    say(&archive, &mut naive, "long", "answer", 110).await;
    archive.fold_now().await.expect("folded");
    assert_eq!(rows_of_calls(&archive).await, (41, 1));
    archive.flush().await.expect("flushed");
    assert_eq!(rows_of_calls(&archive).await, (41, 0));
    // A new process knows rows, not that some were to be replaced.
    archive.inner.log.close().await;
    drop(archive);
    archive = reopen(directory.path()).await;
    say(&archive, &mut naive, "other-39", "end", 111).await;
    archive.fold_now().await.expect("folded");
    assert_eq!(rows_of_calls(&archive).await, (41, 1));
    archive.rebuild().await.expect("rebuilt");
    say(&archive, &mut naive, "other-39", "answer", 112).await;
    archive.flush().await.expect("flushed");
    assert_eq!(rows_of_calls(&archive).await, (41, 0));
    expect_equal(&archive, &naive, "a restart and a rebuild").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_comes_while_its_day_is_swapped_is_merged_by_the_next_swap() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let mut naive = Naive::default();
    for key in ["parted", "changed"] {
        say(&archive, &mut naive, key, "start", 0).await;
        say(&archive, &mut naive, key, "end", 1).await;
    }
    say(&archive, &mut naive, "later", "start", 10).await;
    archive.fold_now().await.expect("folded");
    say(&archive, &mut naive, "parted", "answer", 11).await;
    say(&archive, &mut naive, "changed", "answer", 12).await;
    archive.fold_now().await.expect("folded");
    assert_eq!(rows_of_calls(&archive).await, (3, 2));
    let store = &archive.inner.store;
    let table = store.plan_swap::<CallState>().await.expect("planned");
    let days: Vec<String> = table.files().await.expect("files").into_iter().map(|file| file.day).collect();
    let swap = Swap::<CallState>::of(table, store.session.clone(), Arc::clone(&store.decoder), &days).await;
    let swap = Arc::new(swap.expect("readable"));
    let adds = swap.write().await.expect("written");
    say(&archive, &mut naive, "parted", "answer", 13).await;
    archive.fold_now().await.expect("folded");
    say(&archive, &mut naive, "changed", "answer", 14).await;
    assert_eq!(rows_of_calls(&archive).await, (3, 3));
    store.publish_swap(&days, Ok((swap, adds))).await.expect("published");
    assert_eq!(rows_of_calls(&archive).await, (3, 1));
    assert_eq!(archive.status().overlay_calls, 2, "neither is whole in the table");
    expect_equal(&archive, &naive, "the swap").await;
    archive.fold_now().await.expect("folded");
    assert_eq!(rows_of_calls(&archive).await, (3, 2));
    archive.flush().await.expect("flushed");
    assert_eq!((rows_of_calls(&archive).await, archive.status().overlay_calls), ((3, 0), 0));
    expect_equal(&archive, &naive, "the next swap").await;
}

/// The background task of the former handle may hold the lock for a moment.
async fn reopen(directory: &Path) -> Archive {
    released(directory).await;
    open(directory).await
}

async fn released(directory: &Path) {
    for _ in 0..200 {
        let lock = std::fs::File::open(directory.join("log/LOCK")).expect("the lock file");
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the lock was never released");
}

async fn expect_versions(archive: &Archive, expected: &[(Offset, TableHash, u64)]) {
    for (offset, calls, messages) in expected {
        let then = archive.snapshot_as_of(*offset).await.expect("that version is kept");
        let hashes = archive.hash(&then).await.expect("hashes");
        assert_eq!((&hashes[0], &hashes[1].rows), (calls, messages), "as of {offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_as_it_was_at_an_offset() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let (mut dice, mut naive) = (Dice(7), Naive::default());
    let mut expected = Vec::new();
    for number in 0..60 {
        let message = message(number, &mut dice);
        let receipts = archive.append(vec![message.clone()]).await.expect("appended");
        naive.take(receipts[0].offset, &message);
        expected.push((receipts[0].offset, naive.hash(), naive.messages));
        match dice.roll(12) {
            0 => drop(archive.fold_now().await.expect("folded")),
            1 => drop(archive.flush().await.expect("flushed")),
            _ => {}
        }
    }
    expect_versions(&archive, &expected).await;
    archive.inner.log.close().await;
    drop(archive);
    expect_versions(&reopen(directory.path()).await, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_that_panics_quarantines_its_message() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let mut bad = message(1, &mut Dice(1));
    let event = Arc::make_mut(&mut bad.event);
    event.payload = Bytes::from_static(b"panic|start|0");
    event.error = None;
    let receipts = archive.append(vec![Message::new(event.clone(), &Toy)]).await.expect("kept");
    assert!(receipts[0].quarantined);
    assert_eq!(archive.status().visible, Some(Offset(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_files_are_joined_and_keep_their_rows() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let (mut dice, mut naive) = (Dice(3), Naive::default());
    for number in 0..40 {
        let mut message = message(0, &mut dice);
        Arc::make_mut(&mut message.event).id = format!("event-{number}").into();
        let receipts = archive.append(vec![message.clone()]).await.expect("appended");
        naive.take(receipts[0].offset, &message);
        archive.flush().await.expect("flushed");
    }
    archive.in_background(|inner| async move { inner.compact(Scope::Due).await }).await.expect("joined");
    expect_equal(&archive, &naive, "many flushes").await;
    let tables = archive.inner.tables.lock().await;
    let provider = tables.events.provider().await.expect("the table");
    let mut offsets = Vec::new();
    let mut stream = std::pin::pin!(crate::lake::read::messages(&archive.inner.session, &provider, None, Offset(39)));
    while let Some(batch) = stream.try_next().await.expect("readable") {
        offsets.extend(batch.into_iter().map(|stored| stored.offset.0));
    }
    assert_eq!(offsets, (0..40).collect::<Vec<u64>>());
    let files = tables.events.files().await.expect("files").len();
    assert!(files < 20, "{files} files for one day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_large_messages_are_joined_too() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let (mut dice, mut naive) = (Dice(5), Naive::default());
    // Together more than the memory that a sort may take.
    for round in 0..18 {
        for number in 0..16 {
            let mut message = message(0, &mut dice);
            let event = Arc::make_mut(&mut message.event);
            event.id = format!("event-{round}-{number}").into();
            Arc::make_mut(&mut event.headers).insert("filler".into(), "x".repeat(900_000).into());
            let receipts = archive.append(vec![message.clone()]).await.expect("appended");
            naive.take(receipts[0].offset, &message);
        }
        archive.fold_now().await.expect("folded");
    }
    archive.flush().await.expect("flushed");
    archive.in_background(|inner| async move { inner.compact(Scope::Due).await }).await.expect("joined");
    let files = archive.inner.tables.lock().await.events.files().await.expect("files").len();
    assert!(files < 4, "{files} files for one day");
    expect_equal(&archive, &naive, "joining").await;
}

/// Far more at once than the background has threads for files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_and_flushes_at_once_all_end() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await;
    let (mut dice, mut naive) = (Dice(7), Naive::default());
    let messages: Vec<Message> = (0..60).map(|number| message(number, &mut dice)).collect();
    let receipts = archive.append(messages.clone()).await.expect("appended");
    receipts.iter().zip(&messages).for_each(|(receipt, message)| naive.take(receipt.offset, message));
    archive.flush().await.expect("flushed");
    let ids: HashSet<Id> = naive.calls.keys().map(|id| id.as_str().into()).collect();
    let look_ups = futures::future::join_all((0..64).map(|_| archive.calls_of(&ids)));
    let flushes = async {
        for number in 60..65 {
            archive.append(vec![message(number, &mut dice)]).await.expect("appended");
            archive.flush().await.expect("flushed");
        }
    };
    let both = futures::future::join(look_ups, flushes);
    let (found, ()) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("none waits for ever");
    assert!(found.into_iter().all(|found| found.expect("readable").len() == ids.len()));
}

#[test]
fn fingerprints_keep_their_parts_apart() {
    assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_gone_or_damaged_are_made_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (mut dice, mut naive) = (Dice(9), Naive::default());
    let archive = open(directory.path()).await;
    // Long messages, so that the log is trimmed and only `events` has them.
    for number in 0..60 {
        let mut message = message(number, &mut dice);
        Arc::make_mut(&mut Arc::make_mut(&mut message.event).headers)
            .insert("filler".into(), "x".repeat(900_000).into());
        let receipts = archive.append(vec![message.clone()]).await.expect("appended");
        naive.take(receipts[0].offset, &message);
    }
    archive.flush().await.expect("flushed");
    assert!(archive.inner.log.bounds().first > Offset(0), "the log was trimmed");
    archive.inner.log.close().await;
    drop(archive);
    std::fs::remove_dir_all(directory.path().join("tables/calls")).expect("removed");
    let archive = reopen(directory.path()).await;
    expect_equal(&archive, &naive, "losing the table").await;
    archive.flush().await.expect("flushed");
    archive.inner.log.close().await;
    drop(archive);
    let mut days = std::fs::read_dir(directory.path().join("tables/calls")).expect("the table").flatten();
    let day = days.find(|entry| entry.file_name().to_string_lossy().starts_with("day=")).expect("a day");
    std::fs::remove_dir_all(day.path()).expect("removed");
    released(directory.path()).await;
    let config = ArchiveConfig {
        segment_bytes: 20 << 20,
        min_free_bytes: 0,
        ignore_projections: true,
        ..ArchiveConfig::new(directory.path())
    };
    let archive = Archive::open(config, Arc::new(Toy)).await.expect("opens without reading calls");
    archive.rebuild().await.expect("rebuilt");
    expect_equal(&archive, &naive, "a rebuild of a damaged table").await;
}
