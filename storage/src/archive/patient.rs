//! Appending what trunklog itself learnt: nobody sends it again, so it waits for a log that is full or busy.

use std::time::Duration;

use super::append::Caller;
use super::{Archive, Message};
use crate::error::Error;
use crate::event::{Event, new_event_id};

/// While the log takes nothing, it is asked this often.
const PAUSE: Duration = Duration::from_secs(1);

impl Archive {
    /// Appends events of trunklog's own, asking a log that is full or busy again, so many times in all (`None`: for as
    /// long as it takes). A try that was refused may have landed all the same: the next one has an id of its own, and is
    /// marked as the other's repeat.
    ///
    /// # Errors
    /// As [`Archive::append`].
    pub async fn append_patiently(&self, events: &[Event], tries: Option<u32>) -> Result<(), Error> {
        let mut tried = 1;
        loop {
            let messages = events.iter().map(|event| {
                let id = if tried == 1 { event.id.clone() } else { new_event_id() };
                Message::new(Event { id, ..event.clone() }, self.decoder().as_ref())
            });
            let messages = messages.collect();
            match self.append_from(messages, Caller::Background).await {
                Ok(_) => return Ok(()),
                Err(Error::Full(_) | Error::Busy | Error::Unavailable(_))
                    if tries.is_none_or(|tries| tried < tries) =>
                {
                    tried += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
