//! `trunklog config`: every value in force, in the form of the file, with where it came from.

use crate::cli::{BindArgs, Place};
use crate::error::Error;
use crate::output;

pub fn run(place: &Place, bind: &BindArgs) -> Result<(), Error> {
    let mut overrides = place.overrides();
    bind.apply(&mut overrides);
    let config = overrides.load()?;
    for (key, value, origin) in config.shown() {
        output::line(&format!("{key} = {value}  # {origin}"));
    }
    Ok(())
}
