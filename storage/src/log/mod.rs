//! The durable log: the truth in flight.
//!
//! ```text
//!   first                                   durable end
//!     |                                          |
//!     v                                          v
//!  [ trimmed ][ o  o  o  o  o  o  o  o  o  o  o ][ waiting appends ]
//!              `-- readable ------------------'    not yet acknowledged
//! ```
//!
//! The law: if [`Log::append`] returns, the records are on disk (or acknowledged by every replica) and stay readable
//! until they are trimmed, across any crash. Offsets rise in append order; on the embedded log they are dense. Before
//! `append` returns, the records have been handed to the publisher, in offset order. `conformance` holds every
//! implementation to this.

pub mod claim;
pub mod codec;
pub mod conformance;
mod disk;
pub mod embedded;
#[cfg(test)]
mod faults;
#[cfg(test)]
pub(crate) mod faulty_disk;
pub mod kafka;
mod recovery;
mod segment;

pub(crate) use disk::sync_directory;

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::Error;
use crate::event::Offset;

pub use embedded::{EmbeddedLog, LogConfig};

/// Records to append together, and what the publisher gets along with them (never written).
#[derive(Debug, Default)]
pub struct Batch {
    /// Encoded records, not empty.
    pub records: Vec<Bytes>,
    /// Handed to the publisher as it is, so that it need not decode what the caller has at hand.
    pub carry: Option<Box<dyn Any + Send>>,
}

/// A batch that has become durable.
#[derive(Debug)]
pub struct Published {
    /// Offset of the first record.
    pub first: Offset,
    /// The batch.
    pub batch: Batch,
}

/// Called in offset order, before the append returns; must be quick and must not fail.
pub type Publisher = Box<dyn FnMut(Published) + Send>;

/// What can be read: offsets from `first` up to, not including, `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lowest offset that is still there.
    pub first: Offset,
    /// The offset that the next record will get.
    pub next: Offset,
}

/// Where the records of a batch stand, in their order.
pub type Offsets = SmallVec<[Offset; 1]>;

/// The contract of a log; see the module's documentation.
#[async_trait]
pub trait Log: Send + Sync {
    /// Lets appends begin. `publisher` gets every batch, in order, before its append returns; and what others append,
    /// from `from` on, which is [`Bounds::next`] or lies before it.
    ///
    /// # Errors
    /// `Io` when a thread or file cannot be made.
    fn start(&self, from: Offset, publisher: Publisher) -> Result<(), Error>;

    /// Appends the records of the batch; returns where they stand once they are durable. The embedded log appends all
    /// of them or none.
    ///
    /// # Errors
    /// `Full`, `Busy` and `TooLarge` before anything is written; `Unavailable` when it is not known whether they are;
    /// `Poisoned` when a write or sync failed, and from then on.
    async fn append(&self, batch: Batch) -> Result<Offsets, Error>;

    /// Records from this offset on, in order, about `limit_bytes` of them (at least one if there is one).
    ///
    /// # Errors
    /// `Gone` when the offset was trimmed, `Corrupt` when what was acknowledged does not verify.
    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<(Offset, Bytes)>, Error>;

    /// What lies before this offset was read, and will hardly be read again: the system need not keep it in memory.
    fn passed(&self, _before: Offset) {}

    /// What can be read now, as far as is known here.
    fn bounds(&self) -> Bounds;

    /// Finds out how far the log reaches now, with what other nodes appended.
    ///
    /// # Errors
    /// `Unavailable` when no broker answers.
    async fn look(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Waits until the publisher has had everything that anybody appended before this was asked; `false` if it has not
    /// within the time.
    ///
    /// # Errors
    /// `Unavailable` when no broker answers.
    async fn caught_up(&self, _timeout: Duration) -> Result<bool, Error> {
        Ok(true)
    }

    /// Forgets records before this offset, as far as that is cheap (whole segments).
    ///
    /// # Errors
    /// `Io` when the file system refuses; nothing that must be kept is lost by that.
    fn trim(&self, before: Offset) -> Result<(), Error>;

    /// The log's identity: part of the application id under which tables store their offsets.
    fn identity(&self) -> &str;

    /// Whether who appends is told which messages the archive has already.
    fn knows_duplicates(&self) -> bool {
        true
    }

    /// Why the log takes no more records, if so.
    fn poisoned(&self) -> Option<String>;

    /// Bytes that the log takes on disk.
    fn disk_bytes(&self) -> u64;

    /// Stops taking records and returns when the last append is answered.
    async fn close(&self);
}
