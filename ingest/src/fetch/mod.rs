//! Fetching the files that messages link to (Planfix's `record_link`), so that they are kept when the link is gone.
//!
//! ```text
//! message acknowledged ─▶ FetchQueue::request ─▶ policy ─▶ client ─▶ Media ─▶ trunklog.fetch (stored | failed)
//! start of the server  ─▶ FetchQueue::resume ──────┘ (links of the last days without an end in the log)
//! ```
//!
//! The law: a request goes only to hosts on the tenant's allow list and, unless an entry says otherwise, only to
//! public addresses; the address that was checked is the one that is connected to ([`client`]). A link that works only
//! once is in the log as `started` before it is used, so that no restart uses it again.

mod address;
mod book;
mod client;
mod failure;
mod name;
mod places;
mod policy;
mod resolver;
mod resume;
mod retries;
mod worker;
mod writing;

use trunklog_storage::event::{Micros, Source};
use trunklog_storage::fact::fingerprint;

pub use client::FetchLimits;
pub use policy::is_entry;
pub use resume::{PastFailure, PastFetch, PastMessages};
pub use worker::FetchQueue;

pub use crate::sources::planfix::links::of_event as planfix_link;

/// A link that is to be fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// Whose it is.
    pub tenant: String,
    /// Source of the message with the link.
    pub source: Source,
    /// The source's key of the call.
    pub call_key: String,
    /// The link.
    pub url: String,
    /// It works only once.
    pub is_temp: bool,
    /// When the message was received.
    pub received_at: Micros,
}

/// Which link of which call of which tenant.
type LinkKey = [u8; 32];

impl FetchRequest {
    fn key(&self) -> LinkKey {
        link_key(&self.tenant, self.source, &self.call_key, &self.url)
    }
}

/// A link may hold a secret, so it is never printed.
impl std::fmt::Debug for FetchRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FetchRequest")
            .field("tenant", &self.tenant)
            .field("source", &self.source)
            .field("is_temp", &self.is_temp)
            .finish_non_exhaustive()
    }
}

fn link_key(tenant: &str, source: Source, call_key: &str, url: &str) -> LinkKey {
    fingerprint(&[tenant, source.as_str(), call_key, url].map(str::as_bytes))
}
