//! `trunklog`: the archive of calls and recordings, as one binary.

mod cli;
mod client;
mod commands;
mod config;
mod error;
mod logging;
mod output;
mod server;
mod simulate;

/// Many short-lived allocations on many threads: mimalloc gives memory back, after a while, and keeps the tail latency
/// flat.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    trunklog_storage::allocator::keep_pages();
    match commands::run(cli::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
