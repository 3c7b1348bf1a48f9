//! The queue of links to fetch: each a task that waits for its turn, fetches, and writes into the log what came of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use trunklog_storage::error::Error;
use trunklog_storage::event::now;
use trunklog_storage::media::Media;
use trunklog_storage::partitions::Partitions;
use trunklog_storage::recording::message::{Fetch, FetchOutcome};

use super::book::{Book, Entered};
use super::client::{FetchClient, FetchLimits};
use super::failure::Failure;
use super::places::{Place, Places};
use super::policy::{AllowList, parse_link};
use super::resume::{self, PastMessages};
use super::{FetchRequest, LinkKey, retries, writing};
use crate::settings::SharedSettings;

/// Fetches at the same time of links that last.
const AT_ONCE: u32 = 8;
/// Of those, for one tenant.
const AT_ONCE_FOR_TENANT: usize = 2;
/// Fetches at the same time of links that work once: they expire and do not queue behind the others.
const TEMP_AT_ONCE: u32 = 16;
/// Of those, for one tenant.
const TEMP_AT_ONCE_FOR_TENANT: usize = 8;

/// Takes links and has their files archived; cheap to clone.
#[derive(Clone)]
pub struct FetchQueue {
    shared: Arc<Shared>,
}

/// What the tasks need.
pub(super) struct Shared {
    pub archive: Partitions,
    pub media: Media,
    pub settings: SharedSettings,
    handle: Handle,
    client: FetchClient,
    book: Mutex<Book>,
    places: Places,
    temp_places: Places,
}

impl FetchQueue {
    /// A queue whose tasks run on `handle`.
    pub fn start(archive: Partitions, media: Media, settings: SharedSettings, handle: Handle) -> FetchQueue {
        FetchQueue::with_limits(archive, media, settings, handle, FetchLimits::default())
    }

    /// The same with other limits of time.
    pub fn with_limits(
        archive: Partitions,
        media: Media,
        settings: SharedSettings,
        handle: Handle,
        limits: FetchLimits,
    ) -> FetchQueue {
        show_length(0);
        let shared = Shared {
            archive,
            media,
            settings,
            handle,
            client: FetchClient::new(limits),
            book: Mutex::default(),
            places: Places::new(AT_ONCE, AT_ONCE_FOR_TENANT),
            temp_places: Places::new(TEMP_AT_ONCE, TEMP_AT_ONCE_FOR_TENANT),
        };
        FetchQueue { shared: Arc::new(shared) }
    }

    /// Has a link fetched that stands in an acknowledged message. Does not wait. Nothing happens when the tenant allows
    /// no host, when the link is known already, or (with a warning) when too many wait: the next start finds it again.
    pub fn request(&self, request: FetchRequest) {
        if self.shared.settings.load().of(&request.tenant).fetch_allow.is_empty() {
            return;
        }
        let entered = self.shared.book().enter(request.key());
        match entered {
            Entered::Known => {}
            Entered::Full => {
                tracing::warn!(
                    tenant = request.tenant,
                    "too many links wait; this one is fetched after the next start"
                );
            }
            Entered::New => {
                let pending = Pending::new(Arc::clone(&self.shared), request.key());
                self.shared.handle.spawn(async move {
                    pending.shared.run(&request).await;
                    drop(pending);
                });
            }
        }
    }

    /// Finds the links again that an earlier run of the server, or another node, left without an end in messages received
    /// before now.
    pub fn resume(&self, past: Arc<dyn PastMessages>) {
        self.shared.handle.spawn(resume::run(self.clone(), past, now()));
    }

    /// Waits until the fetches under way have ended, and lets no other begin; gives up after `patience`. Before the
    /// archive closes: the file of a link that works once would be lost.
    pub async fn drain(&self, patience: Duration) {
        let closing = futures::future::join(self.shared.places.close(), self.shared.temp_places.close());
        if tokio::time::timeout(patience, closing).await.is_err() {
            tracing::warn!("some fetches did not end in time and are broken off");
        }
    }

    /// Whether no more links are taken.
    pub(super) fn is_full(&self) -> bool {
        self.shared.book().is_full()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// A link that is pending for as long as this lives.
struct Pending {
    shared: Arc<Shared>,
    key: LinkKey,
}

impl Pending {
    fn new(shared: Arc<Shared>, key: LinkKey) -> Pending {
        show_length(shared.book().len());
        Pending { shared, key }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let length = {
            let mut book = self.shared.book();
            book.leave(&self.key);
            book.len()
        };
        show_length(length);
    }
}

fn show_length(length: usize) {
    metrics::gauge!("trunklog_fetch_queue").set(length as f64);
}

fn count(result: &'static str) {
    metrics::counter!("trunklog_fetches_total", "result" => result).increment(1);
}

impl Shared {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until it is fetched or has failed.
    async fn run(&self, request: &FetchRequest) {
        let mut requests = 0;
        loop {
            // In a box of its own, so that one that pauses for a day holds little memory.
            let pause = Box::pin(self.turn(request, requests)).await;
            let Some(pause) = pause else { return };
            count("retried");
            requests += 1;
            tokio::time::sleep(pause).await;
        }
    }

    /// One try after so many; gives the pause before the next one, if there is to be one.
    async fn turn(&self, request: &FetchRequest, before: u32) -> Option<Duration> {
        let _place = self.place(request).await?;
        let allowed = self.settings.load().of(&request.tenant).fetch_allow.clone();
        if allowed.is_empty() {
            // Taken back while the link waited: nothing is fetched, and nothing has failed.
            return None;
        }
        let allowed = AllowList::new(&allowed);
        if let Err(refused) = parse_link(&request.url).and_then(|url| allowed.check(&url)) {
            self.failed(request, before, &Failure::refused(refused, 0)).await;
            return None;
        }
        if request.is_temp && before == 0 {
            let started = writing::fetch(request, FetchOutcome::Started, 0);
            if let Err(error) = writing::append(&self.archive, &request.tenant, &started).await {
                tracing::warn!(%error, tenant = request.tenant, "a link that works once is left for the next start");
                return None;
            }
        }
        let requests = before + 1;
        let failure = match self.archived(request, requests, &allowed).await {
            Ok(()) => return None,
            Err(failure) => failure,
        };
        let pause = retries::pause(request.is_temp, requests, &failure);
        if pause.is_none() {
            self.failed(request, requests, &failure).await;
        }
        pause
    }

    /// Waits for a place among those of links of its kind.
    async fn place(&self, request: &FetchRequest) -> Option<Place<'_>> {
        let places = if request.is_temp { &self.temp_places } else { &self.places };
        places.take(&request.tenant).await
    }

    /// Fetches the file, keeps it, and says so in the log.
    async fn archived(&self, request: &FetchRequest, requests: u32, allowed: &AllowList) -> Result<(), Failure> {
        let fetched = self.client.fetch(&self.media, allowed, &request.url).await?;
        let stored = writing::store(&self.archive, &self.media, request, requests, fetched).await;
        stored.map_err(|error| Failure { bytes_received: true, ..Failure::of_storage(&error) })?;
        self.book().end(request.key());
        count("stored");
        Ok(())
    }

    async fn failed(&self, request: &FetchRequest, requests: u32, failure: &Failure) {
        count("failed");
        tracing::warn!(tenant = request.tenant, reason = failure.reason, "a linked recording could not be fetched");
        if request.is_temp {
            // It is used up, or never could be used.
            self.book().end(request.key());
        }
        let error = Some(failure.reason.clone());
        let failed = Fetch { error, ..writing::fetch(request, FetchOutcome::Failed, requests) };
        self.note(&request.tenant, &failed).await;
    }

    /// Writes into the log; where that fails, the next start does what is left to do.
    pub async fn note(&self, tenant: &str, fetch: &Fetch) {
        match writing::append(&self.archive, tenant, fetch).await {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => tracing::warn!(%error, tenant, "what came of a link is not in the log"),
        }
    }
}
