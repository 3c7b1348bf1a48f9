//! Logs: to standard error, for people on a terminal and as JSON elsewhere. `RUST_LOG` filters; by default the libraries only warn.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;

/// Two warnings per commit: that binary columns have no statistics, which is as it shall be.
const NOISE: &str = "deltalake_core::writer::stats=error";

/// Starts logging; `default` is the level of trunklog's own crates when `RUST_LOG` says nothing.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "warn,{NOISE},trunklog={default},trunklog_storage={default},trunklog_ingest={default},trunklog_query={default}"
        ))
    });
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) keeps the first subscriber.
    let _already_started = if std::io::stderr().is_terminal() {
        subscriber.with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    std::panic::set_hook(Box::new(panicked));
}

/// A panic is a line of the log as everything else is; on standard error as it stands only if nobody logs errors.
fn panicked(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let cause = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(cause, location, "panicked");
    } else {
        crate::output::error_line(&format!("panicked at {location}: {cause}"));
    }
}
