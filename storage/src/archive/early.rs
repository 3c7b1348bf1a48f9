//! Messages of a long log that is read at the start: they go into files of `events` as they come, not when they are
//! folded. So they are written and freed while the processor still has them at hand, and memory holds only the states.
//!
//! No commit names such files before the fold that has the same messages, so nothing changes about what the table holds.
//! Memory does not have the messages any more: nobody may ask before they are folded, and a fold that fails ends the start.

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;

use super::fold::BATCH_ROWS;
use super::tail::TailView;
use crate::error::Error;
use crate::event::Offset;
use crate::lake::Writer;
use crate::rows::{self, LoggedEvent};

/// Those since the last fold began, in the making.
pub(crate) struct Early {
    batches: UnboundedSender<(TailView, OwnedSemaphorePermit)>,
    files: AbortOnDropHandle<Result<Writer, Error>>,
    /// The first one.
    first: Option<Offset>,
    pub messages: u64,
    /// As the tail counts them.
    pub bytes: u64,
}

impl std::fmt::Debug for Early {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Early").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Early {
    /// Begins new files, on the runtime's threads.
    pub fn begin(writer: Writer) -> Early {
        let (batches, received) = unbounded_channel();
        let files = AbortOnDropHandle::new(tokio::spawn(write_all(writer, received)));
        Early { batches, files, first: None, messages: 0, bytes: 0 }
    }

    /// Takes the messages that follow, of so many bytes. The permit ends when they are written: how many wait is for
    /// whoever gives it out to limit.
    pub fn push(&mut self, messages: TailView, bytes: u64, permit: OwnedSemaphorePermit) {
        self.first = self.first.or_else(|| messages.events().next().map(|logged| logged.offset));
        self.messages += messages.messages();
        self.bytes += bytes;
        // Whoever writes them has failed; that is told by `finish`.
        let _ = self.batches.send((messages, permit));
    }

    /// Waits until all are written; the files are not ended. `has` is the last offset that the table has.
    ///
    /// # Errors
    /// If they could not be written, or the table has some of them.
    pub async fn finish(self, has: Option<Offset>) -> Result<Writer, Error> {
        if self.first.is_some_and(|first| Some(first) <= has) {
            return Err(Error::Corrupt("`events` has messages that are about to be written".into()));
        }
        drop(self.batches);
        self.files.await.map_err(|broken| Error::Corrupt(format!("writing messages broke off: {broken}")))?
    }
}

async fn write_all(
    mut writer: Writer,
    mut batches: UnboundedReceiver<(TailView, OwnedSemaphorePermit)>,
) -> Result<Writer, Error> {
    while let Some((messages, _permit)) = batches.recv().await {
        // Each piece is freed when it is written.
        for piece in messages.pieces(BATCH_ROWS) {
            write(&mut writer, piece.events()).await?;
        }
    }
    Ok(writer)
}

/// Writes messages as rows of `events`.
///
/// # Errors
/// If a file cannot be written.
pub(super) async fn write(writer: &mut Writer, messages: impl Iterator<Item = &LoggedEvent>) -> Result<(), Error> {
    let messages: Vec<&LoggedEvent> = messages.collect();
    for chunk in messages.chunks(BATCH_ROWS) {
        writer.write(rows::stored_events(chunk)?).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::faulty_store::{config, hashes, kill, message, reference};
    use super::super::toy::Toy;
    use super::super::{Archive, ArchiveConfig, Message, TableHash};
    use super::*;
    use crate::faults::{Fault, Faults, Operation, Rule};

    const BATCHES: u64 = 12;
    const BATCH: u64 = 1500;

    /// A log that nobody has folded.
    async fn long_log(directory: &Path) -> Vec<Vec<Message>> {
        let batches = (0..BATCHES).map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(|number| message(number, 10)));
        let batches: Vec<Vec<Message>> = batches.map(Iterator::collect).collect();
        let archive = Archive::open(config(directory), Arc::new(Toy)).await.expect("opens");
        for batch in &batches {
            archive.append(batch.clone()).await.expect("appended");
        }
        kill(archive, directory).await;
        batches
    }

    /// Small enough that such a log takes several folds.
    fn small_folds(directory: &Path, faults: &Arc<Faults>) -> ArchiveConfig {
        ArchiveConfig { fold_bytes: 1 << 20, wrap_store: Some(faults.wrapper()), ..config(directory) }
    }

    /// Opens, and expects everything to be folded, and readable.
    async fn expect_all(config: ArchiveConfig, expected: &[TableHash]) -> Archive {
        let archive = Archive::open(config, Arc::new(Toy)).await.expect("opens");
        let status = archive.status();
        let last = Some(Offset(BATCHES * BATCH - 1));
        assert_eq!((status.visible, status.tail_bytes), (last, archive.inner.sequencer.lock().tail.bytes()));
        assert!(archive.inner.sequencer.lock().early.is_none());
        assert_eq!(hashes(&archive).await.expect("readable"), expected);
        archive
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_log_is_in_the_tables_when_it_is_read() {
        let (directory, faults) = (tempfile::tempdir().expect("temporary directory"), Arc::default());
        let batches = long_log(directory.path()).await;
        let expected = reference(&batches).await;
        let archive = expect_all(small_folds(directory.path(), &faults), &expected).await;
        let status = archive.status();
        assert_eq!((status.folded, status.tail_messages), (status.visible, 0), "nothing waits that is written");
        kill(archive, directory.path()).await;
        let archive = expect_all(small_folds(directory.path(), &faults), &expected).await;
        kill(archive, directory.path()).await;
    }

    /// The messages of a fold that fails are not in memory any more: the log has them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_written_and_not_folded_is_read_again() {
        let cases = [
            ("events", ".parquet", 0),
            ("events", ".parquet", 1),
            ("calls", ".parquet", 0),
            ("events", "_delta_log", 1),
        ];
        for (table, path, skip) in cases {
            let (directory, faults) = (tempfile::tempdir().expect("temporary directory"), Arc::<Faults>::default());
            let expected = reference(&long_log(directory.path()).await).await;
            for operation in [Operation::Put, Operation::Part, Operation::Complete] {
                faults.plan(Rule { operation, table, path, skip, times: 1, fault: Fault::NoSpace });
            }
            let config = || small_folds(directory.path(), &faults);
            let failed = Archive::open_once(config(), Arc::new(Toy), true).await.err();
            assert!(failed.is_some_and(|failed| failed.unfolded), "{table} {path}: no fold fails");
            let archive = expect_all(config(), &expected).await;
            archive.flush().await.expect("folds again");
            assert_eq!(hashes(&archive).await.expect("readable"), expected, "{table} {path}");
            kill(archive, directory.path()).await;
        }
    }
}
