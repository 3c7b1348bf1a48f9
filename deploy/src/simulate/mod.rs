//! `trunklog simulate`: realistic traffic of all five sources against a running server, and the truth about it.
//!
//! model (which calls) → one module per source (messages and truth) → schedule (order and faults) → send.

mod audio;
mod demo;
mod history;
mod kazoo;
mod lanes;
mod model;
mod placetel;
mod planfix;
mod progress;
mod schedule;
mod send;
#[cfg(test)]
mod tests;
mod truth;
mod voispeed;
mod wire;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tokio_util::sync::CancellationToken;
use trunklog_storage::event::{Source, now, parse_time};

pub use demo::demo;
use lanes::Pace;
use model::{Call, Planner, Settings};
use progress::Progress;
use schedule::{Delivery, Faults, Schedule};
use send::{SendError, Sender};
use wire::{Message, Script};

/// Connections at once when nothing else is said.
const CONCURRENCY: usize = 16;
/// The longest conversation, in seconds.
const LONGEST_TALK: i64 = 4 * 3600;

/// Fraction of answered calls that are recorded when nothing else is said.
const RECORDED: f64 = 0.6;

/// Flags of `trunklog simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// The archive, such as http://127.0.0.1:8080; several nodes of it separated by commas
    #[arg(long)]
    pub url: String,
    /// A key with `ingest:*`
    #[arg(long, env = "TRUNKLOG_KEY", hide_env_values = true)]
    pub key: Secret,
    /// How many calls
    #[arg(long, default_value_t = 1000)]
    pub calls: u64,
    /// Messages per second; 0 is as fast as they are acknowledged
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// The same seed gives the same calls
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Sources that take part, separated by commas (all)
    #[arg(long, value_delimiter = ',', value_parser = source)]
    pub sources: Vec<Source>,
    /// Fraction of messages sent twice
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub duplicates: f64,
    /// Fraction of messages held back until everything else is sent
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub late: f64,
    /// Send the held-back messages only when this file exists
    #[arg(long)]
    pub late_after: Option<PathBuf>,
    /// Fraction of messages sent after later ones
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub out_of_order: f64,
    /// Fraction of calls whose messages are withheld
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub lost: f64,
    /// Fraction of answered kazoo and virtualpbx calls whose recording is uploaded; none with --history
    #[arg(long, default_value_t = RECORDED, value_parser = fraction)]
    pub recorded: f64,
    /// Send everything in any order
    #[arg(long)]
    pub shuffle: bool,
    /// Spread over so many past days and load in bulk
    #[arg(long, value_name = "DAYS")]
    pub history: Option<u32>,
    /// Where to write what the archive must show: NDJSON, one object per call
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Connections at once
    #[arg(long)]
    pub concurrency: Option<usize>,
    /// Give up after so many seconds without any acknowledgement
    #[arg(long, default_value_t = 120)]
    pub give_up_after: u64,
    /// The time at which the last calls end (RFC 3339); else the past full hour
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<i64>,
    /// The zone of VOIspeed's local times, as configured for the tenant
    #[arg(long, default_value = "Europe/Rome", value_parser = zone)]
    pub time_zone: Tz,
}

/// A key that shows up in no debug output.
#[derive(Clone)]
pub struct Secret(String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Secret, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Why a run did not reach its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// A message was not acknowledged.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The truth or the last line could not be written.
    #[error("cannot write {what}")]
    Write {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The archive answered, but did not count every line.
    #[error("not every message was acknowledged")]
    Incomplete,
    /// The plan could not be made.
    #[error("the plan of calls could not be made")]
    Plan(#[source] tokio::task::JoinError),
}

/// Runs a simulation; `Ok` only if every message was acknowledged.
pub async fn run(args: SimulateArgs) -> Result<(), SimulateError> {
    let (settings, faults) = (settings(&args), faults(&args));
    let (calls, seed) = (args.calls, args.seed);
    let planning = tokio::task::spawn_blocking(move || plan(settings, calls, faults));
    let schedule = planning.await.map_err(SimulateError::Plan)?;
    if let Some(path) = &args.truth {
        truth::write(path, &schedule.truths).map_err(|source| writing(path.display().to_string(), source))?;
    }
    let Schedule { messages, deliveries, late, .. } = schedule;
    let lines = |delivery: &Delivery| lines_of(&messages[delivery.message], args.history.is_some());
    let progress = Arc::new(Progress::shown(deliveries.iter().chain(&late).map(lines).sum()));
    let give_up = Duration::from_secs(args.give_up_after);
    let sender = Sender::new(&args.url, &args.key.0, give_up, Arc::clone(&progress), CancellationToken::new())?;
    let run = Run { sender: Arc::new(sender), messages: Arc::new(messages), seed, args: &args };
    let outcome = tokio::select! {
        outcome = run.all(&deliveries, &late) => outcome,
        () = progress.report() => Ok(()),
    };
    say(&progress.summary())?;
    outcome?;
    if progress.is_complete() { Ok(()) } else { Err(SimulateError::Incomplete) }
}

/// What both phases of a run need.
struct Run<'a> {
    sender: Arc<Sender>,
    messages: Arc<Vec<Message>>,
    seed: u64,
    args: &'a SimulateArgs,
}

impl Run<'_> {
    async fn all(&self, deliveries: &[Delivery], late: &[Delivery]) -> Result<(), SimulateError> {
        self.send(deliveries).await?;
        if late.is_empty() {
            return Ok(());
        }
        say(&format!("late: sending {} held-back messages", late.len()))?;
        if let Some(path) = &self.args.late_after {
            appears(path).await;
        }
        Ok(self.send(late).await?)
    }

    async fn send(&self, deliveries: &[Delivery]) -> Result<(), SendError> {
        let Run { sender, messages, seed, args } = self;
        let pace = Pace::new(args.rate);
        if args.history.is_some() {
            // One lane keeps the order of the log.
            lanes::bulk(sender, *seed, messages, deliveries, pace, args.concurrency.unwrap_or(1)).await
        } else {
            lanes::live(sender, messages, deliveries, pace, args.concurrency.unwrap_or(CONCURRENCY)).await
        }
    }
}

async fn appears(path: &Path) {
    while !tokio::fs::try_exists(path).await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn lines_of(message: &Message, bulk: bool) -> u64 {
    if bulk { lanes::lines_of(message) as u64 } else { 1 }
}

fn settings(args: &SimulateArgs) -> Settings {
    let until = args.at.unwrap_or_else(|| now().div_euclid(3_600_000_000) * 3600);
    Settings {
        seed: args.seed,
        now: until,
        days: args.history.unwrap_or(1),
        sources: args.sources.clone(),
        zone: args.time_zone,
        without_ids: false,
        longest_talk: LONGEST_TALK,
        // Past calls are loaded as events, and no audio can be loaded that way.
        recorded: if args.history.is_some() { 0.0 } else { args.recorded },
    }
}

fn faults(args: &SimulateArgs) -> Faults {
    let SimulateArgs { duplicates, late, out_of_order, lost, shuffle, .. } = *args;
    Faults { duplicates, late, out_of_order, lost, shuffle }
}

/// Plans the calls, plays them on paper and lays out their messages.
fn plan(settings: Settings, calls: u64, faults: Faults) -> Schedule {
    let seed = settings.seed;
    let planner = Planner::new(settings);
    let scripts = (0..calls).map(|index| play(planner.call(index))).collect();
    Schedule::new(seed, scripts, faults)
}

/// Turns one call into what its source sends, and what is true about it.
fn play(mut call: Call) -> Script {
    match call.source {
        Source::Kazoo | Source::Virtualpbx => kazoo::play(&mut call),
        Source::Placetel => placetel::play(&mut call),
        Source::Voispeed => voispeed::play(&mut call),
        Source::Planfix => planfix::play(&mut call),
        Source::Trunklog => Script::new(call.index),
    }
}

fn say(line: &str) -> Result<(), SimulateError> {
    let mut out = std::io::stdout();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|source| writing("standard output".to_owned(), source))
}

fn writing(what: String, source: std::io::Error) -> SimulateError {
    SimulateError::Write { what, source }
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("`{text}` is not between 0 and 1")) }
}

fn source(text: &str) -> Result<Source, String> {
    let known = Source::parse(text).filter(|source| Source::PBX.contains(source));
    known.ok_or_else(|| format!("`{text}` is none of kazoo, virtualpbx, placetel, voispeed, planfix"))
}

fn time(text: &str) -> Result<i64, String> {
    let micros = parse_time(text).ok_or_else(|| format!("`{text}` is not an RFC 3339 time"))?;
    Ok(micros.div_euclid(1_000_000))
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time zone"))
}
