//! Everything that is read from trunklog: SQL over stored tables and tail as one snapshot, call lists, timelines.
//!
//! [`QueryEngine`] takes a snapshot of the archive and runs read-only SQL over the tables that one principal may see
//! ([`tables`]), within limits ([`guard`]), on a runtime of its own. [`router`] serves it over HTTP ([`rest`]).

pub mod engine;
pub mod error;
pub mod format;
mod guard;
mod moment;
mod parameters;
mod pins;
mod reports;
mod rest;
mod row;
mod session;
mod tables;
mod workers;

pub use engine::{Access, QueryEngine, QueryLimits};
pub use error::{Limit, QueryError};
pub use moment::{AsOf, Moment};
pub use rest::{QueryState, recordings, router};
pub use session::{Collected, Running, Session};
pub use workers::Workers;
