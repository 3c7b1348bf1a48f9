//! Folding all messages again, into scratch tables that nobody sees: what a rebuild publishes and a comparison reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use datafusion::catalog::TableProvider;
use futures::{StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::compact::Scope;
use super::duplicates::Duplicates;
use super::lock::Lock;
use super::projection::Projection;
use super::sequencer::Sequencer;
use super::snapshot::arrival;
use super::store::{Store, Tables};
use super::{Archive, ArchiveConfig, Inner, Message};
use crate::error::{Context, Error};
use crate::event::Offset;
use crate::fact::{Decoder, decode_safely};
use crate::index::View;
use crate::lake::{self, Place, Right};

/// Calls and recordings in memory after which they are folded.
const FOLDED_AT_ONCE: usize = 100_000;

/// What all messages up to now fold to: one final row for each call and recording, as stored.
pub struct Refolded {
    /// The calls.
    pub calls: Arc<dyn TableProvider>,
    /// The recordings.
    pub recordings: Arc<dyn TableProvider>,
    /// Messages read again.
    pub messages: u64,
}

impl std::fmt::Debug for Refolded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Refolded").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Archive {
    /// Folds all messages again into tables of their own under `directory`, publishing nothing. `progress` is told of
    /// the messages read so far.
    ///
    /// # Errors
    /// If a table cannot be read or written.
    pub async fn refold(
        &self,
        directory: &Path,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Refolded, Error> {
        let directory = directory.to_owned();
        self.in_background(|inner| async move {
            let scratch = Scratch::make(&inner, &directory, &progress).await?;
            scratch.store.compact(Scope::Everything).await?;
            let tables = scratch.store.tables.lock().await;
            Ok(Refolded {
                calls: tables.calls.table.provider().await?.whole(),
                recordings: tables.recordings.table.provider().await?.whole(),
                messages: scratch.messages,
            })
        })
        .await
    }
}

/// A fold of its own over scratch tables.
pub(super) struct Scratch {
    pub store: Store,
    /// Everything up to here was taken in.
    pub until: Option<Offset>,
    pub messages: u64,
}

impl Scratch {
    /// Folds again what has come so far; more may come meanwhile.
    pub async fn make(inner: &Inner, directory: &Path, progress: &(impl Fn(u64) + Sync)) -> Result<Scratch, Error> {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(format!("removing `{}`", directory.display()));
            }
            _ => {}
        }
        let tables = directory.join("tables");
        std::fs::create_dir_all(&tables).context(format!("making `{}`", tables.display()))?;
        let config = ArchiveConfig { data_dir: directory.to_owned(), ..inner.config.clone() };
        let state = Arc::new(inner.session.state());
        let place = Place {
            directory: &tables,
            identity: inner.log.identity(),
            session: state,
            wrap: None,
            bucket: None,
            right: Right::Alone,
        };
        let tables = Tables::open(&place, &directory.join("index")).await?;
        let sequencer = sequencer(&tables).await?;
        let store = Store {
            config,
            decoder: Arc::clone(&inner.decoder),
            sequencer: Arc::new(Lock::new(sequencer)),
            foreground: inner.foreground.clone(),
            tables: tokio::sync::Mutex::new(tables),
            compacting: tokio::sync::Mutex::default(),
            idle: inner.idle.clone(),
            session: inner.session.clone(),
            tail_bytes: AtomicU64::default(),
            ignoring: AtomicBool::default(),
            alone: AtomicBool::new(true),
        };
        let mut scratch = Scratch { store, until: None, messages: 0 };
        let mut tables = inner.tables.lock().await;
        let until = if inner.config.read_only { tables.events.watermark } else { inner.fold_into(&mut tables).await? };
        let events = tables.events.provider().await?;
        drop(tables);
        scratch.take(&events, until, progress).await?;
        if inner.config.read_only {
            scratch.take_tail(inner).await?;
        }
        Ok(scratch)
    }

    /// Takes in the stored messages up to and including `until`, and folds them.
    pub async fn take(
        &mut self,
        events: &Arc<dyn TableProvider>,
        until: Option<Offset>,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let Some(end) = until else { return Ok(()) };
        let messages = lake::read::messages(&self.store.session, events, self.until, end);
        let decoder = Arc::clone(&self.store.decoder);
        let decoded = messages.map(|messages| {
            let decoder = Arc::clone(&decoder);
            async move {
                let messages = messages?;
                let decode = move || messages.into_iter().map(|stored| again(stored, decoder.as_ref())).collect();
                spawn_blocking(decode).await.map_err(|_| Error::Closed)
            }
        });
        let mut decoded = std::pin::pin!(decoded.buffered(2));
        while let Some(messages) = decoded.try_next().await? {
            let messages: Vec<(Offset, Message)> = messages;
            self.messages += messages.len() as u64;
            progress(self.messages);
            let waiting = {
                let mut sequencer = self.store.sequencer.lock();
                messages.into_iter().for_each(|(offset, message)| sequencer.take(arrival(offset, message)));
                sequencer.check()?;
                sequencer.calls.changed + sequencer.recordings.changed
            };
            if waiting >= FOLDED_AT_ONCE {
                self.fold().await?;
            }
        }
        self.store.sequencer.lock().last = Some(end);
        self.fold().await?;
        self.until = until;
        Ok(())
    }

    /// Takes in what is not in `events`, where nothing may be folded.
    async fn take_tail(&mut self, inner: &Inner) -> Result<(), Error> {
        let tail = inner.sequencer.lock().tail.view();
        let mut last = self.until;
        {
            let mut sequencer = self.store.sequencer.lock();
            for logged in tail.events().filter(|logged| self.until.is_none_or(|until| logged.offset > until)) {
                let mut decoded = decode_safely(self.store.decoder.as_ref(), &logged.event);
                sequencer.project(logged.offset, &logged.event, &mut decoded, false)?;
                self.messages += 1;
                last = Some(logged.offset);
            }
            sequencer.last = last;
        }
        self.until = last;
        self.fold().await
    }

    async fn fold(&self) -> Result<(), Error> {
        self.store.fold(&mut *self.store.tables.lock().await).await?;
        self.store.compact(Scope::Crowded).await
    }
}

fn again(stored: lake::read::StoredEvent, decoder: &dyn Decoder) -> (Offset, Message) {
    (stored.offset, Message::new(stored.event, decoder))
}

/// One that takes in calls and recordings only: `events` is read, not written.
async fn sequencer(tables: &Tables) -> Result<Sequencer, Error> {
    let all = Some(Offset(u64::MAX));
    let calls = Projection::new(tables.calls.table.provider().await?, None, View::empty());
    let recordings = Projection::new(tables.recordings.table.provider().await?, None, View::empty());
    let duplicates = Duplicates::unasked(all);
    Ok(Sequencer::new(tables.events.provider().await?, all, calls, recordings, duplicates))
}
