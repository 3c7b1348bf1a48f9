//! The messages behind the `events` table's watermark, in chunks that successive snapshots share.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::event::{Event, Offset};
use crate::rows::{self, LoggedEvent};

const CHUNK: usize = 256;

/// Messages in offset order; rendered once.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    events: Vec<LoggedEvent>,
    rendered: OnceLock<RecordBatch>,
}

/// The tail as one snapshot sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TailView {
    chunks: Vec<Arc<Chunk>>,
}

/// The growing tail.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    sealed: VecDeque<Arc<Chunk>>,
    open: Vec<LoggedEvent>,
    messages: u64,
    bytes: u64,
    since: Option<Instant>,
}

/// About so many bytes of memory a message takes.
pub(super) fn weight(event: &Event) -> u64 {
    let headers: usize = event.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    let texts = [event.query.as_deref(), event.path.as_deref()].into_iter().flatten().map(str::len).sum::<usize>();
    // The rest of the envelope.
    (event.payload.len() + texts + headers + 1024) as u64
}

impl Tail {
    pub fn push(&mut self, logged: LoggedEvent) {
        self.messages += 1;
        self.since.get_or_insert_with(Instant::now);
        self.bytes += logged.bytes;
        self.open.push(logged);
        if self.open.len() >= CHUNK {
            let events = std::mem::replace(&mut self.open, Vec::with_capacity(CHUNK));
            self.sealed.push_back(Arc::new(Chunk { events, rendered: OnceLock::new() }));
        }
    }

    /// What is there now.
    pub fn view(&self) -> TailView {
        let mut chunks: Vec<Arc<Chunk>> = self.sealed.iter().cloned().collect();
        if !self.open.is_empty() {
            chunks.push(Arc::new(Chunk { events: self.open.clone(), rendered: OnceLock::new() }));
        }
        TailView { chunks }
    }

    /// Takes out the messages up to and including this offset; what comes back only needs to be dropped.
    pub fn release(&mut self, until: Offset) -> Vec<Arc<Chunk>> {
        let mut released = Vec::new();
        let mut kept: Vec<LoggedEvent> = Vec::new();
        while let Some(chunk) = self.sealed.pop_front() {
            if chunk.events.last().is_some_and(|last| last.offset <= until) {
                released.push(chunk);
                continue;
            }
            if chunk.events.first().is_some_and(|first| first.offset > until) {
                self.sealed.push_front(chunk);
                break;
            }
            kept.extend(chunk.events.iter().filter(|logged| logged.offset > until).cloned());
        }
        if !kept.is_empty() {
            self.sealed.push_front(Arc::new(Chunk { events: kept, rendered: OnceLock::new() }));
        }
        self.open.retain(|logged| logged.offset > until);
        let chunks = self.sealed.iter().flat_map(|chunk| &chunk.events).chain(&self.open);
        (self.messages, self.bytes) = chunks.fold((0, 0), |(count, bytes), logged| (count + 1, bytes + logged.bytes));
        self.since = (self.messages > 0).then(Instant::now);
        released
    }

    /// All messages and their size; the tail has none then.
    pub fn take_out(&mut self) -> (TailView, u64) {
        let Tail { sealed, open, bytes, .. } = std::mem::take(self);
        let mut chunks: Vec<Arc<Chunk>> = sealed.into();
        if !open.is_empty() {
            chunks.push(Arc::new(Chunk { events: open, rendered: OnceLock::new() }));
        }
        (TailView { chunks }, bytes)
    }

    /// Since when there are messages in the tail.
    pub fn oldest(&self) -> Option<Instant> {
        self.since
    }

    pub fn messages(&self) -> u64 {
        self.messages
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl TailView {
    /// How many messages.
    pub fn messages(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.events.len() as u64).sum()
    }

    /// The offset of the last message.
    pub fn last(&self) -> Option<Offset> {
        self.chunks.last().and_then(|chunk| chunk.events.last()).map(|logged| logged.offset)
    }

    pub fn events(&self) -> impl Iterator<Item = &LoggedEvent> {
        self.chunks.iter().flat_map(|chunk| &chunk.events)
    }

    /// The messages in their order, about so many at once.
    pub fn pieces(self, messages: usize) -> impl Iterator<Item = TailView> {
        let mut chunks = self.chunks.into_iter();
        std::iter::from_fn(move || {
            let chunks: Vec<Arc<Chunk>> = chunks.by_ref().take(messages.div_ceil(CHUNK)).collect();
            Some(TailView { chunks }).filter(|piece| !piece.chunks.is_empty())
        })
    }

    /// Only the messages up to and including this offset.
    pub fn until(&self, offset: Offset) -> TailView {
        let events: Vec<LoggedEvent> = self.events().filter(|logged| logged.offset <= offset).cloned().collect();
        TailView { chunks: vec![Arc::new(Chunk { events, rendered: OnceLock::new() })] }
    }

    /// The rows, a batch a chunk.
    pub fn rows(&self) -> Result<Vec<RecordBatch>, Error> {
        let filled = self.chunks.iter().filter(|chunk| !chunk.events.is_empty());
        filled
            .map(|chunk| {
                if let Some(batch) = chunk.rendered.get() {
                    return Ok(batch.clone());
                }
                let batch = rows::events(&chunk.events.iter().collect::<Vec<_>>())?;
                Ok(chunk.rendered.get_or_init(|| batch).clone())
            })
            .collect()
    }
}
