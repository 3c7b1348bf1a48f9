//! Writes the load of benchmarks: straight into the log of a data directory, and as NDJSON for other programs.
//!
//! Prints one line of JSON with what was written, so that whoever folds it can be checked; progress goes to stderr.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use trunklog_storage::event::{Micros, parse_time};
use trunklog_tests::load::{Deliveries, Delivery, LogWriter, Part, Settings, Tally, event, placetel_body, write_line};

/// Many short-lived allocations, as in `trunklog` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const BUFFER_BYTES: usize = 1 << 20;
const DAY: Micros = 24 * 3600 * 1_000_000;
/// Messages between two looks at the clock.
const LOOK_EVERY: u64 = 65_536;
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Which messages are made.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartName {
    All,
    Main,
    Late,
}

/// Writes a month of calls as five telephone systems report them.
#[derive(Debug, Parser)]
#[command(name = "generate")]
struct Arguments {
    /// Number of calls
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Days that they are spread over (VOIspeed's local times are those of summer)
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=50))]
    days: u32,
    /// Midnight UTC before the first call (RFC 3339)
    #[arg(long, default_value = "2026-09-01T00:00:00Z", value_parser = midnight)]
    from: Micros,
    /// Same seed, same calls
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// All messages, those that are not late (main), or only those (late)
    #[arg(long, value_enum, default_value = "all")]
    part: PartName,
    /// Append to the log of this data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write NDJSON to this file
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Write the key of each message's call to this file, one per line
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Write Placetel's forms to this file, one per line, of every call
    #[arg(long, value_name = "FILE")]
    forms: Option<PathBuf>,
}

fn midnight(text: &str) -> Result<Micros, String> {
    let at = parse_time(text).ok_or_else(|| format!("`{text}` is no time (RFC 3339)"))?;
    if at.rem_euclid(DAY) == 0 { Ok(at) } else { Err(format!("`{text}` is no midnight in UTC")) }
}

/// Text files that are written beside the log.
struct Files {
    ndjson: Option<BufWriter<File>>,
    keys: Option<BufWriter<File>>,
    forms: Option<BufWriter<File>>,
    ndjson_bytes: u64,
    line: String,
}

impl Files {
    fn create(arguments: &Arguments) -> std::io::Result<Files> {
        let create = |path: &Option<PathBuf>| path.as_deref().map(created).transpose();
        Ok(Files {
            ndjson: create(&arguments.ndjson)?,
            keys: create(&arguments.keys)?,
            forms: create(&arguments.forms)?,
            ndjson_bytes: 0,
            line: String::new(),
        })
    }

    fn write(&mut self, delivery: &Delivery) -> std::io::Result<()> {
        if let Some(file) = &mut self.ndjson {
            self.line.clear();
            write_line(delivery, &mut self.line);
            file.write_all(self.line.as_bytes())?;
            self.ndjson_bytes += self.line.len() as u64;
        }
        if let Some(file) = &mut self.keys {
            writeln!(file, "{}", event(delivery).subject.unwrap_or_default())?;
        }
        if let Some(file) = &mut self.forms
            && let Some(form) = placetel_body(&delivery.call, delivery.step)
        {
            writeln!(file, "{form}")?;
        }
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        [&mut self.ndjson, &mut self.keys, &mut self.forms].into_iter().flatten().try_for_each(|file| file.flush())
    }
}

fn created(path: &Path) -> std::io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?))
}

/// A line on stderr every few seconds.
struct Progress {
    began: Instant,
    reported: Instant,
}

impl Progress {
    fn new() -> Progress {
        Progress { began: Instant::now(), reported: Instant::now() }
    }

    fn look(&mut self, settings: &Settings, tally: &Tally, under_way: usize) -> std::io::Result<()> {
        if !tally.messages.is_multiple_of(LOOK_EVERY) || self.reported.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        self.reported = Instant::now();
        let rate = tally.messages as f64 / self.began.elapsed().as_secs_f64();
        let Tally { messages, calls, .. } = tally;
        let wanted = settings.calls;
        writeln!(
            std::io::stderr(),
            "generate: {messages} messages, {calls} of {wanted} calls, {rate:.0} messages/s, {under_way} under way"
        )
    }
}

async fn run(arguments: Arguments) -> Result<Value, Failure> {
    let Arguments { calls, days, from, seed, part, .. } = arguments;
    let settings = Settings { calls, days, from, seed };
    let part = match part {
        PartName::All => Part::All,
        PartName::Main => Part::Main,
        PartName::Late => Part::Late,
    };
    let mut files = Files::create(&arguments)?;
    let mut log = arguments.data_dir.as_deref().map(LogWriter::open).transpose()?;
    let mut progress = Progress::new();
    let mut tally = Tally::default();
    let mut deliveries = Deliveries::new(settings, part);
    while let Some(delivery) = deliveries.next() {
        if let Some(log) = &mut log {
            log.push(&event(&delivery)).await?;
        }
        files.write(&delivery)?;
        tally.add(&delivery);
        progress.look(&settings, &tally, deliveries.under_way())?;
    }
    files.finish()?;
    let log_bytes = log.as_ref().map(LogWriter::bytes);
    if let Some(log) = log {
        log.finish().await?;
    }
    let seconds = progress.began.elapsed().as_secs_f64();
    let mut report = tally.json();
    report["seconds"] = json!(seconds);
    report["messages_per_second"] = json!(tally.messages as f64 / seconds);
    report["log_bytes"] = json!(log_bytes);
    report["ndjson_bytes"] = json!(files.ndjson.is_some().then_some(files.ndjson_bytes));
    Ok(report)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let report = run(Arguments::parse()).await?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
