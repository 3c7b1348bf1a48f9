//! The embedded log on a disk that fails: what was acknowledged is there after every restart, in order and once; what
//! was refused is not claimed; a failed sync ends the log's life until the next start, which believes only what it
//! writes again itself.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rustix::io::Errno;
use tempfile::TempDir;

use super::embedded::SPARES;
use super::faulty_disk::{Fault, FaultyDisk, Operation};
use super::{Batch, Bounds, EmbeddedLog, Log, LogConfig, Published, Publisher};
use crate::error::Error;
use crate::event::Offset;

/// Room for a frame of 12 KiB.
const SEGMENT: u64 = 16 << 10;

/// A log on a faulty disk, and what it must have.
struct Bench {
    directory: TempDir,
    disk: Arc<FaultyDisk>,
    log: Option<EmbeddedLog>,
    /// By offset.
    acknowledged: Vec<Bytes>,
    /// The batch whose append was answered with `Poisoned`: all of it may be there, or nothing.
    unknown: Option<Vec<Bytes>>,
    /// How much had been asked of the disk when the log was poisoned.
    poisoned_after: Option<usize>,
    made: u64,
}

fn ignored() -> Publisher {
    Box::new(|_| ())
}

/// Says of half of the sectors that they landed, by this seed.
fn dice(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 1
    }
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk = FaultyDisk::under(&directory.path().join("log"));
        let mut bench = Bench {
            directory,
            disk,
            log: None,
            acknowledged: Vec::new(),
            unknown: None,
            poisoned_after: None,
            made: 0,
        };
        bench.open().expect("a new log opens");
        bench
    }

    fn open(&mut self) -> Result<(), Error> {
        let log = EmbeddedLog::open_any_size(LogConfig {
            directory: self.directory.path().join("log"),
            segment_bytes: SEGMENT,
            queue_limit: 1024,
            min_free_bytes: 0,
        })?;
        log.start(log.bounds().next, ignored())?;
        self.log = Some(log);
        Ok(())
    }

    fn log(&self) -> &EmbeddedLog {
        self.log.as_ref().expect("the log is open")
    }

    /// Records of these sizes that no other batch has.
    fn batch(&mut self, sizes: &[usize]) -> Vec<Bytes> {
        let mut records = Vec::new();
        for size in sizes {
            self.made += 1;
            let mut record = format!("record {} ", self.made).into_bytes();
            record.resize(record.len().max(*size), u8::try_from(self.made % 251).unwrap_or_default() + 1);
            records.push(Bytes::from(record));
        }
        records
    }

    async fn append(&mut self, sizes: &[usize]) -> Result<Offset, Error> {
        let records = self.batch(sizes);
        let answer = self.log().append(Batch { records: records.clone(), carry: None }).await.map(|placed| placed[0]);
        match &answer {
            Ok(first) => {
                assert_eq!(self.poisoned_after, None, "a poisoned log acknowledges nothing");
                assert_eq!(first.0, self.acknowledged.len() as u64, "offsets are dense");
                self.acknowledged.extend(records);
            }
            Err(Error::Poisoned(_)) => {
                // Only the first one had a write under way; those after it are refused with nothing written.
                if self.poisoned_after.is_none() {
                    self.unknown = Some(records);
                    self.poisoned_after = Some(self.disk.performed().len());
                }
            }
            Err(Error::Full(_)) => assert_eq!(self.log().poisoned(), None, "refused for now only"),
            Err(error) => panic!("no fault is answered with `{error}`"),
        }
        answer
    }

    /// Ends the process; says whether the disk was left alone once the log was poisoned.
    async fn stop(&mut self) {
        if let Some(log) = self.log.take() {
            log.close().await;
        }
        if let Some(before) = self.poisoned_after.take() {
            let since = &self.disk.performed()[before..];
            assert!(since.is_empty(), "asked of the disk by a poisoned log: {since:?}");
        }
    }

    /// Starts again, with a power failure before if there is a seed for it, and checks what is there. A fault may
    /// meet the start too: then the next start, without any, must do.
    async fn restart(&mut self, power: Option<u64>) {
        self.stop().await;
        if let Some(seed) = power.or(self.disk.is_dead().then_some(1)) {
            self.disk.power_cycle(dice(seed)).expect("the power comes back");
        }
        if let Err(error) = self.open() {
            assert!(!matches!(error, Error::Corrupt(_)), "needs a human: {error}");
            self.disk.calm();
            if let Some(seed) = power.or(self.disk.is_dead().then_some(2)) {
                self.disk.power_cycle(dice(seed.wrapping_add(1))).expect("the power comes back");
            }
            self.open().expect("opens by itself");
        }
        self.disk.calm();
        self.check();
    }

    /// What can be read is what was acknowledged, and then at most what nobody was told of.
    fn check(&mut self) {
        let Bounds { first, next } = self.log().bounds();
        let records: Vec<(Offset, Bytes)> = self.log().read(first, usize::MAX).expect("readable");
        let offsets: Vec<u64> = records.iter().map(|(offset, _)| offset.0).collect();
        assert_eq!(offsets, (first.0..next.0).collect::<Vec<u64>>(), "each offset once, in order");
        let mut expected = self.acknowledged.clone();
        if next.0 > expected.len() as u64 {
            expected.extend(self.unknown.take().expect("nothing more was ever sent"));
        }
        self.unknown = None;
        let read: Vec<Bytes> = records.into_iter().map(|(_, record)| record).collect();
        let from = usize::try_from(first.0).expect("small");
        assert_eq!(read, expected[from..], "what was acknowledged, whole batches of it");
        // What was found is durable from here on, like everything acknowledged.
        self.acknowledged = expected;
    }

    /// A poisoned log still reads all that it acknowledged, and nothing else.
    fn check_readable_only(&self) {
        assert!(self.log().poisoned().is_some());
        let records = self.log().read(Offset(0), usize::MAX).expect("readable");
        assert_eq!(records.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), self.acknowledged);
        self.log().trim(self.log().bounds().next).expect("trimming waits");
    }

    async fn fill_segment(&mut self) {
        for _ in 0..2 {
            self.append(&[5_000]).await.expect("there is room");
        }
    }

    fn spares(&self) -> usize {
        let entries = std::fs::read_dir(self.directory.path().join("log")).expect("the log's directory");
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|name| name == "spare")).count()
    }
}

#[tokio::test]
async fn short_and_interrupted_writes_are_finished() {
    let mut bench = Bench::new();
    bench.disk.plan(Operation::Write, 0, Fault::Short);
    bench.disk.plan(Operation::Write, 0, Fault::Interrupted);
    bench.disk.plan(Operation::Write, 0, Fault::Short);
    bench.append(&[3_000, 40]).await.expect("acknowledged");
    assert_eq!(bench.disk.calm(), 0, "all faults struck");
    bench.restart(Some(7)).await;
    assert_eq!(bench.acknowledged.len(), 2);
}

#[tokio::test]
async fn a_torn_write_is_cut_off_wherever_it_tore() {
    for sectors in 0..8 {
        let mut bench = Bench::new();
        bench.append(&[700]).await.expect("acknowledged");
        bench.disk.plan(Operation::Write, 0, Fault::Torn(sectors));
        assert!(matches!(bench.append(&[3_000]).await, Err(Error::Poisoned(_))));
        bench.restart(None).await;
        assert!(bench.acknowledged.len() <= 2);
        if sectors < 6 {
            assert_eq!(bench.acknowledged.len(), 1, "{sectors} sectors are not the whole frame");
        }
        bench.append(&[900]).await.expect("goes on");
        bench.restart(Some(3)).await;
    }
}

#[tokio::test]
async fn a_failed_write_poisons_and_readers_go_on() {
    for errno in [Errno::IO, Errno::NOSPC] {
        for power in [None, Some(5)] {
            let mut bench = Bench::new();
            bench.append(&[100]).await.expect("acknowledged");
            bench.disk.plan(Operation::Write, 0, Fault::Error(errno));
            for _ in 0..3 {
                assert!(matches!(bench.append(&[2_000]).await, Err(Error::Poisoned(_))));
            }
            bench.check_readable_only();
            bench.restart(power).await;
            assert_eq!(bench.acknowledged.len(), 1, "half a frame is none");
            bench.append(&[100]).await.expect("takes messages again");
            bench.restart(Some(6)).await;
            assert_eq!(bench.acknowledged.len(), 2);
        }
    }
}

/// The trap: after the failed sync the kernel shows the frame, counts it as written, and has it nowhere.
#[tokio::test]
async fn a_failed_sync_is_never_believed_later() {
    for fault in [Fault::Error(Errno::IO), Fault::Half(Errno::IO), Fault::Error(Errno::NOSPC)] {
        let mut bench = Bench::new();
        bench.append(&[1_000]).await.expect("acknowledged");
        bench.disk.plan(Operation::Sync, 0, fault);
        for _ in 0..3 {
            assert!(matches!(bench.append(&[9_000]).await, Err(Error::Poisoned(_))));
        }
        bench.check_readable_only();
        bench.restart(None).await;
        assert_eq!(bench.acknowledged.len(), 2, "the kernel still shows the frame, so the start takes it");
        bench.append(&[300]).await.expect("takes messages again");
        bench.restart(Some(8)).await;
        assert_eq!(bench.acknowledged.len(), 3, "what the start took outlives the power");
    }
}

#[tokio::test]
async fn a_frame_that_a_failed_sync_lost_is_gone_with_the_power() {
    let mut bench = Bench::new();
    bench.append(&[1_000]).await.expect("acknowledged");
    bench.disk.plan(Operation::Sync, 0, Fault::Error(Errno::IO));
    assert!(matches!(bench.append(&[9_000]).await, Err(Error::Poisoned(_))));
    bench.restart(Some(4)).await;
    assert_eq!(bench.acknowledged.len(), 1);
}

#[tokio::test]
async fn a_start_whose_sync_fails_is_refused_and_the_next_does_it_again() {
    for operation in [Operation::Write, Operation::Sync, Operation::Create, Operation::SyncDirectory] {
        let mut bench = Bench::new();
        bench.append(&[1_000]).await.expect("acknowledged");
        bench.disk.plan(Operation::Sync, 0, Fault::Error(Errno::IO));
        assert!(matches!(bench.append(&[9_000]).await, Err(Error::Poisoned(_))));
        bench.stop().await;
        bench.disk.plan(operation, 0, Fault::Error(Errno::IO));
        assert!(matches!(bench.open(), Err(Error::Io { .. })), "{operation:?}");
        bench.restart(None).await;
        bench.append(&[300]).await.expect("takes messages again");
        bench.restart(Some(9)).await;
        assert_eq!(bench.acknowledged.len(), 3, "{operation:?}");
    }
}

#[tokio::test]
async fn a_power_failure_keeps_what_was_acknowledged() {
    for seed in 0..32 {
        let mut bench = Bench::new();
        bench.append(&[10, 2_000]).await.expect("acknowledged");
        let operation = if seed % 2 == 0 { Operation::Write } else { Operation::Sync };
        bench.disk.plan(operation, 0, Fault::PowerLoss);
        assert!(matches!(bench.append(&[4_000, 400]).await, Err(Error::Poisoned(_))));
        bench.restart(Some(seed)).await;
        bench.append(&[30]).await.expect("goes on");
        bench.restart(Some(seed)).await;
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_begun_refuses_for_now_and_leaves_nothing_behind() {
    use Operation::{Create, Rename, SyncHeader, SyncSpare, WriteHeader, WriteSpare};
    for operation in [Create, WriteSpare, SyncSpare, WriteHeader, SyncHeader, Rename] {
        for errno in [Errno::NOSPC, Errno::IO] {
            let mut bench = Bench::new();
            bench.fill_segment().await;
            for _ in 0..5 {
                bench.disk.plan(operation, 0, Fault::Error(errno));
                let answer = bench.append(&[5_000]).await;
                assert!(matches!(answer, Err(Error::Full(_))), "{operation:?}: {answer:?}");
            }
            assert_eq!(bench.disk.calm(), 0, "all faults struck");
            assert!(bench.spares() <= SPARES, "{operation:?} leaves files that fill the disk");
            bench.append(&[5_000]).await.expect("as soon as the disk does, without a restart");
            bench.restart(Some(2)).await;
            assert_eq!(bench.acknowledged.len(), 3, "{operation:?}");
        }
    }
}

#[tokio::test]
async fn a_directory_whose_sync_fails_poisons() {
    for power in [None, Some(1)] {
        let mut bench = Bench::new();
        bench.fill_segment().await;
        bench.disk.plan(Operation::SyncDirectory, 0, Fault::Error(Errno::IO));
        assert!(matches!(bench.append(&[5_000]).await, Err(Error::Poisoned(_))));
        assert!(matches!(bench.append(&[5_000]).await, Err(Error::Poisoned(_))));
        bench.restart(power).await;
        assert_eq!(bench.acknowledged.len(), 2);
        bench.append(&[5_000]).await.expect("takes messages again");
        bench.restart(Some(3)).await;
        assert_eq!(bench.acknowledged.len(), 3, "the new segment's name is on disk");
    }
}

#[tokio::test]
async fn trimming_that_fails_loses_nothing() {
    for (operation, poisons) in
        [(Operation::Rename, false), (Operation::Remove, false), (Operation::SyncDirectory, true)]
    {
        let mut bench = Bench::new();
        for _ in 0..5 {
            bench.fill_segment().await;
        }
        let next = bench.log().bounds().next;
        bench.disk.plan(operation, 0, Fault::Error(Errno::IO));
        assert!(matches!(bench.log().trim(next), Err(Error::Io { .. })), "{operation:?}");
        assert_eq!(bench.log().poisoned().is_some(), poisons, "{operation:?}");
        if !poisons {
            bench.log().trim(next).expect("the next one does it");
            assert_eq!(bench.log().bounds().first, Offset(8), "all but the last segment went");
        }
        bench.check();
        bench.restart(Some(5)).await;
        bench.log().trim(next).expect("trims");
        bench.append(&[5_000]).await.expect("goes on, in a recycled segment");
        bench.restart(Some(6)).await;
    }
}

#[tokio::test]
async fn many_appends_at_once_meet_a_failed_sync() {
    for skip in 0..4 {
        let mut bench = Bench::new();
        bench.disk.plan(Operation::Sync, skip, Fault::Error(Errno::IO));
        let batches: Vec<Vec<Bytes>> = (0..40).map(|number| bench.batch(&[700, 10 + number])).collect();
        let log = bench.log();
        let appends = batches.iter().map(|records| log.append(Batch { records: records.clone(), carry: None }));
        let answers = futures::future::join_all(appends).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::Poisoned(_)))));
        log.close().await;
        drop(bench.log.take());
        bench.disk.calm();
        bench.open().expect("recovers");
        let read = bench.log().read(Offset(0), usize::MAX).expect("readable");
        let mut placed = 0;
        for (records, answer) in batches.iter().zip(&answers) {
            let found: Vec<&(Offset, Bytes)> = read.iter().filter(|(_, record)| records.contains(record)).collect();
            assert!(found.is_empty() || found.len() == records.len(), "a batch is there once and whole, or not at all");
            if let Ok(offsets) = answer {
                let there: Vec<Offset> = found.iter().map(|(offset, _)| *offset).collect();
                assert_eq!(there, offsets[..], "acknowledged and kept");
            }
            placed += found.len();
        }
        assert_eq!(placed, read.len(), "nothing else is there");
    }
}

#[tokio::test]
async fn no_group_leads_over_the_end_of_its_segment() {
    let mut bench = Bench::new();
    let largest = 12_264 - 4;
    let too_large = bench.batch(&[largest + 1]);
    let answer = bench.log().append(Batch { records: too_large, carry: None }).await;
    assert!(matches!(answer, Err(Error::TooLarge(12_264))), "{answer:?}");
    bench.append(&[largest]).await.expect("just fits");
    let batches: Vec<Vec<Bytes>> = (0..30).map(|number| bench.batch(&[1_000 + 350 * number])).collect();
    let log = bench.log();
    let appends = batches.iter().map(|records| log.append(Batch { records: records.clone(), carry: None }));
    for answer in futures::future::join_all(appends).await {
        answer.expect("each fits a segment");
    }
    bench.acknowledged = log.read(Offset(0), usize::MAX).expect("readable").into_iter().map(|(_, all)| all).collect();
    assert_eq!(bench.acknowledged.len(), 31);
    bench.restart(None).await;
}

#[tokio::test]
async fn a_committer_that_breaks_off_poisons() {
    let bench = Bench::new();
    bench.log().close().await;
    bench
        .log()
        .start(
            Offset(0),
            Box::new(|published: Published| assert!(published.batch.records.is_empty(), "the publisher fails")),
        )
        .expect("starts");
    let record = || Batch { records: vec![Bytes::from_static(b"record")], carry: None };
    assert!(bench.log().append(record()).await.is_err());
    bench.log().close().await;
    assert!(bench.log().poisoned().is_some(), "whoever asks for the log's health must learn of it");
    assert!(matches!(bench.log().append(record()).await, Err(Error::Poisoned(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Plan(Operation, u64, Fault),
    Restart(Option<u64>),
    /// Trims before this share of what is there, in percent.
    Trim(u64),
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::{
        Create, Remove, Rename, Sync, SyncDirectory, SyncHeader, SyncSpare, Write, WriteHeader, WriteSpare,
    };
    let rare = [Create, WriteSpare, SyncSpare, WriteHeader, SyncHeader, Rename, Remove, SyncDirectory];
    prop_oneof![Just(Write), Just(Sync), proptest::sample::select(rare.to_vec())]
}

fn faults() -> impl Strategy<Value = Fault> {
    let errors = vec![Errno::IO, Errno::NOSPC];
    prop_oneof![
        Just(Fault::Short),
        Just(Fault::Interrupted),
        proptest::sample::select(errors.clone()).prop_map(Fault::Error),
        proptest::sample::select(errors).prop_map(Fault::Half),
        (0_usize..24).prop_map(Fault::Torn),
        Just(Fault::PowerLoss),
    ]
}

fn plays() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(0_usize..3_000, 1..5).prop_map(Step::Append),
        2 => (operations(), 0_u64..3, faults()).prop_map(|(operation, skip, fault)| Step::Plan(operation, skip, fault)),
        1 => proptest::option::of(any::<u64>()).prop_map(Step::Restart),
        1 => (0_u64..=100).prop_map(Step::Trim),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn play(steps: Vec<Step>) {
    let mut bench = Bench::new();
    for step in steps {
        match step {
            // Every answer that is wrong panics in there.
            Step::Append(sizes) => drop(bench.append(&sizes).await),
            Step::Plan(operation, skip, fault) => bench.disk.plan(operation, skip, fault),
            Step::Restart(power) => bench.restart(power).await,
            Step::Trim(share) => {
                let before = Offset(bench.acknowledged.len() as u64 * share / 100);
                let first = bench.log().bounds().first;
                let trimmed = bench.log().trim(before);
                assert!(bench.log().bounds().first <= before.max(first), "trimmed too much");
                if bench.log().poisoned().is_some() && bench.poisoned_after.is_none() {
                    assert!(trimmed.is_err(), "by this one");
                    bench.poisoned_after = Some(bench.disk.performed().len());
                }
            }
        }
    }
    bench.restart(Some(11)).await;
    bench.append(&[1]).await.expect("takes messages, whatever came before");
    bench.restart(None).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_list_whatever_the_disk_does(steps in plays()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(play(steps));
    }
}
