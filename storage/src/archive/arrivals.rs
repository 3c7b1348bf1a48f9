//! Telling the archive's workers of what was acknowledged, in log order, without ever waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::rows::{Keyed, State};

/// Messages that may wait for a worker; of more it is only said that there were some.
const WAITING: usize = 10_000;

/// The archive's end.
#[derive(Debug)]
pub(crate) struct Announcer<S> {
    sender: Sender<Keyed<S>>,
    missed: Arc<AtomicBool>,
    /// Whether what a message said is of interest.
    wants: fn(&Keyed<S>) -> bool,
}

/// The worker's end.
#[derive(Debug)]
pub struct Arrivals<S> {
    receiver: Receiver<Keyed<S>>,
    missed: Arc<AtomicBool>,
}

/// Both ends.
pub(crate) fn arrivals<S>(wants: fn(&Keyed<S>) -> bool) -> (Announcer<S>, Arrivals<S>) {
    let (sender, receiver) = channel(WAITING);
    let missed = Arc::new(AtomicBool::new(false));
    (Announcer { sender, missed: Arc::clone(&missed), wants }, Arrivals { receiver, missed })
}

impl<S: State> Announcer<S> {
    /// Tells what one message said, if it is of interest; `false` when nobody listens any more.
    pub fn tell(&self, said: &Keyed<S>) -> bool {
        if !(self.wants)(said) {
            return !self.sender.is_closed();
        }
        match self.sender.try_send(said.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.store(true, Ordering::Release);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

impl<S> Arrivals<S> {
    /// The next one: what its message said. Waits for it; `None` when the archive is gone.
    pub async fn next(&mut self) -> Option<Keyed<S>> {
        self.receiver.recv().await
    }

    /// The next one, if there is one.
    pub fn try_next(&mut self) -> Option<Keyed<S>> {
        self.receiver.try_recv().ok()
    }

    /// Whether some were left out since this was last asked: then the tables must be asked for them.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}
