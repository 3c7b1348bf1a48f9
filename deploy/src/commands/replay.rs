//! `trunklog replay --diff`: folds the stored messages again with this version and configuration, beside the tables,
//! and lists what would change. The tables stay as they are.

mod listing;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::signal::unix::{SignalKind, signal};
use trunklog_ingest::settings::SharedSettings;
use trunklog_storage::archive::{ArchiveConfig, Compared, Differences};
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::partitions::Partitions;

use super::progress::Progress;
use crate::cli::{Format, ReplayArgs};
use crate::config::Checked;
use crate::error::Error;
use crate::output;
use crate::server::socket;
use listing::Listing;
use summary::Summary;

/// In the data directory, so that it is on a disk that has room for tables; emptied by whoever has the archive's lock.
const SCRATCH: &str = ".replay";
/// Rows in a table for people, unless `--limit` says otherwise: it is drawn in memory.
const TABLE_ROWS: u64 = 1_000;

pub async fn run(arguments: ReplayArgs, config: &Checked) -> Result<(), Error> {
    if !arguments.diff {
        let reason = "`replay` only compares: say `trunklog replay --diff`";
        return Err(Error::Usage(format!("{reason}; to publish what the messages fold to, `trunklog rebuild`")));
    }
    let archive = open(config).await?;
    // Declared after the archive, so that it goes before the lock does.
    let scratch = Scratch::make(config.data_dir.join(SCRATCH))?;
    let outcome = tokio::select! {
        outcome = compare(&archive, &scratch.0, &arguments) => outcome,
        error = interrupted() => Err(error),
    };
    // Also ends the folding that an interrupt has left behind.
    let closed = archive.close().await;
    drop(scratch);
    let summary = outcome?;
    closed?;
    if summary.differs() { Err(Error::Differs(summary.verdict())) } else { Ok(()) }
}

/// Opens the archive for reading alone: nothing is folded into its tables with the decoder of this process.
async fn open(config: &Checked) -> Result<Partitions, Error> {
    let directory = config.data_dir.display();
    if !config.data_dir.join("log").is_dir() {
        return Err(Error::Usage(format!("there is no archive in `{directory}`; see --data-dir")));
    }
    let held = || {
        let reason = "stop it first, for `replay` reads the messages with this binary and its configuration";
        Error::Usage(format!("conflict: another process has `{directory}`; {reason}"))
    };
    if socket::find(&config.data_dir).await.is_some() {
        return Err(held());
    }
    let decoder = trunklog_ingest::adapters(SharedSettings::new(config.settings.clone()));
    let reading = ArchiveConfig { read_only: true, ..config.archive.clone() };
    Partitions::open(reading, decoder).await.map_err(|error| match error {
        StorageError::Conflict(_) => held(),
        error => error.into(),
    })
}

/// Folds again and prints what differs.
async fn compare(archive: &Partitions, scratch: &Path, arguments: &ReplayArgs) -> Result<Summary, Error> {
    let snapshot = archive.snapshot().await?;
    let progress = Progress::start("folding every message again");
    let mut refolded = Vec::new();
    for (partition, one) in archive.each().iter().enumerate() {
        let directory = scratch.join(format!("tables/{partition}"));
        refolded.push(one.refold(&directory, progress.counter("folding again: messages")).await?);
    }
    progress.done("folded every message again");

    let progress = Progress::start("comparing every row");
    let spill = scratch.join("spill");
    std::fs::create_dir_all(&spill).map_err(Error::io(format!("making `{}`", spill.display())))?;
    let mut all = Vec::new();
    for (before, after) in snapshot.all().iter().zip(&refolded) {
        all.push(before.differences(after, &spill).await?);
    }
    progress.done("compared every row");

    let default = if output::is_terminal() { Format::Table } else { Format::Csv };
    let format = arguments.format.unwrap_or(default);
    let limit = arguments.limit.unwrap_or(if format == Format::Table { TABLE_ROWS } else { u64::MAX });
    let mut listing = Listing::start(format, limit)?;
    let sum = |of: fn(&Differences) -> Compared| {
        let each = all.iter().map(of);
        each.fold(Compared::default(), |sum, one| Compared {
            before: sum.before + one.before,
            after: sum.after + one.after,
        })
    };
    let messages = refolded.iter().map(|refolded| refolded.messages).sum();
    let mut summary = Summary::new(messages, sum(|one| one.calls), sum(|one| one.recordings));
    for mut differences in all {
        while let Some(difference) = differences.rows.try_next().await? {
            summary.count(&difference);
            listing.add(&difference)?;
        }
    }
    listing.finish(&summary)?;
    Ok(summary)
}

/// Returns when somebody wants an end.
async fn interrupted() -> Error {
    let listen = |kind| signal(kind).map_err(Error::io("watching for signals"));
    let (mut terminate, mut interrupt) = match (listen(SignalKind::terminate()), listen(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return error,
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Error::Interrupted
}

/// A directory that is gone afterwards, however this ends; what a killed process left is removed by the next.
struct Scratch(PathBuf);

impl Scratch {
    fn make(directory: PathBuf) -> Result<Scratch, Error> {
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { context: format!("removing `{}`", directory.display()), source: error });
            }
            _ => {}
        }
        std::fs::create_dir_all(&directory).map_err(Error::io(format!("making `{}`", directory.display())))?;
        Ok(Scratch(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Folding that was broken off may still be writing its last file.
        for _ in 0..20 {
            match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => return,
            }
        }
        output::error_line(&format!("`{}` could not be removed; the next replay will", self.0.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_begins_empty_and_ends_gone() {
        let path = std::env::temp_dir().join(format!("trunklog-replay-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(path.join("left/over")).expect("made");
        let scratch = Scratch::make(path.clone()).expect("made");
        assert_eq!(std::fs::read_dir(&path).expect("there").count(), 0);
        std::fs::write(path.join("file"), "x").expect("written");
        drop(scratch);
        assert!(!path.exists());
    }
}
