//! `trunklog config`: every value in force, in the form of the file, with where it came from.

use crate::config::Overrides;
use crate::error::Error;
use crate::output;
use crate::server::shared_settings;

pub async fn run(overrides: &Overrides) -> Result<(), Error> {
    let config = match shared_settings::load(overrides).await {
        Ok((config, ..)) => config,
        Err(error) => {
            // What is wrong in a layer of this node's own is told at once.
            let config = overrides.load()?;
            tracing::warn!(%error, "the settings that nodes share are not shown: they cannot be read");
            config
        }
    };
    for (key, value, origin) in config.shown() {
        output::line(&format!("{key} = {value}  # {origin}"));
    }
    Ok(())
}
