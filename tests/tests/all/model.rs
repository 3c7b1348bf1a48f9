//! The model-based test: random messages of all five sources through random batch sizes, folds, flushes, compactions,
//! crashes, restarts, rebuilds and late arrivals; after every step the whole archive is compared with a naive fold.
//!
//! `TRUNKLOG_MODEL_STEPS` says how many steps are taken, `TRUNKLOG_MODEL_SEED` with which seed the first of the
//! sequences begins. Messages and steps follow from the seed; how far a fold has come when the process "dies" does
//! not, so a failure in such a step may take a few tries to see again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trunklog_ingest::{SharedSettings, adapters};
use trunklog_storage::Error;
use trunklog_storage::archive::{Archive, ArchiveConfig, Message, Snapshot, Superseded};
use trunklog_storage::event::{Event, Offset, call_id};
use trunklog_storage::fact::{CallRef, Decoder};
use trunklog_tests::model::compare::{Closer, Comparison};
use trunklog_tests::model::fold::Fold;
use trunklog_tests::model::generator::Generator;
use trunklog_tests::model::image;
use trunklog_tests::size;

/// Steps of one sequence, over which a data directory lives.
const SEQUENCE: usize = 30;
/// Messages that fill a segment of the log.
const LONG: usize = 24;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    /// So many bytes that the log goes on in another segment, and the next fold trims it.
    AppendLong,
    /// What was taken in goes into the tables.
    Fold,
    /// And all days are swapped.
    Flush,
    /// Messages arrive while days are swapped.
    AppendDuringFlush,
    /// `kill -9`.
    Crash,
    /// The same while a flush is under way.
    CrashDuringFlush,
    /// The same after a fold's commits to the first one or two of its tables.
    CrashBetweenTables,
    /// The same while messages are on their way into the log; their sender tries again.
    CrashDuringAppend,
    /// A crash that loses the indexes too, which the tables make up for.
    CrashWithoutIndexes,
    /// Stopped and started.
    Reopen,
    Rebuild,
    /// As it was at an earlier message.
    AsOf,
}

const STEPS: [(Step, u32); 13] = [
    (Step::Append, 38),
    (Step::AppendLong, 1),
    (Step::Fold, 9),
    (Step::Flush, 9),
    (Step::AppendDuringFlush, 7),
    (Step::Crash, 5),
    (Step::CrashDuringFlush, 7),
    (Step::CrashBetweenTables, 5),
    (Step::CrashDuringAppend, 4),
    (Step::CrashWithoutIndexes, 2),
    (Step::Reopen, 3),
    (Step::Rebuild, 3),
    (Step::AsOf, 7),
];

fn any_step(dice: &mut StdRng) -> Step {
    let whole: u32 = STEPS.iter().map(|(_, weight)| weight).sum();
    let mut left = dice.random_range(0..whole);
    let found = STEPS.iter().find(|(_, weight)| {
        let here = left < *weight;
        left = left.saturating_sub(*weight);
        here
    });
    found.unwrap().0
}

/// What was done; told if the test fails, however it fails.
struct Trace {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TRUNKLOG_MODEL_SEED={} and these steps led to it:", self.seed);
            for (number, step) in self.steps.iter().enumerate() {
                eprintln!("  {number}: {step}");
            }
        }
    }
}

/// How often the dangerous things happened.
#[derive(Debug, Default)]
struct Met {
    /// Messages for calls that were whole in the final tier and unknown to memory.
    late: usize,
    /// Crashes that left tables behind that had got further than others.
    uneven: usize,
    /// Steps back in time.
    as_of: usize,
    crashes: usize,
}

/// One archive's life.
struct Life {
    trace: Trace,
    dice: StdRng,
    generator: Generator,
    decoder: Arc<dyn Decoder>,
    comparison: Comparison,
    root: tempfile::TempDir,
    /// Data directories before this one.
    former: u32,
    archive: Option<Archive>,
    /// Folds come by themselves as soon as there is something to fold.
    eager: bool,
    keep_superseded: Duration,
    /// Every message that was acknowledged, by offset.
    acknowledged: Vec<Message>,
    /// The calls at the last comparison, and which of them memory had.
    known: HashSet<String>,
    in_memory: Option<Superseded>,
    met: Met,
}

impl Life {
    async fn begin(seed: u64) -> Life {
        let decoder = adapters(SharedSettings::default());
        let mut dice = StdRng::seed_from_u64(seed ^ 0x5eed);
        let mut life = Life {
            trace: Trace { seed, steps: Vec::new() },
            generator: Generator::new(seed),
            comparison: Comparison::new(Arc::clone(&decoder)),
            decoder,
            root: tempfile::tempdir().unwrap(),
            former: 0,
            archive: None,
            eager: false,
            keep_superseded: if dice.random_bool(0.5) { Duration::from_secs(3600) } else { Duration::from_secs(5) },
            dice,
            acknowledged: Vec::new(),
            known: HashSet::new(),
            in_memory: None,
            met: Met::default(),
        };
        std::fs::create_dir_all(life.directory()).unwrap();
        life.open().await;
        life
    }

    fn archive(&self) -> &Archive {
        self.archive.as_ref().unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join(format!("data-{}", self.former))
    }

    fn last(&self) -> Option<Offset> {
        self.acknowledged.len().checked_sub(1).map(|last| Offset(last as u64))
    }

    /// Opens the data directory with other limits each time; the former process may hold the lock for a moment.
    async fn open(&mut self) {
        self.eager = self.dice.random_bool(0.4);
        let few = self.dice.random_bool(0.5);
        let config = ArchiveConfig {
            segment_bytes: 20 << 20,
            fold_bytes: if self.eager { 1 } else { 1 << 30 },
            fold_interval: if self.eager { Duration::from_millis(50) } else { Duration::from_secs(3600) },
            tail_limit_bytes: 2 << 30,
            min_free_bytes: 0,
            keep_superseded: self.keep_superseded,
            compact_calls: if few { 2 } else { 5_000 },
            overlay_calls: if few { 8 } else { 20_000 },
            ..ArchiveConfig::new(self.directory())
        };
        let patience = Instant::now() + Duration::from_secs(20);
        let archive = loop {
            match Archive::open(config.clone(), Arc::clone(&self.decoder)).await {
                Err(Error::Conflict(_)) if Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        self.archive = Some(archive);
    }

    fn decoded(&self, events: Vec<Event>) -> Vec<Message> {
        events.into_iter().map(|event| Message::new(event, self.decoder.as_ref())).collect()
    }

    /// One to fifty messages, most often few.
    fn some(&mut self) -> Vec<Event> {
        let most = if self.dice.random_bool(0.3) { 50 } else { 12 };
        let count = self.dice.random_range(1..=most);
        self.generator.batch(count)
    }

    async fn append(&mut self, events: Vec<Event>) {
        let messages = self.decoded(events);
        let in_memory = self.in_memory.clone();
        let is_late = |message: &&Message| {
            let source = message.decoded.concerns.unwrap_or(message.event.source);
            let Some((CallRef::Key(key), _)) = &message.decoded.fact else { return false };
            let id = call_id(&message.event.tenant, source, key);
            self.known.contains(&*id) && in_memory.as_ref().is_some_and(|memory| !memory.contains(&id))
        };
        self.met.late += messages.iter().filter(is_late).count();
        let receipts = self.archive().append(messages.clone()).await.unwrap();
        assert_eq!(receipts.len(), messages.len(), "a receipt for each");
        let first = self.acknowledged.len();
        self.acknowledged.extend(messages);
        let fold = Fold::of(&self.acknowledged);
        for (index, receipt) in receipts.iter().enumerate() {
            let offset = first + index;
            assert_eq!(receipt.offset, Offset(offset as u64));
            assert_eq!(receipt.quarantined, self.acknowledged[offset].decoded.error.is_some(), "offset {offset}");
            assert_eq!(receipt.duplicate, fold.duplicate_of[offset].is_some(), "duplicate mark of offset {offset}");
        }
    }

    /// Folds without swapping: by itself where folds come by themselves, else as the end of the process does.
    async fn fold(&mut self) {
        if !self.eager {
            self.reopen().await;
            return;
        }
        let patience = Instant::now() + Duration::from_secs(20);
        while self.archive().status().folded != self.last() {
            assert!(Instant::now() < patience, "nothing was folded: {:?}", self.archive().status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn flush(&mut self) {
        let flushed = self.archive().flush().await.unwrap();
        assert_eq!(flushed, self.last(), "all is in the tables");
        let status = self.archive().status();
        assert_eq!((status.folded, status.tail_messages), (self.last(), 0));
    }

    async fn reopen(&mut self) {
        self.archive().close().await.unwrap();
        self.archive = None;
        self.open().await;
    }

    /// Goes on with what a crash left of the data directory.
    async fn crash(&mut self, prepare: impl FnOnce(&Path, &Path)) {
        self.met.crashes += 1;
        let from = self.directory();
        self.former += 1;
        prepare(&from, &self.directory());
        // What the former process still does concerns nobody any more.
        self.archive().close().await.unwrap();
        self.archive = None;
        std::fs::remove_dir_all(from).unwrap();
        self.open().await;
    }

    async fn crash_during_flush(&mut self) {
        let archive = self.archive().clone();
        let flushing = tokio::spawn(async move { archive.flush().await });
        let micros = self.dice.random_range(0..60_000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        let from = self.directory();
        let into = self.root.path().join("image");
        image::take(&from, &into);
        flushing.await.unwrap().unwrap();
        self.crash(|_, to| std::fs::rename(into, to).unwrap()).await;
    }

    /// The log, the indexes and the last table as they were before a fold, the first tables as they are after it.
    async fn crash_between_tables(&mut self) {
        let from = self.directory();
        let into = self.root.path().join("image");
        image::take(&from, &into);
        let before = self.archive().status().folded;
        self.archive().close().await.unwrap();
        let committed = self.dice.random_range(1..3);
        for table in ["tables/events", "tables/calls"].into_iter().take(committed) {
            image::take_part(&from, &into, table);
        }
        self.met.uneven += usize::from(before != self.last());
        self.crash(|_, to| std::fs::rename(into, to).unwrap()).await;
    }

    async fn crash_during_append(&mut self) {
        if self.eager {
            // A fold of messages that the image's log has not would be none of this crash.
            self.crash(image::take).await;
            return;
        }
        let events = self.some();
        let messages = self.decoded(events.clone());
        let (archive, sent) = (self.archive().clone(), messages.clone());
        let appending = tokio::spawn(async move { archive.append(sent).await });
        let micros = self.dice.random_range(0..1_500);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        let (from, into) = (self.directory(), self.root.path().join("image"));
        image::take(&from, &into);
        appending.await.unwrap().unwrap();
        self.crash(|_, to| std::fs::rename(into, to).unwrap()).await;
        // Nobody was told of them, so they may be there or not: as many as came before the end, from the first on.
        let visible = self.archive().visible().map_or(0, |last| usize::try_from(last.0).unwrap() + 1);
        let before = self.acknowledged.len();
        assert!((before..=before + messages.len()).contains(&visible), "{visible} messages, {before} acknowledged");
        self.acknowledged.extend_from_slice(&messages[..visible - before]);
        let again = self.generator.again(&events);
        self.append(again).await;
    }

    async fn append_during_flush(&mut self) {
        let archive = self.archive().clone();
        let flushing = tokio::spawn(async move { archive.flush().await });
        for _ in 0..3 {
            let micros = self.dice.random_range(0..15_000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            let count = self.dice.random_range(1..6);
            let events = self.generator.batch(count);
            self.append(events).await;
            self.compare(Closer::default()).await;
        }
        flushing.await.unwrap().unwrap();
    }

    async fn rebuild(&mut self) {
        let before = self.archive().snapshot().await.unwrap();
        let before = self.archive().hash(&before).await.unwrap();
        let report = self.archive().rebuild().await.unwrap();
        assert_eq!(report.messages, self.acknowledged.len() as u64, "messages read again");
        let after = self.archive().snapshot().await.unwrap();
        assert_eq!(self.archive().hash(&after).await.unwrap(), before, "rebuilding gives the same rows");
    }

    async fn as_of(&mut self) {
        if self.acknowledged.is_empty() {
            return;
        }
        let offset = self.dice.random_range(0..self.acknowledged.len());
        let then = match self.archive().snapshot_as_of(Offset(offset as u64)).await {
            // Versions may be gone after their time, and only then.
            Err(Error::Gone(_)) if self.keep_superseded < Duration::from_secs(3600) => return,
            then => then.unwrap(),
        };
        self.met.as_of += 1;
        let messages = &self.acknowledged[..=offset];
        let differences = self.comparison.differences(&then, messages, Closer::default()).await;
        assert!(differences.is_empty(), "as of offset {offset}:\n{}", differences.join("\n"));
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append => {
                let events = self.some();
                self.append(events).await;
            }
            Step::AppendLong => {
                let events = self.generator.long(LONG);
                self.append(events).await;
            }
            Step::Fold => self.fold().await,
            Step::Flush => self.flush().await,
            Step::AppendDuringFlush => self.append_during_flush().await,
            Step::Crash => self.crash(image::take).await,
            Step::CrashDuringFlush => self.crash_during_flush().await,
            Step::CrashBetweenTables => self.crash_between_tables().await,
            Step::CrashDuringAppend => self.crash_during_append().await,
            Step::CrashWithoutIndexes => {
                let without = |from: &Path, to: &Path| {
                    image::take(from, to);
                    let lost = std::fs::remove_dir_all(to.join("index"));
                    assert!(lost.is_ok() || !from.join("index").exists(), "{lost:?}");
                };
                self.crash(without).await;
            }
            Step::Reopen => self.reopen().await,
            Step::Rebuild => self.rebuild().await,
            Step::AsOf => self.as_of().await,
        }
    }

    async fn compare(&mut self, closer: Closer) {
        assert_eq!(self.archive().visible(), self.last(), "what is acknowledged is visible, and nothing else");
        let snapshot = self.archive().snapshot().await.unwrap();
        let differences = self.comparison.differences(&snapshot, &self.acknowledged, closer).await;
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        self.known = Fold::of(&self.acknowledged).calls.values().map(|call| call.id.to_string()).collect();
        self.in_memory = Some(snapshot.calls_superseded());
    }

    /// Takes steps, each with a look at everything.
    async fn live(mut self, steps: usize) -> Met {
        for number in 0..steps {
            let step = if number == 0 { Step::Append } else { any_step(&mut self.dice) };
            let how = if self.eager { "folding by itself" } else { "folding when asked" };
            self.trace.steps.push(format!("{step:?} at {} messages, {how}", self.acknowledged.len()));
            self.take(step).await;
            self.compare(Closer { compacted: matches!(step, Step::Flush), headers: false }).await;
        }
        self.trace.steps.push("Flush at the end".to_owned());
        self.flush().await;
        self.compare(Closer { compacted: true, headers: true }).await;
        self.archive().close().await.unwrap();
        std::mem::take(&mut self.met)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_a_naive_fold_after_every_step() {
    let steps = size("TRUNKLOG_MODEL_STEPS", 90);
    let first = size("TRUNKLOG_MODEL_SEED", 1) as u64;
    let mut met = Met::default();
    let mut taken = 0;
    for seed in first.. {
        if taken >= steps {
            break;
        }
        let count = SEQUENCE.min(steps - taken);
        let more = Life::begin(seed).await.live(count).await;
        met.late += more.late;
        met.uneven += more.uneven;
        met.as_of += more.as_of;
        met.crashes += more.crashes;
        taken += count;
    }
    eprintln!("{taken} steps, {met:?}");
    if taken >= 3 * SEQUENCE {
        assert!(met.late > 0 && met.crashes > 0 && met.as_of > 0, "too tame: {met:?}");
    }
}

/// Everything in which a snapshot differs from what these messages come to.
async fn told(life: &Life, snapshot: &Snapshot, messages: &[Message]) -> String {
    let closer = Closer { compacted: true, headers: true };
    life.comparison.differences(snapshot, messages, closer).await.join("\n")
}

/// The comparison must see what it is there to see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_too_few_or_too_many_is_noticed() {
    let mut life = Life::begin(7).await;
    let events = life.generator.batch(60);
    life.append(events).await;
    life.flush().await;
    let snapshot = life.archive().snapshot().await.unwrap();
    let all = life.acknowledged.clone();
    assert_eq!(told(&life, &snapshot, &all).await, "");
    let fewer = told(&life, &snapshot, &all[..all.len() - 1]).await;
    assert!(fewer.contains("events: offset 59 should not be there"), "{fewer}");
    let more = told(&life, &snapshot, &[all.as_slice(), &all[..1]].concat()).await;
    assert!(more.contains("events: offset 60 is missing"), "{more}");
    let mut altered = all.clone();
    let first = altered.iter_mut().find(|message| message.decoded.fact.is_some()).unwrap();
    first.decoded.fact = None;
    let altered = told(&life, &snapshot, &altered).await;
    assert!(altered.contains("calls: "), "{altered}");
}
