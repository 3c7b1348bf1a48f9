//! Telling the archive's workers of recordings whose bytes were acknowledged, in log order, without ever waiting for
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::rows::KeyedRecording;

/// Recordings that may wait for a worker; more are told of as a whole.
const WAITING: usize = 10_000;

/// The archive's end.
pub(crate) struct Announcer {
    sender: Sender<KeyedRecording>,
    missed: Arc<AtomicBool>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Arrivals {
    receiver: Receiver<KeyedRecording>,
    missed: Arc<AtomicBool>,
}

/// Both ends.
pub(crate) fn arrivals() -> (Announcer, Arrivals) {
    let (sender, receiver) = channel(WAITING);
    let missed = Arc::new(AtomicBool::new(false));
    (Announcer { sender, missed: Arc::clone(&missed) }, Arrivals { receiver, missed })
}

impl Announcer {
    /// Tells of one; `false` when nobody listens any more.
    pub fn tell(&self, recording: &KeyedRecording) -> bool {
        match self.sender.try_send(recording.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.store(true, Ordering::Release);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

impl Arrivals {
    /// The next one: what its message said. Waits for it; `None` when the archive is gone.
    pub async fn next(&mut self) -> Option<KeyedRecording> {
        self.receiver.recv().await
    }

    /// The next one, if there is one.
    pub fn try_next(&mut self) -> Option<KeyedRecording> {
        self.receiver.try_recv().ok()
    }

    /// Whether some were left out since this was last asked: then the tables must be asked for them.
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}
