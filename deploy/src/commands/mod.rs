//! The commands, one file each; this file reads like the manual.

mod config;
mod flush;
mod keys;
mod progress;
mod rebuild;
mod replay;
mod sql;
mod tenants;
mod verify;

use crate::cli::{Cli, Command, Place};
use crate::config::Checked;
use crate::error::Error;
use crate::server::{self, runtimes, shared_settings, socket};
use crate::{logging, simulate};

/// Does what was asked.
pub fn run(cli: Cli) -> Result<(), Error> {
    use_ring();
    let place = cli.place;
    match cli.command {
        Command::Serve(arguments) => {
            logging::start("info");
            let mut overrides = place.overrides();
            arguments.bind.apply(&mut overrides);
            server::run(&overrides, arguments.demo)
        }
        Command::Config(bind) => {
            logging::start("warn");
            let mut overrides = place.overrides();
            bind.apply(&mut overrides);
            wait(config::run(&overrides))
        }
        Command::Simulate(arguments) => wait(async { Ok(simulate::run(arguments).await?) }),
        Command::Sql(arguments) => with_config(&place, async |config| sql::run(arguments, config).await),
        Command::Flush(remote) => with_config(&place, async |config| flush::run(&remote, config).await),
        Command::Rebuild(remote) => {
            wait(async {
                let mut config = loaded(&place).await?;
                // Without a running server the calls are not even read first: they may be what is damaged.
                config.archive.ignore_projections = true;
                rebuild::run(&remote, &config).await
            })
        }
        Command::Replay(arguments) => with_config(&place, async |config| replay::run(arguments, config).await),
        Command::Verify(arguments) => with_config(&place, async |config| verify::run(arguments, config).await),
        Command::Keys(arguments) => with_config(&place, async |config| keys::run(arguments.command, config).await),
        Command::Tenants(remote) => with_config(&place, async |config| tenants::run(&remote, config).await),
    }
}

/// TLS by one implementation, whoever asks first.
fn use_ring() {
    // An error only says that another provider was installed before, and then that one is used.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

fn with_config(place: &Place, command: impl AsyncFnOnce(&Checked) -> Result<(), Error>) -> Result<(), Error> {
    wait(async { command(&loaded(place).await?).await })
}

/// The configuration. A server that runs here knows what nodes share; else this process must.
async fn loaded(place: &Place) -> Result<Checked, Error> {
    let overrides = place.overrides();
    let config = overrides.load()?;
    if socket::find(&config.data_dir).await.is_some() {
        return Ok(config);
    }
    Ok(shared_settings::load(&overrides).await?.0)
}

fn wait(command: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    logging::start("warn");
    let runtime = runtimes::serving()?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}
