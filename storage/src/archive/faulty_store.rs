//! The archive on an object store that fails: nothing is lost or doubled, the log keeps what the tables lack, and as
//! soon as the store does its work again, so does the archive, without a human.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::catalog::TableProvider;
use tempfile::TempDir;

use super::toy::{HOUR, NOON, Toy};
use super::{Archive, ArchiveConfig, Message, TableHash};
use crate::error::Error;
use crate::event::{Event, Micros, Offset, Source};
use crate::faults::{Fault, Faults, Operation, Rule};
use crate::sorted_map::SortedMap;

/// Message `number`: 40 calls over and over, some messages delivered twice, some not understood.
pub(super) fn message(number: u64, filler: usize) -> Message {
    let said = if number % 10 == 9 { number - 4 } else { number };
    let what = ["start", "answer", "end"][usize::try_from(said / 40 % 3).unwrap_or_default()];
    let at = |number: u64| NOON + Micros::try_from(number).unwrap_or_default() * HOUR / 20;
    let text = if number.is_multiple_of(17) {
        format!("gibberish {number}")
    } else {
        format!("call-{}|{what}|{}", said % 40, at(said))
    };
    let event = Event {
        id: format!("event-{number}").into(),
        tenant: "acme".into(),
        source: Source::Placetel,
        kind: "toy".into(),
        received_at: at(number),
        subject: None,
        structured: false,
        method: None,
        path: None,
        query: None,
        headers: Arc::new(SortedMap::from([("filler".into(), "x".repeat(filler).into())])),
        content_type: None,
        error: None,
        payload: Bytes::from(text),
    };
    Message::new(event, &Toy)
}

pub(super) fn config(directory: &Path) -> ArchiveConfig {
    ArchiveConfig {
        segment_bytes: 20 << 20,
        min_free_bytes: 0,
        fold_interval: Duration::from_secs(3600),
        ..ArchiveConfig::new(directory)
    }
}

/// Ends the process as `kill -9` would: nothing is folded or said on the way out.
pub(super) async fn kill(archive: Archive, directory: &Path) {
    archive.inner.log.close().await;
    drop(archive);
    // Its background task may hold the log for a moment.
    for _ in 0..400 {
        let lock = std::fs::File::open(directory.join("log/LOCK")).expect("the lock file");
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the log was never released");
}

pub(super) async fn hashes(archive: &Archive) -> Result<Vec<TableHash>, Error> {
    archive.hash(&archive.snapshot().await?).await
}

/// The same messages in an archive whose store never fails.
pub(super) async fn reference(batches: &[Vec<Message>]) -> Vec<TableHash> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let archive = Archive::open(config(directory.path()), Arc::new(Toy)).await.expect("opens");
    for batch in batches {
        archive.append(batch.clone()).await.expect("appended");
    }
    hashes(&archive).await.expect("readable")
}

/// An archive on a faulty store, and what was sent to it.
struct Bench {
    directory: TempDir,
    faults: Arc<Faults>,
    archive: Option<Archive>,
    sent: Vec<Vec<Message>>,
    messages: u64,
    filler: usize,
}

impl Bench {
    /// Not yet open.
    fn closed(filler: usize) -> Bench {
        let directory = tempfile::tempdir().expect("temporary directory");
        Bench { directory, faults: Arc::default(), archive: None, sent: Vec::new(), messages: 0, filler }
    }

    async fn new(filler: usize) -> Bench {
        let mut bench = Bench::closed(filler);
        bench.open().await.expect("opens");
        bench
    }

    async fn open(&mut self) -> Result<(), Error> {
        let config = ArchiveConfig { wrap_store: Some(self.faults.wrapper()), ..config(self.directory.path()) };
        self.archive = Some(Archive::open(config, Arc::new(Toy)).await?);
        Ok(())
    }

    fn archive(&self) -> &Archive {
        self.archive.as_ref().expect("it is open")
    }

    /// Whatever the store does, the log takes messages, and they are seen at once.
    async fn append(&mut self, count: u64) {
        let batch: Vec<Message> =
            (self.messages..self.messages + count).map(|number| message(number, self.filler)).collect();
        let receipts = self.archive().append(batch.clone()).await.expect("the log is well");
        let offsets: Vec<u64> = receipts.iter().map(|receipt| receipt.offset.0).collect();
        assert_eq!(offsets, (self.messages..self.messages + count).collect::<Vec<u64>>());
        self.messages += count;
        self.sent.push(batch);
        assert_eq!(self.archive().status().visible, Some(Offset(self.messages - 1)));
    }

    /// Flushes, whatever comes of it; no fault may look like damage.
    async fn flush(&self) -> Result<(), Error> {
        let flushed = self.archive().flush().await;
        self.check_log();
        if let Err(error) = &flushed {
            assert!(!matches!(error, Error::Corrupt(_)), "needs a human: {error}");
        }
        flushed.map(|_| ())
    }

    /// The log still has whatever a table lacks, by what the tables' files say.
    fn check_log(&self) {
        let tables = ["events", "calls", "recordings"];
        let needed = tables.iter().map(|table| stored_until(self.directory.path(), table)).min().flatten();
        let first = self.archive().inner.log.bounds().first.0;
        assert!(first <= needed.map_or(0, |until| until + 1), "the log begins at {first}, a table ends at {needed:?}");
    }

    async fn kill(&mut self) {
        kill(self.archive.take().expect("it is open"), self.directory.path()).await;
    }

    /// Opens, as a supervisor would, until it does.
    async fn reopen(&mut self, tries: u32) {
        for _ in 0..tries {
            match self.open().await {
                Ok(()) => return,
                Err(error) => assert!(!matches!(error, Error::Corrupt(_)), "needs a human: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("does not open in {tries} tries");
    }

    /// The store is well again: the archive must get there by itself within a few rounds of its background work.
    async fn recover(&self, after: &str) {
        self.faults.calm();
        let mut last = None;
        for _ in 0..5 {
            match self.flush().await {
                Ok(()) => {
                    let status = self.archive().status();
                    let end = self.messages.checked_sub(1).map(Offset);
                    assert_eq!((status.folded, status.visible, status.tail_messages), (end, end, 0), "after {after}");
                    // What landed without being noted is noted by now: nothing is in memory that the tables have.
                    let parts = self.archive().inner.sequencer.lock().calls.parts_since.len();
                    assert_eq!((status.overlay_calls, parts), (0, 0), "after {after}");
                    return self.expect_each_once(after).await;
                }
                Err(error) => last = Some(error),
            }
        }
        panic!("never folds again after {after}: {last:?}");
    }

    /// The rows of the tables themselves: every message once, every call once.
    async fn expect_each_once(&self, after: &str) {
        let snapshot = self.archive().snapshot().await.expect("a snapshot");
        let (rows, offsets) = self.rows(snapshot.events_stored(), "offset", "").await;
        assert_eq!((rows, offsets), (self.messages, self.messages), "events after {after}");
        let (rows, calls) = self.rows(snapshot.calls_stored(), "call_id", "final").await;
        assert_eq!(rows, calls, "a call twice after {after}");
    }

    /// Rows of this tier, and different values of the column among them.
    async fn rows(&self, table: Arc<dyn TableProvider>, column: &str, tier: &str) -> (u64, u64) {
        use datafusion::prelude::{col, lit};
        let mut frame = self.archive().inner.session.read_table(table).expect("a table");
        if !tier.is_empty() {
            frame = frame.filter(col("tier").eq(lit(tier))).expect("a filter");
        }
        let frame = frame.select(vec![col(column)]).expect("a column");
        let rows = frame.clone().count().await.expect("readable");
        let different = frame.distinct().expect("a column").count().await.expect("readable");
        (rows as u64, different as u64)
    }

    /// All is there after recovery, and again after a restart.
    async fn finish(mut self, after: &str) {
        self.recover(after).await;
        let expected = reference(&self.sent).await;
        assert_eq!(hashes(self.archive()).await.expect("readable"), expected, "after {after}");
        self.kill().await;
        self.reopen(20).await;
        assert_eq!(hashes(self.archive()).await.expect("readable"), expected, "reopened after {after}");
        self.append(7).await;
        self.recover("going on").await;
        let expected = reference(&self.sent).await;
        assert_eq!(hashes(self.archive()).await.expect("readable"), expected, "going on after {after}");
    }
}

/// The highest offset under which a commit of this table carries the log's transaction.
fn stored_until(data: &Path, table: &str) -> Option<u64> {
    let commits = std::fs::read_dir(data.join("tables").join(table).join("_delta_log")).ok()?;
    let commits = commits.flatten().map(|entry| entry.path());
    let commits = commits.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let texts = commits.map(|path| std::fs::read_to_string(path).expect("a commit"));
    let versions = texts.flat_map(|text| text.lines().filter_map(version).collect::<Vec<u64>>());
    versions.max()
}

/// What the action says of the log's offset.
fn version(action: &str) -> Option<u64> {
    let action: serde_json::Value = serde_json::from_str(action).expect("an action");
    let transaction = action.get("txn")?;
    let is_log = transaction["appId"].as_str().is_some_and(|id| id.starts_with("trunklog/") && id.ends_with("/0"));
    is_log.then(|| transaction["version"].as_u64()).flatten()
}

/// Faults of one commit of this table.
fn of_commits(table: &'static str) -> Vec<Vec<Rule>> {
    let rule = |operation, times, fault| Rule { operation, table, path: "_delta_log", skip: 0, times, fault };
    let put = |fault| vec![rule(Operation::Put, 1, fault)];
    vec![
        put(Fault::AnswerLost),
        put(Fault::Exists { landed: true }),
        put(Fault::Exists { landed: false }),
        // Longer than the library tries.
        vec![rule(Operation::Put, 40, Fault::Exists { landed: false })],
        put(Fault::Precondition { landed: true }),
        put(Fault::Precondition { landed: false }),
        put(Fault::InputOutput),
        put(Fault::NoSpace),
        // It landed, and whoever asks the table what it has gets no answer either.
        vec![rule(Operation::Put, 1, Fault::AnswerLost), rule(Operation::List, 50, Fault::InputOutput)],
        vec![rule(Operation::List, 3, Fault::Slow)],
        vec![rule(Operation::List, 1, Fault::InputOutput)],
    ]
}

/// Faults of this table's data files, whether they are put at once or in parts.
fn of_files(table: &'static str) -> Vec<Vec<Rule>> {
    let rule = |operation, fault| Rule { operation, table, path: ".parquet", skip: 0, times: 1, fault };
    let written = [Fault::AnswerLost, Fault::InputOutput, Fault::NoSpace].map(|fault| {
        let operations = [Operation::Put, Operation::Part, Operation::Complete];
        operations.map(|operation| rule(operation, fault)).to_vec()
    });
    written.into_iter().collect()
}

/// Plays one fault after the other on one archive; every other time the process is killed in the midst of it.
async fn play(scenarios: Vec<Vec<Rule>>) {
    let mut bench = Bench::new(0).await;
    bench.append(30).await;
    bench.recover("a good start").await;
    for (number, rules) in scenarios.into_iter().enumerate() {
        let after = format!("{rules:?}");
        bench.append(23).await;
        let struck = bench.faults.struck();
        rules.into_iter().for_each(|rule| bench.faults.plan(rule));
        let first = bench.flush().await;
        bench.append(11).await;
        if number % 2 == 1 {
            bench.faults.calm();
            bench.kill().await;
            bench.reopen(20).await;
        } else if first.is_err() {
            let _ = bench.flush().await;
        }
        assert!(bench.faults.struck() > struck, "{after} never struck");
        bench.recover(&after).await;
    }
    bench.finish("all of them").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_events_that_fail() {
    play(of_commits("events")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_calls_that_fail() {
    play(of_commits("calls")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_recordings_that_fail() {
    play(of_commits("recordings")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_written_or_not_read() {
    let read = |fault| {
        vec![Rule { operation: Operation::Get, table: "", path: "tables/calls/day=", skip: 0, times: 1, fault }]
    };
    let reads = vec![read(Fault::InputOutput), read(Fault::ShortRead)];
    play([of_files("events"), of_files("calls"), reads].concat()).await;
}

/// Making the tables meets faults too, and so does reading them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_opens_under_faults() {
    for table in ["events", "recordings"] {
        for rules in of_commits(table) {
            let after = format!("{rules:?}");
            let mut bench = Bench::closed(0);
            rules.into_iter().for_each(|rule| bench.faults.plan(rule));
            if let Err(error) = bench.open().await {
                assert!(!matches!(error, Error::Corrupt(_)), "needs a human after {after}: {error}");
            }
            bench.faults.calm();
            if bench.archive.is_none() {
                bench.reopen(20).await;
            }
            bench.append(12).await;
            bench.recover(&after).await;
            bench.kill().await;
            bench.reopen(20).await;
            bench.expect_each_once(&after).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_what_a_table_lacks() {
    let mut bench = Bench::new(900_000).await;
    let put =
        |table, times, fault| Rule { operation: Operation::Put, table, path: "_delta_log", skip: 0, times, fault };
    for (table, fault) in
        [("events", Fault::NoSpace), ("calls", Fault::NoSpace), ("recordings", Fault::Precondition { landed: false })]
    {
        let before = bench.archive().inner.log.bounds().first;
        bench.faults.plan(put(table, 1000, fault));
        for _ in 0..12 {
            bench.append(3).await;
            // One of three tables never has them, so nothing goes.
            assert!(bench.flush().await.is_err(), "{table} takes nothing");
        }
        assert_eq!(bench.archive().inner.log.bounds().first, before, "trimmed although {table} lacks messages");
        bench.kill().await;
        bench.faults.calm();
        bench.reopen(20).await;
        bench.recover(table).await;
        assert!(bench.archive().inner.log.bounds().first > before, "trimmed once all have them");
    }
    bench.finish("a log that was trimmed").await;
}

/// A small generator of numbers, so that a failing run can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_mixtures_of_faults() {
    for seed in [1, 2, 3] {
        let mut bench = Bench::new(0).await;
        let mut dice = Dice(seed);
        bench.faults.roll(seed, 12);
        for step in 0..40 {
            match dice.roll(10) {
                0..=4 => bench.append(1 + dice.roll(20)).await,
                5 => drop(bench.archive().fold_now().await),
                6..=7 => drop(bench.flush().await),
                8 => {
                    bench.kill().await;
                    // A start that keeps failing is tried again by whoever supervises the process.
                    bench.faults.roll(seed + step, 60);
                    bench.reopen(100).await;
                    bench.faults.roll(seed + step, 12);
                }
                _ => {
                    bench.recover(&format!("the faults of seed {seed}, step {step}")).await;
                    bench.faults.roll(seed + step, 12);
                }
            }
            bench.check_log();
            // What can be read at all is right.
            if let Ok(hashes) = hashes(bench.archive()).await {
                assert_eq!(hashes[1].rows, bench.messages, "events (seed {seed}, step {step})");
            }
        }
        assert!(bench.faults.struck() > 20, "faults struck");
        bench.finish(&format!("seed {seed}")).await;
    }
}
