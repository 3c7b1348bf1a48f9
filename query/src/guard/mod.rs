//! What keeps a query harmless: read-only plans, a bounded queue, bounded memory, no unbounded functions.

mod functions;
mod gate;
mod growth;
mod memory;
mod plan;

pub(crate) use functions::scalar_functions;
pub(crate) use gate::{Gate, Permit};
pub(crate) use memory::Environment;
pub(crate) use plan::plan;
