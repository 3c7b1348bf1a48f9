//! How far a run is: a bar on a terminal, plain lines elsewhere (both on standard error), and the counts at the end.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const BAR: &str = "{bar:30} {pos}/{len} messages, {per_sec}, ETA {eta}";
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Counts of a run.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    started: Instant,
    bar: ProgressBar,
    plain: bool,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    duplicates: AtomicU64,
    retries: AtomicU64,
}

impl Progress {
    /// Shows progress towards `total` messages.
    pub fn shown(total: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        Progress::with(total, bar, !terminal)
    }

    /// Counts in silence.
    pub fn hidden() -> Progress {
        Progress::with(0, ProgressBar::hidden(), false)
    }

    fn with(total: u64, bar: ProgressBar, plain: bool) -> Progress {
        let zero = || AtomicU64::new(0);
        let started = Instant::now();
        Progress { total, started, bar, plain, sent: zero(), acknowledged: zero(), duplicates: zero(), retries: zero() }
    }

    /// So many messages go out for the first time, or again on purpose.
    pub fn sent(&self, count: u64, duplicates: u64) {
        self.sent.fetch_add(count, Relaxed);
        self.duplicates.fetch_add(duplicates, Relaxed);
    }

    /// So many were acknowledged.
    pub fn acknowledged(&self, count: u64) {
        self.acknowledged.fetch_add(count, Relaxed);
        self.bar.inc(count);
    }

    /// A request had to be repeated.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Whether everything that was to be sent is acknowledged.
    pub fn is_complete(&self) -> bool {
        self.acknowledged.load(Relaxed) == self.total
    }

    /// Prints plain lines from time to time, for ever; does nothing on a terminal.
    pub async fn report(&self) {
        if !self.plain {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(PLAIN_EVERY).await;
            let done = self.acknowledged.load(Relaxed);
            let rate = done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
            let left = self.total.saturating_sub(done) as f64 / rate.max(0.001);
            let line = format!("simulate: {done}/{} messages, {rate:.0}/s, ETA {left:.0} s", self.total);
            // A closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Takes the bar away and gives the last line.
    pub fn summary(&self) -> String {
        self.bar.finish_and_clear();
        format!(
            "{} messages sent, {} acknowledged, {} duplicates sent, {} retries, {:.1} seconds",
            self.sent.load(Relaxed),
            self.acknowledged.load(Relaxed),
            self.duplicates.load(Relaxed),
            self.retries.load(Relaxed),
            self.started.elapsed().as_secs_f64(),
        )
    }
}
