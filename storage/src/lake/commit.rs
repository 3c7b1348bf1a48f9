//! Commits: folds, swaps, and the care of a table's own log. What became of a commit whose answer was lost, the table says.

use std::collections::HashSet;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::{CHECKPOINT_EVERY, REMOVER, Right, Table};
use crate::error::Error;
use crate::event::Offset;

impl Table {
    /// Appends the rows of these files, drops those that they replace, and moves the watermark, in one commit.
    ///
    /// # Errors
    /// `Conflict` when another writer moved the watermark or dropped what is to be replaced; other errors leave the
    /// table as it was.
    pub async fn fold(&mut self, files: Vec<Add>, replaced: &[String], until: Offset) -> Result<(), Error> {
        let written: i64 = files.iter().map(|add| add.size).sum();
        let mut actions: Vec<Action> = files.iter().cloned().map(Action::Add).collect();
        let mut dropped = 0;
        if !replaced.is_empty() {
            let old: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
            let old = old.iter().filter(|file| replaced.iter().any(|path| *path == file.path()));
            actions.extend(old.map(|file| {
                dropped += file.size();
                Action::Remove(file.remove_action(true))
            }));
            if actions.len() != files.len() + replaced.len() {
                self.discard(&files).await;
                return Err(Error::Conflict(format!("files of `{}` are gone: another writer", self.name)));
            }
        }
        let committed = self.commit(actions, Some(until), !replaced.is_empty()).await;
        self.keep_only_if(committed, &files).await?;
        metrics::counter!("trunklog_fold_written_bytes_total", "table" => self.name).increment(written.unsigned_abs());
        metrics::counter!("trunklog_fold_replaced_bytes_total", "table" => self.name).increment(dropped.unsigned_abs());
        Ok(())
    }

    /// Finds out whether a commit landed whose answer was lost, so that [`Table::watermark`] tells what the table has.
    ///
    /// # Errors
    /// If the table cannot be read; it stays in doubt.
    pub async fn settle(&mut self) -> Result<(), Error> {
        if self.in_doubt {
            let before = self.watermark;
            self.handle.update_state().await?;
            self.watermark = self.read_watermark().await?;
            self.in_doubt = false;
            if self.watermark != before && self.watermark != self.attempted {
                self.another_folded();
            }
        }
        Ok(())
    }

    /// What this node knows does not fit the table any more: it commits nothing until it has taken it up. Else its next
    /// fold would begin behind the other's, with rows that the other has written.
    fn another_folded(&mut self) {
        if matches!(self.right, Right::Leased(_)) {
            self.right = Right::Nobody;
        }
    }

    /// Takes up what other nodes committed, and commits nothing until it has a right to.
    ///
    /// # Errors
    /// If the table cannot be read; it stays in doubt.
    pub async fn take_up(&mut self) -> Result<(), Error> {
        (self.in_doubt, self.right) = (true, Right::Nobody);
        let before = self.version();
        if self.handle.update_state().await.is_err() {
            // The commits since the version that is known here may be cleared away.
            self.handle.load().await?;
        }
        self.settle().await?;
        self.since_checkpoint += self.version().saturating_sub(before);
        Ok(())
    }

    /// Whether another node committed something since.
    ///
    /// # Errors
    /// If the table's log cannot be read.
    pub async fn has_newer(&self) -> Result<bool, Error> {
        Ok(self.handle.log_store().read_commit_entry(self.version() + 1).await?.is_some())
    }

    /// Replaces all files by others, in one commit.
    ///
    /// # Errors
    /// As [`Table::fold`].
    pub async fn swap_all(&mut self, adds: Vec<Add>) -> Result<(), Error> {
        let removed = self.removals(|_| true).await?;
        self.replace(removed, adds).await
    }

    /// Replaces these files by others with the same rows, in one commit.
    ///
    /// # Errors
    /// As [`Table::fold`].
    pub async fn swap(&mut self, adds: Vec<Add>, replaced: &HashSet<String>) -> Result<(), Error> {
        let removed = self.removals(|path| replaced.contains(path)).await?;
        if removed.len() != replaced.len() {
            self.discard(&adds).await;
            return Err(Error::Conflict(format!("files of `{}` are gone: another writer", self.name)));
        }
        self.replace(removed, adds).await
    }

    /// What drops these files, with their sizes in bytes.
    async fn removals(&mut self, is_removed: impl Fn(&str) -> bool) -> Result<Vec<(Action, i64)>, Error> {
        self.settle().await?;
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        let removed = files.iter().filter(|file| is_removed(&file.path()));
        Ok(removed.map(|file| (Action::Remove(file.remove_action(false)), file.size())).collect())
    }

    /// Gives up the files of a commit that is known to have failed.
    async fn keep_only_if(&mut self, committed: Result<(), Error>, files: &[Add]) -> Result<(), Error> {
        if committed.is_err() && !self.in_doubt {
            self.discard(files).await;
        }
        committed
    }

    /// Removes files that no commit names, as far as that can be told: what stays is found by a vacuum.
    pub async fn discard(&mut self, adds: &[Add]) {
        let unnamed = async {
            self.handle.update_state().await?;
            let named: HashSet<String> = self.files().await?.into_iter().map(|file| file.path).collect();
            let store = self.handle.log_store().object_store(None);
            for add in adds.iter().filter(|add| !named.contains(&add.path)) {
                let path = object_store::path::Path::parse(&add.path).map_err(object_store::Error::from);
                store.delete(&path.map_err(DeltaTableError::from)?).await.map_err(DeltaTableError::from)?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = unnamed.await {
            tracing::warn!(%error, table = self.name, "files that were written in vain are left to the next vacuum");
        }
    }

    /// Commits the exchange of files that hold the same rows; the removed ones come with their sizes in bytes.
    async fn replace(&mut self, removed: Vec<(Action, i64)>, adds: Vec<Add>) -> Result<(), Error> {
        let read: i64 = removed.iter().map(|(_, size)| size).sum();
        let written: i64 = adds.iter().map(|add| add.size).sum();
        let mut actions: Vec<Action> = removed.into_iter().map(|(action, _)| action).collect();
        actions.extend(adds.iter().cloned().map(|add| Action::Add(Add { data_change: false, ..add })));
        let committed = self.commit(actions, None, true).await;
        self.keep_only_if(committed, &adds).await?;
        metrics::counter!("trunklog_compaction_removed_bytes_total", "table" => self.name)
            .increment(read.unsigned_abs());
        metrics::counter!("trunklog_compaction_written_bytes_total", "table" => self.name)
            .increment(written.unsigned_abs());
        Ok(())
    }

    async fn commit(&mut self, actions: Vec<Action>, until: Option<Offset>, removes: bool) -> Result<(), Error> {
        self.right.check().await?;
        let stored = self.read_watermark().await?;
        if stored != self.watermark {
            let (name, expected) = (self.name, self.watermark);
            return Err(Error::Conflict(format!(
                "`{name}` is at offset {stored:?}, not at {expected:?}: another writer"
            )));
        }
        let mut properties = CommitProperties::default()
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata([("isBlindAppend".to_owned(), serde_json::Value::Bool(!removes))]);
        if let Some(until) = until {
            properties =
                properties.with_application_transaction(Transaction::new(&self.application, until.0.cast_signed()));
        }
        if removes {
            let number = self.transaction(REMOVER).await?.unwrap_or_default() + 1;
            properties = properties.with_application_transaction(Transaction::new(REMOVER, number));
        }
        let mode = if removes { SaveMode::Overwrite } else { SaveMode::Append };
        let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
        let first = actions.iter().find_map(|action| match action {
            Action::Add(add) => Some(add.path.clone()),
            _ => None,
        });
        let before = self.version();
        (self.in_doubt, self.attempted) = (true, until);
        let outcome = {
            let snapshot = self.handle.snapshot()?;
            CommitBuilder::from(properties)
                .with_actions(actions)
                .build(Some(snapshot as &dyn TableReference), self.handle.log_store(), operation)
                .await
        };
        match outcome {
            Ok(committed) => self.handle.state = Some(committed.snapshot()),
            Err(error) => {
                // The commit may have landed although its answer was lost: only the table can tell.
                let before = self.watermark;
                self.settle().await?;
                let landed = match first {
                    // Names of files are never used twice.
                    Some(first) => self.files().await?.iter().any(|file| file.path == first),
                    None => until.is_some() && self.watermark == until && before != until,
                };
                if !landed && self.watermark != before {
                    self.another_folded();
                    return Err(Error::Conflict(format!("another node folded into `{}`: {error}", self.name)));
                }
                if !landed {
                    return Err(error.into());
                }
            }
        }
        tracing::debug!(table = self.name, from = before, to = self.version(), "committed");
        self.watermark = until.or(self.watermark);
        self.in_doubt = false;
        self.since_checkpoint += 1;
        Ok(())
    }

    /// Writes a checkpoint when enough commits have come since the last, and opens the table from it; drops files that
    /// were superseded longer ago than `keep`. Says whether it did.
    ///
    /// # Errors
    /// If the checkpoint or the clean-up fails; the table is as good as before.
    pub async fn maintain(&mut self, keep: chrono::Duration) -> Result<bool, Error> {
        if self.since_checkpoint < CHECKPOINT_EVERY {
            return Ok(false);
        }
        // Who was held up takes what the next node wrote for files that nobody names.
        self.right.check().await?;
        // Files first: a checkpoint forgets the tombstones by which they are found.
        // Those that no commit names, too: what a process left that was killed while it wrote.
        let vacuum = self.handle.clone().vacuum().with_mode(VacuumMode::Full);
        vacuum.with_retention_period(keep).with_enforce_retention_duration(false).await?;
        self.handle.load().await?;
        deltalake::checkpoints::create_checkpoint(&self.handle, None).await?;
        deltalake::checkpoints::cleanup_metadata(&self.handle, None).await?;
        self.handle.load().await?;
        self.since_checkpoint = 0;
        Ok(true)
    }
}
