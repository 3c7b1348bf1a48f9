//! Two runtimes: one that serves, and one of lower priority for SQL, so that a heavy query never costs a sender time.

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// Niceness of background threads.
const BACKGROUND_PRIORITY: i32 = 10;

/// For requests, and for the archive's own tasks.
pub fn serving() -> Result<Runtime, Error> {
    build(Builder::new_multi_thread().thread_name("serving"))
}

/// For SQL and other work that may take all cores.
pub fn background() -> Result<Runtime, Error> {
    build(Builder::new_multi_thread().thread_name("background").on_thread_start(|| {
        // Absolute, not relative: threads of the blocking pool inherit the niceness of the worker that made them.
        if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_PRIORITY) {
            tracing::debug!(%error, "background threads keep normal priority");
        }
    }))
}

fn build(builder: &mut Builder) -> Result<Runtime, Error> {
    builder.enable_all().build().map_err(Error::io("starting threads"))
}
