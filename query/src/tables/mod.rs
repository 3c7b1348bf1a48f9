//! The tables as SQL shows them to one principal, over one snapshot.
//!
//! `calls`, `events` and `system_events` are [`archive::ArchiveTable`]s: stored rows and tail in one scan, with the
//! tenant filter inside. `legs` and `queue_visits` are views over `calls`.

mod archive;
mod barrier;
mod catalog;
mod functions;
mod pushdown;
mod reports;
mod views;

pub(crate) use catalog::ArchiveSchema;
pub(crate) use functions::silence_allowed;
pub(crate) use reports::register as register_reports;
