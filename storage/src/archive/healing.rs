//! What mends itself: damaged and lost indexes, a defect in taking in, leftovers of a rebuild; and a snapshot that
//! does not wait for memory to be complete.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::faulty_store::{config, hashes, kill, message, reference};
use super::toy::Toy;
use super::{Archive, Message};
use crate::error::Error;
use crate::event::Offset;

fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(|number| message(number, 0)).collect()
}

async fn open(directory: &Path) -> Result<Archive, Error> {
    Archive::open(config(directory), Arc::new(Toy)).await
}

/// The files of this index.
fn runs(directory: &Path, index: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory.join("index").join(index)).expect("the index").flatten();
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "run")).collect()
}

/// Turns a bit in the entries of every run of this index.
fn damage(directory: &Path, index: &str) {
    let runs = runs(directory, index);
    assert!(!runs.is_empty(), "no runs in {index}");
    for path in runs {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("a run");
        // The first entry's key begins after the header.
        let mut byte = [0];
        file.read_exact_at(&mut byte, 130).expect("an entry");
        file.write_all_at(&[byte[0] ^ 1], 130).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_indexes_are_made_again() {
    for index in ["calls", "fingerprints"] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut sent = vec![messages(0..60)];
        let archive = open(directory.path()).await.expect("opens");
        archive.append(sent[0].clone()).await.expect("appended");
        archive.flush().await.expect("flushed");
        // Behind the tables, so that the start looks into the index.
        sent.push(messages(60..80));
        archive.append(sent[1].clone()).await.expect("appended");
        kill(archive, directory.path()).await;
        damage(directory.path(), index);
        // The block may show at the first start, while it reads the log, or when a fold merges its run; the next start
        // then makes the index again.
        let mut archive = match open(directory.path()).await {
            Ok(archive) => archive,
            Err(Error::Poisoned(_)) => open(directory.path()).await.expect("opens with a new index"),
            Err(error) => panic!("needs a human: {error}"),
        };
        sent.push(messages(80..100));
        archive.append(sent[2].clone()).await.expect("appended");
        if let Err(error) = archive.flush().await {
            assert!(matches!(error, Error::Corrupt(_)), "{error}");
            expect_thrown_away(directory.path(), index).await;
            kill(archive, directory.path()).await;
            archive = open(directory.path()).await.expect("opens with a new index");
            archive.flush().await.expect("folds again");
        }
        assert_eq!(hashes(&archive).await.expect("readable"), reference(&sent).await, "{index}");
    }
}

/// The background does that.
async fn expect_thrown_away(directory: &Path, index: &str) {
    for _ in 0..400 {
        if runs(directory, index).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the index `{index}` is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_damaged_while_running_stops_folds_until_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut sent = vec![messages(0..60)];
    let archive = open(directory.path()).await.expect("opens");
    archive.append(sent[0].clone()).await.expect("appended");
    archive.flush().await.expect("flushed");
    damage(directory.path(), "fingerprints");
    // A fold merges the damaged run with its own sooner or later; then nothing more is taken in.
    let mut number = 60;
    let refused = loop {
        assert!(number < 400, "the damaged run was never read");
        let more = messages(number..number + 5);
        match archive.append(more.clone()).await {
            Ok(_) => sent.push(more),
            Err(error) => break error,
        }
        number += 5;
        let _ = archive.flush().await;
    };
    assert!(matches!(refused, Error::Poisoned(_)), "{refused}");
    // The message that met the block is in the log.
    let durable = archive.inner.log.bounds().next.0;
    sent.push(messages(sent.iter().map(|batch| batch.len() as u64).sum()..durable));
    expect_thrown_away(directory.path(), "fingerprints").await;
    kill(archive, directory.path()).await;
    let archive = open(directory.path()).await.expect("opens with a new index");
    archive.flush().await.expect("folds again");
    assert_eq!(hashes(&archive).await.expect("readable"), reference(&sent).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_delivery_stays_the_original_when_the_index_is_made_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await.expect("opens");
    let mut sent = vec![messages(0..60)];
    archive.append(sent[0].clone()).await.expect("appended");
    archive.flush().await.expect("flushed");
    kill(archive, directory.path()).await;
    std::fs::remove_dir_all(directory.path().join("index")).expect("removed");
    let archive = open(directory.path()).await.expect("opens");
    // 5 came again as 9: whoever comes now is another delivery of 5.
    sent.push((0..60).filter(|number| number % 10 == 9).map(|number| message(number, 0)).collect());
    let receipts = archive.append(sent[1].clone()).await.expect("appended");
    assert!(receipts.iter().all(|receipt| receipt.duplicate));
    assert_eq!(hashes(&archive).await.expect("readable"), reference(&sent).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_in_taking_in_stops_it_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let sent = vec![messages(0..5), messages(5..12)];
    let archive = open(directory.path()).await.expect("opens");
    archive.append(sent[0].clone()).await.expect("appended");
    let _listening = archive.subscribe_calls(|_| panic!("a defect"));
    let refused = archive.append(sent[1].clone()).await.expect_err("it broke off");
    assert!(matches!(refused, Error::Poisoned(_)), "{refused}");
    assert!(archive.append(messages(12..13)).await.is_err() && archive.snapshot().await.is_err());
    assert_eq!(archive.inner.sequencer.lock().last, Some(Offset(4)));
    assert!(!archive.inner.sequencer.lock().has_bad_index(), "good indexes are not thrown away for it");
    let _ = archive.flush().await;
    kill(archive, directory.path()).await;
    let archive = open(directory.path()).await.expect("opens");
    archive.flush().await.expect("folds again");
    assert_eq!(hashes(&archive).await.expect("readable"), reference(&sent).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_reads_for_itself_what_memory_lacks() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = open(directory.path()).await.expect("opens");
    archive.append(messages(0..60)).await.expect("appended");
    archive.flush().await.expect("flushed");
    kill(archive, directory.path()).await;
    // Rows of calls under way are like all others now.
    let archive = open(directory.path()).await.expect("opens");
    archive.append(messages(60..90)).await.expect("appended");
    let own = archive.snapshot_of_now().await.expect("a snapshot");
    assert!(!archive.inner.sequencer.lock().calls.lacking.is_empty(), "memory lacks what was folded");
    let own = archive.hash(&own).await.expect("readable");
    assert_eq!(own, hashes(&archive).await.expect("readable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rebuild_left_is_removed_at_the_start() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let left = directory.path().join(super::rebuild::SCRATCH);
    std::fs::create_dir_all(left.join("tables/calls")).expect("made");
    let archive = open(directory.path()).await.expect("opens");
    assert!(!left.exists());
    archive.append(messages(0..10)).await.expect("appended");
    archive.rebuild().await.expect("rebuilt");
    assert!(!left.exists());
}
