//! Progress of long work: a spinner with the time on a terminal, plain lines elsewhere; always on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Work under way.
pub struct Progress {
    spinner: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    /// Says what begins.
    pub fn start(what: &'static str) -> Progress {
        let started = Instant::now();
        if !std::io::stderr().is_terminal() {
            output::error_line(&format!("{what} …"));
            return Progress { spinner: None, started };
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        let spinner = ProgressBar::new_spinner().with_message(what);
        let spinner = if let Ok(style) = style { spinner.with_style(style) } else { spinner };
        spinner.enable_steady_tick(Duration::from_millis(120));
        Progress { spinner: Some(spinner), started }
    }

    /// What shows a count behind these words, from any thread; only a terminal sees it.
    pub fn counter(&self, what: &'static str) -> impl Fn(u64) + Send + Sync + 'static + use<> {
        let spinner = self.spinner.clone();
        move |count| {
            if let Some(spinner) = &spinner {
                spinner.set_message(format!("{what} {count}"));
            }
        }
    }

    /// Says that it is over, and how long it took.
    pub fn done(self, what: &str) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
        output::error_line(&format!("{what} in {:.1} s", self.started.elapsed().as_secs_f64()));
    }
}
