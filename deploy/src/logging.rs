//! Logs: to standard error, for people on a terminal and as JSON elsewhere. `RUST_LOG` filters; by default the libraries only warn.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; `default` is the level of trunklog's own crates when `RUST_LOG` says nothing.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "warn,trunklog={default},trunklog_storage={default},trunklog_ingest={default},trunklog_query={default}"
        ))
    });
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) keeps the first subscriber.
    let _already_started = if std::io::stderr().is_terminal() {
        subscriber.with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
}
