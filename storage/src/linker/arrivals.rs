//! Telling the linker of messages about calls that may want a link, in log order, without ever waiting for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::kazoo;
use crate::event::Source;
use crate::rows::KeyedCall;

/// Messages that may wait for the linker; if there are more, it asks the tables.
const WAITING: usize = 10_000;

/// The archive's end.
#[derive(Debug)]
pub(crate) struct Announcer {
    sender: Sender<KeyedCall>,
    missed: Arc<AtomicBool>,
}

/// The linker's end.
#[derive(Debug)]
pub struct CallArrivals {
    receiver: Receiver<KeyedCall>,
    missed: Arc<AtomicBool>,
}

/// Both ends.
pub(crate) fn arrivals() -> (Announcer, CallArrivals) {
    let (sender, receiver) = channel(WAITING);
    let missed = Arc::new(AtomicBool::new(false));
    (Announcer { sender, missed: Arc::clone(&missed) }, CallArrivals { receiver, missed })
}

impl Announcer {
    /// Tells what one message said about its call, if that may want a link; `false` when nobody listens any more.
    pub fn tell(&self, call: &KeyedCall) -> bool {
        let concerns = match call.source {
            Source::Kazoo | Source::Virtualpbx => kazoo::concerns(call),
            Source::Voispeed => true,
            Source::Placetel | Source::Planfix | Source::Trunklog => false,
        };
        if !concerns {
            return !self.sender.is_closed();
        }
        match self.sender.try_send(call.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.store(true, Ordering::Release);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

impl CallArrivals {
    /// The next one: what its message said. Waits for it; `None` when the archive is gone.
    pub async fn next(&mut self) -> Option<KeyedCall> {
        self.receiver.recv().await
    }

    /// The next one, if there is one.
    pub fn try_next(&mut self) -> Option<KeyedCall> {
        self.receiver.try_recv().ok()
    }

    /// Whether some were left out since this was last asked: then the tables must be asked for them.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}
