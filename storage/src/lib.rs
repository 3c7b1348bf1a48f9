//! trunklog's storage: everything that must survive a crash. It knows no HTTP and no telephone system.
//!
//! The map: [`event`] (a message as sent) → [`log`] (durable, in order) → [`fact`] (what a message means) →
//! [`call`], [`recording`] (semilattices) → [`lake`] (Delta tables), and [`archive`], which is all of it as one thing; [`partitions`] are the archives of a log that has several.
//! The bytes of recordings go beside it, into [`media`].
//!
//! The two laws: an acknowledged message is on disk; an answer is read from one snapshot.

pub mod allocator;
pub mod archive;
pub mod bucket;
pub mod call;
mod durable_file;
pub mod error;
pub mod event;
pub mod fact;
#[cfg(test)]
mod faults;
mod index;
pub mod keys;
mod lake;
mod lease;
pub mod linker;
pub mod links;
pub mod log;
pub mod media;
mod objects;
pub mod partitions;
pub mod position;
pub mod priority;
pub mod recording;
pub mod rows;
pub mod schema;
mod shared_file;
pub mod sorted_map;
mod threads;

pub use error::Error;
pub(crate) use log::sync_directory as log_sync_directory;
