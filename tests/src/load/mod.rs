//! Load for benchmarks: a month of calls as five telephone systems report them, in the order in which the messages
//! arrive, as a pure function of the settings. Nothing is kept but the messages that are still under way, so that any
//! number of calls takes the same memory.
//!
//! [`Calls`] (by start) → [`Deliveries`] (by arrival, with duplicates and late ones) → [`event`] (as the archive
//! stores it) and [`write_line`] (for programs that read NDJSON).

mod calls;
mod deliveries;
mod histogram;
mod log;
mod process;
mod random;
mod render;
mod tally;

pub use calls::{Call, Calls, Outcome, Settings};
pub use deliveries::{Deliveries, Delivery, Part, Step};
pub use histogram::Histogram;
pub use log::LogWriter;
pub use process::ProcessFigures;
pub use random::Random;
pub use render::{event, placetel_body, write_line};
pub use tally::Tally;

/// The tenant of all calls.
pub const TENANT: &str = "acme";
