//! Two runtimes: one that serves, and one of lower priority for SQL, so that a heavy query never costs a sender time.

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// Niceness of background threads.
const BACKGROUND_PRIORITY: i32 = 10;

/// Threads for the short work on disk that requests wait for. Syncs that wait together share a journal commit, so more
/// would not be faster; each has a heap and a stack, which outweigh the buffers of the upload that it syncs.
const DISK_THREADS: usize = 64;

/// For requests, and for the archive's own tasks.
pub fn serving() -> Result<Runtime, Error> {
    build(Builder::new_multi_thread().thread_name("serving").max_blocking_threads(DISK_THREADS))
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
