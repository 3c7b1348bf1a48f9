//! What can go wrong in a command, and with which status the process then ends.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The arguments cannot be obeyed.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Storage(#[from] trunklog_storage::error::Error),
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    /// The server could not be reached or broke off.
    #[error("cannot talk to the server: {}", with_causes(.0))]
    Http(#[from] reqwest::Error),
    /// The server refused.
    #[error("{title} ({status}): {detail}")]
    Refused { status: u16, title: String, detail: String },
    #[error("the server answered something else than expected: {0}")]
    Answer(String),
    #[error("another process holds {} but does not answer on its socket; use --url and --key, or stop it", .0.display())]
    Held(PathBuf),
    /// `replay --diff` found what would change: no failure, but not the status of success.
    #[error("{0}")]
    Differs(String),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
    #[error("{}", with_causes(.0))]
    Simulate(#[from] crate::simulate::SimulateError),
}

impl Error {
    /// Adds what was being done to an I/O error.
    pub fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| Error::Io { context, source }
    }

    /// Says what is wrong on standard error, and gives the exit status: 2 for what the caller must change.
    pub fn report(&self) -> ExitCode {
        match self {
            Error::Differs(verdict) => crate::output::error_line(verdict),
            _ => crate::output::error_line(&format!("error: {self}")),
        }
        match self {
            Error::Config(_) | Error::Usage(_) => ExitCode::from(2),
            Error::Interrupted => ExitCode::from(130),
            _ => ExitCode::FAILURE,
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
