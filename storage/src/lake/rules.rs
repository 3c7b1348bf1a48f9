//! The rules by which commits are made, each beside what happens without it.
//!
//! "Without" is what the library's own means do on the same kind of table: no transaction, no look at the table after
//! an error, its OPTIMIZE, its checkpoints. Where the version in use does better than the rule fears, the test says so.
//!
//! Not here: that files are synced before they are seen (`tests/live/trace.sh`), and that the log is trimmed only after
//! that (`archive/faulty_store.rs`).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::{SessionContext, col};
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitConflictError, CommitProperties, TableReference, TransactionError,
};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use futures::TryStreamExt;
use tempfile::TempDir;

use super::{CHECKPOINT_EVERY, Columns, Order, Place, REMOVER, Right, Table};
use crate::error::Error;
use crate::event::Offset;
use crate::faults::{Fault, Faults, Operation, Rule};

/// Under which the folds of the log `log` keep its offsets.
const LOG: &str = "trunklog/log/0";

/// A table of numbers on a store that can fail.
struct Lake {
    directory: TempDir,
    session: SessionContext,
    faults: Arc<Faults>,
}

impl Lake {
    fn new() -> Lake {
        let directory = tempfile::tempdir().expect("temporary directory");
        let session = super::session(64 << 20, &directory.path().join("spill")).expect("a session");
        Lake { directory, session, faults: Arc::default() }
    }

    /// With so many files of three rows.
    async fn filled(files: i64) -> Lake {
        let lake = Lake::new();
        let mut table = lake.open().await;
        for first in (0..files).map(|file| 3 * file) {
            fold(&mut table, first..first + 3).await.expect("folded");
        }
        lake
    }

    /// Its settings ask for a checkpoint and a clean-up of the transaction log after every commit.
    async fn with_eager_maintenance() -> Lake {
        let lake = Lake::new();
        let settings = [("delta.checkpointInterval", "1"), ("delta.logRetentionDuration", "interval 0 days")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let handle = lake.open().await.handle;
        handle.set_tbl_properties().with_properties(HashMap::from(settings)).await.expect("settings are taken");
        lake
    }

    fn has_file(&self, path: &str) -> bool {
        self.directory.path().join("numbers").join(path).exists()
    }

    /// The table as a process sees it that opens it now.
    async fn open(&self) -> Table {
        self.open_under("log").await
    }

    async fn open_under(&self, identity: &str) -> Table {
        let place = Place {
            directory: self.directory.path(),
            identity,
            session: Arc::new(self.session.state()),
            wrap: Some(self.faults.wrapper()),
            bucket: None,
            right: Right::Alone,
        };
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, true)]));
        Table::open(&place, "numbers", &schema, &[], Columns { bloom: &[], unique: &[], opaque: &[] })
            .await
            .expect("opens")
    }

    /// How many rows the table has, and how many different ones.
    async fn rows(&self) -> (usize, usize) {
        let provider = self.open().await.provider().await.expect("a snapshot");
        let frame =
            self.session.read_table(provider.whole()).expect("a table").select(vec![col("number")]).expect("a column");
        let rows = frame.clone().count().await.expect("readable");
        let different = frame.distinct().expect("a column").count().await.expect("readable");
        (rows, different)
    }

    /// Writes all that this handle sees into a new file, as a compaction does.
    async fn rewrite(&self, table: &Table) -> Vec<Add> {
        let frame = self.session.read_table(table.provider().await.expect("a snapshot").whole()).expect("a table");
        let frame = table.as_stored(frame).expect("its columns");
        table.write(frame.execute_stream().await.expect("readable")).await.expect("written")
    }
}

/// A writer that holds these numbers.
async fn writer(table: &Table, numbers: Range<i64>) -> Result<RecordBatchWriter, DeltaTableError> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let mut writer = RecordBatchWriter::for_table(&table.handle)?;
    writer.write(RecordBatch::try_from_iter_with_nullable([("number", column, true)])?).await?;
    Ok(writer)
}

/// Folds these numbers by the rules; each is its own offset.
async fn fold(table: &mut Table, numbers: Range<i64>) -> Result<(), Error> {
    let until = Offset((numbers.end - 1).cast_unsigned());
    let adds = writer(table, numbers).await?.flush().await?;
    table.fold(adds, &[], until).await
}

/// Appends as the library's own writer does: every try writes new files.
async fn append(table: &mut Table, numbers: Range<i64>, properties: CommitProperties) -> Result<u64, DeltaTableError> {
    let mut writer = writer(table, numbers).await?.with_commit_properties(properties);
    writer.flush_and_commit(&mut table.handle).await
}

fn plain() -> CommitProperties {
    CommitProperties::default()
}

fn with_transaction(application: &str, version: i64) -> CommitProperties {
    plain().with_application_transaction(Transaction::new(application, version))
}

/// Exchanges all files that this handle sees, without the remover's transaction.
async fn exchange(table: &Table, adds: Vec<Add>) -> Result<(), DeltaTableError> {
    let files: Vec<_> = table.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
    let removed = files.iter().map(|file| Action::Remove(file.remove_action(false)));
    let added = adds.into_iter().map(|add| Action::Add(Add { data_change: false, ..add }));
    let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
    let snapshot = table.handle.snapshot()?;
    CommitBuilder::from(plain())
        .with_actions(removed.chain(added).collect())
        .build(Some(snapshot as &dyn TableReference), table.handle.log_store(), operation)
        .await?;
    Ok(())
}

/// Whether the library refused it because the same application had committed in between.
fn is_fenced(error: &DeltaTableError) -> bool {
    let DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } = error else {
        return false;
    };
    matches!(conflict, CommitConflictError::ConcurrentTransaction)
}

fn on_commit(fault: Fault) -> Rule {
    Rule { operation: Operation::Put, table: "", path: "_delta_log", skip: 0, times: 1, fault }
}

/// Without the remover's transaction the library takes both, for its check passes over removals that say that no data
/// changes: every row is then there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactions_of_one_snapshot() {
    let lake = Lake::filled(4).await;
    let (first, second) = (lake.open().await, lake.open().await);
    for table in [&first, &second] {
        let adds = lake.rewrite(table).await;
        exchange(table, adds).await.expect("both are taken");
    }
    assert_eq!(lake.rows().await, (24, 12), "every row twice");

    let lake = Lake::filled(4).await;
    let (mut first, mut second, mut appender) = (lake.open().await, lake.open().await, lake.open().await);
    let (early, late) = (lake.rewrite(&first).await, lake.rewrite(&second).await);
    fold(&mut appender, 12..15).await.expect("an append is in nobody's way");
    first.swap_all(early).await.expect("the first is taken, after the append");
    let refused = second.swap_all(late).await;
    // The fold came in between, too.
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert_eq!(lake.rows().await, (15, 15));
    // By now it has read the table again.
    let adds = lake.rewrite(&second).await;
    second.swap_all(adds).await.expect("of what is there now");
    assert_eq!((lake.rows().await, second.files().await.expect("readable").len()), ((15, 15), 1));
}

/// The library's OPTIMIZE drops the transaction that it is given, so that nothing fences it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_joins_small_files_twice() {
    let lake = Lake::filled(16).await;
    for table in [lake.open().await, lake.open().await].map(|table| table.handle) {
        let optimize = table.optimize().with_commit_properties(with_transaction(REMOVER, 1));
        optimize.await.expect("both are taken");
    }
    assert_eq!(lake.rows().await, (96, 48), "every row twice");
    assert_eq!(lake.open().await.transaction(REMOVER).await.expect("readable"), None, "it was dropped");

    let lake = Lake::filled(16).await;
    let (mut first, mut second) = (lake.open().await, lake.open().await);
    assert!(first.join_small_files(&lake.session, Order::Along("number")).await.expect("the first is taken"));
    let refused = second.join_small_files(&lake.session, Order::Along("number")).await;
    assert!(matches!(&refused, Err(Error::Lake(error)) if is_fenced(error)), "{refused:?}");
    assert_eq!(lake.rows().await, (48, 48));
}

/// Without a transaction the library puts the same rows behind those that came meanwhile. With one it refuses only
/// while the handle is stale: it compares who committed in between, never the offsets. So we compare them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_with_an_old_watermark() {
    let lake = Lake::new();
    let (mut writer, mut stale) = (lake.open().await, lake.open().await);
    append(&mut writer, 0..3, plain()).await.expect("appended");
    append(&mut stale, 0..3, plain()).await.expect("taken again");
    assert_eq!(lake.rows().await, (6, 3), "every row twice");

    let lake = Lake::new();
    let (mut writer, mut stale) = (lake.open().await, lake.open().await);
    append(&mut writer, 0..3, with_transaction(LOG, 2)).await.expect("appended");
    let refused = append(&mut stale, 0..3, with_transaction(LOG, 2)).await.expect_err("the handle is stale");
    assert!(is_fenced(&refused), "{refused}");
    stale.handle.update_state().await.expect("readable");
    append(&mut stale, 0..3, with_transaction(LOG, 2)).await.expect("the same offset is taken again");
    assert_eq!(lake.rows().await, (6, 3), "every row twice");
    append(&mut stale, 0..1, with_transaction(LOG, 0)).await.expect("a lower one too");
    assert_eq!(lake.open().await.watermark, Some(Offset(0)), "the table has forgotten what it has");

    let lake = Lake::new();
    let (mut writer, mut stale, mut same) = (lake.open().await, lake.open().await, lake.open().await);
    let mut refreshed = lake.open().await;
    fold(&mut writer, 0..3).await.expect("folded");
    refreshed.handle.update_state().await.expect("readable");
    let refused = fold(&mut refreshed, 0..3).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let refused = fold(&mut stale, 0..6).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let refused = fold(&mut same, 0..3).await;
    assert!(
        matches!(refused, Err(Error::Conflict(_))),
        "another one brought it there, in files of its own: {refused:?}"
    );
    assert_eq!(lake.rows().await, (3, 3));
    // By now it has read the table again.
    fold(&mut stale, 3..6).await.expect("what the table lacks");
    assert_eq!((lake.rows().await, lake.open().await.watermark), ((6, 6), Some(Offset(5))));
}

/// Another log counts from 0 again: under one id for all logs its first messages would pass for written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_another_log() {
    let lake = Lake::new();
    append(&mut lake.open().await, 0..3, with_transaction("trunklog", 2)).await.expect("appended");
    let found = lake.open_under("another").await.transaction("trunklog").await;
    assert_eq!(found.expect("readable"), Some(2), "three messages would be skipped");

    let lake = Lake::new();
    fold(&mut lake.open().await, 0..3).await.expect("folded");
    let mut another = lake.open_under("another").await;
    assert_eq!(another.watermark, None);
    fold(&mut another, 0..1).await.expect("its own first message");
    assert_eq!(lake.open_under("another").await.watermark, Some(Offset(0)));
    assert_eq!(lake.open().await.watermark, Some(Offset(2)));
    assert_eq!(lake.rows().await, (4, 3), "each log's message 0");
}

/// Whoever takes the error at its word writes the rows again. A client that repeats its put meets its own object: the
/// library then commits the same files a second time, which shows nothing twice, unless there is a transaction, which
/// makes it refuse what has landed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_without_a_look_at_the_table() {
    let lake = Lake::new();
    let mut table = lake.open().await;
    lake.faults.plan(on_commit(Fault::AnswerLost));
    append(&mut table, 0..3, plain()).await.expect_err("no answer came");
    append(&mut table, 0..3, plain()).await.expect("tried again");
    assert_eq!(lake.rows().await, (6, 3), "every row twice");

    let lake = Lake::new();
    let mut table = lake.open().await;
    lake.faults.plan(on_commit(Fault::Exists { landed: true }));
    assert_eq!(append(&mut table, 0..3, plain()).await.expect("as the next version"), 2);
    assert_eq!(lake.rows().await, (3, 3), "the same files twice are the files once");

    let lake = Lake::new();
    let mut table = lake.open().await;
    lake.faults.plan(on_commit(Fault::Exists { landed: true }));
    let refused = append(&mut table, 0..3, with_transaction(LOG, 2)).await.expect_err("its own commit is in the way");
    assert!(is_fenced(&refused), "{refused}");
    table.handle.update_state().await.expect("readable");
    append(&mut table, 0..3, with_transaction(LOG, 2)).await.expect("tried again");
    assert_eq!(lake.rows().await, (6, 3), "every row twice");
}

/// After an error the table is read again, and only its offset says whether the commit landed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost() {
    let lake = Lake::new();
    let mut table = lake.open().await;
    let landed = [Fault::AnswerLost, Fault::Exists { landed: true }, Fault::Precondition { landed: true }];
    for (first, fault) in (0..).step_by(3).zip(landed) {
        lake.faults.plan(on_commit(fault));
        fold(&mut table, first..first + 3).await.expect("the table says that it landed");
    }
    assert_eq!((lake.faults.struck(), lake.rows().await), (3, (9, 9)));
    lake.faults.plan(on_commit(Fault::NoSpace));
    fold(&mut table, 9..12).await.expect_err("the table says that it did not");
    assert_eq!(table.watermark, Some(Offset(8)));
    fold(&mut table, 9..12).await.expect("tried again");
    assert_eq!(lake.rows().await, (12, 12));
    // A compaction moves no offset that could tell, but names its files.
    lake.faults.plan(on_commit(Fault::AnswerLost));
    let adds = lake.rewrite(&table).await;
    table.swap_all(adds).await.expect("the table says that it landed");
    assert_eq!((lake.rows().await, table.files().await.expect("readable").len()), ((12, 12), 1));
    lake.faults.plan(on_commit(Fault::NoSpace));
    let adds = lake.rewrite(&table).await;
    table.swap_all(adds.clone()).await.expect_err("the table says that it did not");
    assert_eq!((lake.rows().await, table.files().await.expect("readable").len()), ((12, 12), 1));
    assert!(adds.iter().all(|add| !lake.has_file(&add.path)), "what was written in vain is gone");
}

/// The library writes checkpoints and cleans up within the commit: if that fails, what has landed comes back as an
/// error. We do both apart, in [`Table::maintain`], whatever the table's settings ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_or_a_clean_up_that_fails() {
    for (operation, path) in [(Operation::Put, "checkpoint"), (Operation::Delete, "")] {
        let failing = Rule { operation, table: "", path, skip: 0, times: 1, fault: Fault::InputOutput };
        let lake = Lake::with_eager_maintenance().await;
        let mut table = lake.open().await;
        lake.faults.plan(failing);
        append(&mut table, 0..3, plain()).await.expect_err("although it landed");
        assert_eq!(lake.rows().await, (3, 3), "it landed");
        append(&mut table, 0..3, plain()).await.expect("tried again");
        assert_eq!(lake.rows().await, (6, 3), "every row twice");

        let lake = Lake::with_eager_maintenance().await;
        let mut table = lake.open().await;
        lake.faults.plan(Rule { times: 100, ..failing });
        fold(&mut table, 0..3).await.expect("asks for neither");
        assert_eq!(lake.faults.struck(), 0);
        table.since_checkpoint = CHECKPOINT_EVERY;
        let keep = chrono::Duration::days(1);
        table.maintain(keep).await.expect_err("fails by itself");
        fold(&mut table, 3..6).await.expect("the table is as good as before");
        lake.faults.calm();
        assert!(table.maintain(keep).await.expect("works again"));
        fold(&mut table, 6..9).await.expect("after a clean-up too");
        assert_eq!(lake.rows().await, (9, 9));
    }
}

/// A handle carries all commits since the last checkpoint along and reads them again and again, which costs time, not
/// rows (`docs/decisions.md`, section 5). After maintenance it stands on a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_lives_long() {
    let commits = |table: &Table| {
        let snapshot = table.handle.snapshot().expect("loaded");
        (0..=table.version()).filter(|version| snapshot.version_timestamp(*version).is_some()).count()
    };
    let lake = Lake::new();
    let mut table = lake.open().await;
    for first in [0, 3, 6, 9, 12] {
        fold(&mut table, first..first + 3).await.expect("folded");
    }
    assert_eq!(commits(&table), 6, "the first and five folds");
    table.since_checkpoint = CHECKPOINT_EVERY;
    assert!(table.maintain(chrono::Duration::days(1)).await.expect("maintained"));
    assert_eq!(commits(&table), 0);
    fold(&mut table, 15..18).await.expect("folded");
    assert_eq!((commits(&table), lake.rows().await), (1, (18, 18)));
}

/// What deletion vectors broke in other versions cannot be shown: the one in use reads them but writes none, and a
/// delete copies the file. Our tables' protocol does not have the feature, so no other engine may write them either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deletion_vectors() {
    let lake = Lake::filled(1).await;
    lake.open().await.handle.delete().with_predicate("number = 1").await.expect("deleted");
    assert_eq!(lake.rows().await, (2, 2));
    let log = std::fs::read_dir(lake.directory.path().join("numbers/_delta_log")).expect("the transaction log");
    let commits = log.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a commit"));
    let commits: String = commits.collect();
    assert!(commits.contains(r#"{"remove":"#), "the file is replaced");
    assert!(!commits.to_lowercase().contains("deletionvector"), "{commits}");
}
