//! Folds what the log of a data directory holds, as `trunklog` does, and says what it took: time, memory, bytes.
//!
//! ```text
//! fold_bench fold DIR    opens the archive (which reads the log's tail), folds and compacts everything, closes it
//! fold_bench open DIR    opens it, takes a snapshot and says so at once: how long a restart takes
//! ```
//!
//! Prints one line of JSON; progress goes to stderr. What the tables then hold is for others to look at.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use trunklog_ingest::{SharedSettings, adapters};
use trunklog_storage::archive::{Archive, ArchiveConfig};
use trunklog_tests::load::ProcessFigures;

/// That of `trunklog` itself, or memory could not be compared.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const REPORT_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Folds the log of a data directory and says what it took.
#[derive(Debug, Parser)]
#[command(name = "fold_bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fold and compact everything
    Fold {
        /// Data directory
        data_dir: PathBuf,
    },
    /// Open it and say when a snapshot can be read
    Open {
        /// Data directory
        data_dir: PathBuf,
    },
}

/// A line on stderr every few seconds, from a thread of its own, until it is dropped.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(data_dir: &Path, began: Instant) -> std::io::Result<Watch> {
        let (stop, data_dir) = (Arc::new(AtomicBool::new(false)), data_dir.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut reported = Instant::now();
            while !stopped.load(Ordering::Acquire) {
                std::thread::sleep(LOOK_EVERY);
                if reported.elapsed() >= REPORT_EVERY {
                    reported = Instant::now();
                    tell(&data_dir, began);
                }
            }
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A watch that broke off costs progress lines, nothing else.
            let _ = thread.join();
        }
    }
}

fn tell(data_dir: &Path, began: Instant) {
    const MIB: u64 = 1 << 20;
    let Ok(figures) = ProcessFigures::now() else { return };
    let (log, tables) = (disk_bytes(&data_dir.join("log")), disk_bytes(&data_dir.join("tables")));
    // Nobody may be reading it.
    let _ = writeln!(
        std::io::stderr(),
        "fold_bench: {:.0} s, resident {} MiB (at most {}), written {} MiB, log {} MiB, tables {} MiB",
        began.elapsed().as_secs_f64(),
        figures.resident / MIB,
        figures.highest_resident / MIB,
        figures.written / MIB,
        log / MIB,
        tables / MIB
    );
}

/// Bytes of all files below; files that vanish meanwhile do not count.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(file) if file.is_dir() => disk_bytes(&entry.path()),
        Ok(file) => file.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

async fn opened(data_dir: &Path) -> Result<Archive, Failure> {
    Ok(Archive::open(ArchiveConfig::new(data_dir), adapters(SharedSettings::default())).await?)
}

/// The offset that the next message will get: how many there ever were.
fn next_offset(archive: &Archive) -> u64 {
    archive.visible().map_or(0, |offset| offset.0 + 1)
}

async fn fold(data_dir: &Path) -> Result<Value, Failure> {
    let began = Instant::now();
    let watch = Watch::start(data_dir, began)?;
    let archive = opened(data_dir).await?;
    let open_seconds = began.elapsed().as_secs_f64();
    let messages = next_offset(&archive);
    archive.flush().await?;
    let seconds = began.elapsed().as_secs_f64();
    let status = archive.status();
    let figures = ProcessFigures::now()?;
    archive.close().await?;
    drop(watch);
    let mut report = figures.json();
    report["next_offset"] = json!(messages);
    report["open_seconds"] = json!(open_seconds);
    report["seconds"] = json!(seconds);
    report["close_seconds"] = json!(began.elapsed().as_secs_f64() - seconds);
    report["folded"] = json!(status.folded.map(|offset| offset.0));
    report["tail_messages"] = json!(status.tail_messages);
    report["events_bytes"] = json!(disk_bytes(&data_dir.join("tables/events")));
    report["calls_bytes"] = json!(disk_bytes(&data_dir.join("tables/calls")));
    report["data_bytes"] = json!(disk_bytes(data_dir));
    Ok(report)
}

async fn open(data_dir: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    let archive = opened(data_dir).await?;
    let open_seconds = began.elapsed().as_secs_f64();
    let snapshot = archive.snapshot().await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut report = ProcessFigures::now()?.json();
    report["open_seconds"] = json!(open_seconds);
    report["seconds"] = json!(seconds);
    report["offset"] = json!(snapshot.offset.map(|offset| offset.0));
    // Whoever waits for it takes the time when the line comes.
    say(&report)?;
    drop(snapshot);
    archive.close().await?;
    Ok(())
}

fn say(report: &Value) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{report}")?;
    output.flush()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    trunklog_storage::allocator::keep_pages();
    match Arguments::parse().command {
        Command::Fold { data_dir } => say(&fold(&data_dir).await?)?,
        Command::Open { data_dir } => open(&data_dir).await?,
    }
    Ok(())
}
