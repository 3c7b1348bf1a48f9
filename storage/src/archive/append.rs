//! Appending: messages go into the log in pieces, and each gets a receipt when it is durable and visible.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::ahead::Ahead;
use super::tail::weight;
use super::{Archive, Inner};
use crate::error::Error;
use crate::event::{Event, Offset};
use crate::fact::{Decoded, Decoder, decode_safely};
use crate::log::{Batch, codec};
use crate::position::Position;

/// Appends longer than this are split, so that a group stays small.
const SPLIT_BYTES: usize = 4 << 20;

/// A message on its way in: as stored, and what it means.
#[derive(Clone, Debug)]
pub struct Message {
    /// As it will be stored.
    pub event: Arc<Event>,
    /// What it means.
    pub decoded: Decoded,
    /// What taking it in looks up.
    pub(super) ahead: Ahead,
    /// About so many bytes of memory.
    pub(super) bytes: u64,
}

impl Message {
    /// Decodes (a decoder that fails quarantines) and sets the event's type and subject to what was found.
    pub fn new(mut event: Event, decoder: &dyn Decoder) -> Message {
        let decoded = decode_safely(decoder, &event);
        event.kind.clone_from(&decoded.kind);
        event.subject.clone_from(&decoded.call_key);
        Message::of(Arc::new(event), decoded)
    }

    /// One that means this.
    pub(super) fn of(event: Arc<Event>, decoded: Decoded) -> Message {
        let (ahead, bytes) = (Ahead::of(&event, &decoded), weight(&event));
        Message { event, decoded, ahead, bytes }
    }
}

/// The answer to one appended message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where it stands in its partition.
    pub offset: Offset,
    /// In which partition of a topic; `None` on the embedded log, which has one.
    pub partition: Option<usize>,
    /// Another delivery of an earlier message.
    pub duplicate: bool,
    /// Kept, but not understood.
    pub quarantined: bool,
}

impl Receipt {
    /// Where it stands.
    pub fn position(&self) -> Position {
        Position::unsaid(self.partition.is_some()).with(self.partition.unwrap_or_default(), Some(self.offset))
    }
}

/// Bytes on their way into the log, counted for as long as this lives.
struct InFlight<'a> {
    inner: &'a Inner,
    bytes: u64,
    total: u64,
}

impl<'a> InFlight<'a> {
    fn new(inner: &'a Inner, bytes: u64) -> Self {
        let total = inner.in_flight.fetch_add(bytes, Ordering::Relaxed) + bytes;
        InFlight { inner, bytes, total }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.inner.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What travels with a batch through the log.
pub(super) struct Carry {
    pub messages: Vec<Message>,
    pub duplicate: Arc<[AtomicBool]>,
}

/// Which messages came before in the same request.
fn repeated(messages: &[Message]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let key = |message: &Message| (message.event.tenant.clone(), message.event.source, message.decoded.fingerprint);
    messages.iter().map(|message| !seen.insert(key(message))).collect()
}

/// Who appends, which is a matter of priority.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Serving,
    Background,
}

impl Archive {
    /// Appends messages; returns when they are durable and visible, with one receipt each, in order.
    ///
    /// # Errors
    /// `Full` and `Busy` before anything is stored, `Poisoned` and `Closed`. A long batch is split: when a later piece
    /// is refused, the earlier ones are stored (and a retry finds its duplicates marked).
    pub async fn append(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        self.append_from(messages, Caller::Serving).await
    }

    pub(super) async fn append_from(&self, messages: Vec<Message>, caller: Caller) -> Result<Vec<Receipt>, Error> {
        let inner = &self.inner;
        inner.check_writable()?;
        if inner.failed.load(Ordering::Acquire) {
            inner.sequencer.lock().check()?;
        }
        if inner.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let bytes: u64 = messages.iter().map(|message| message.event.payload.len() as u64 + 2048).sum();
        let in_flight = InFlight::new(inner, bytes);
        if inner.tail_bytes.load(Ordering::Relaxed) + in_flight.total > inner.config.tail_limit_bytes {
            inner.wake.notify_one();
            return Err(Error::Full("the tail has reached its limit and waits for the fold".into()));
        }
        let mut receipts = Vec::with_capacity(messages.len());
        let repeated = (!inner.log.knows_duplicates()).then(|| repeated(&messages));
        let mut piece: Vec<(Bytes, Message)> = Vec::new();
        let mut bytes = 0;
        for message in messages {
            let record = codec::encode(&message.event)?;
            if bytes + record.len() > SPLIT_BYTES && !piece.is_empty() {
                self.append_piece(std::mem::take(&mut piece), &mut receipts, caller).await?;
                bytes = 0;
            }
            bytes += record.len();
            piece.push((record, message));
        }
        if !piece.is_empty() {
            self.append_piece(piece, &mut receipts, caller).await?;
        }
        for (receipt, repeated) in receipts.iter_mut().zip(repeated.into_iter().flatten()) {
            receipt.duplicate = repeated;
        }
        Ok(receipts)
    }

    async fn append_piece(
        &self,
        piece: Vec<(Bytes, Message)>,
        receipts: &mut Vec<Receipt>,
        caller: Caller,
    ) -> Result<(), Error> {
        let (records, messages): (Vec<Bytes>, Vec<Message>) = piece.into_iter().unzip();
        let quarantined: Vec<bool> = messages.iter().map(|message| message.decoded.error.is_some()).collect();
        let duplicate: Arc<[AtomicBool]> = messages.iter().map(|_| AtomicBool::new(false)).collect();
        let carry = Carry { messages, duplicate: Arc::clone(&duplicate) };
        let offsets = self.inner.log.append(Batch { records, carry: Some(Box::new(carry)) }).await?;
        match caller {
            Caller::Serving => self.inner.advance()?,
            Caller::Background => self.inner.advance_in_foreground().await?,
        }
        let partition = self.inner.partition();
        let placed = offsets.into_iter().zip(duplicate.iter());
        receipts.extend(placed.zip(quarantined).map(|((offset, duplicate), quarantined)| Receipt {
            offset,
            partition,
            duplicate: duplicate.load(Ordering::Acquire),
            quarantined,
        }));
        Ok(())
    }
}
