//! Keys for messages that name no call: VOIspeed user events without any id.
//!
//! Such a message goes to the open call of its extension and number, else it starts one. The key of a call made so
//! is `~<extension>~<number>~<event id of its first message>`; it depends on the order of the log and on nothing else.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Micros, Source};
use crate::fact::{CallRef, Decoded, SHORT_WINDOW};

/// What every key made here begins with.
pub const MADE_KEY: char = '~';

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    key: String,
    ended_at: Option<Micros>,
    last: (Micros, [u8; 32]),
}

/// The calls without ids, by tenant, extension and number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Keyer {
    open: HashMap<(String, String, String), Open>,
    /// The number of the latest call by tenant and extension: later messages of it may leave the number out.
    latest: HashMap<(String, String), String>,
}

/// A keyer as it is kept in the checkpoint.
#[derive(Serialize, Deserialize)]
struct Written {
    open: Vec<((String, String, String), Open)>,
    latest: Vec<((String, String), String)>,
}

impl From<Keyer> for Written {
    fn from(keyer: Keyer) -> Written {
        Written { open: keyer.open.into_iter().collect(), latest: keyer.latest.into_iter().collect() }
    }
}

impl From<Written> for Keyer {
    fn from(written: Written) -> Keyer {
        Keyer { open: written.open.into_iter().collect(), latest: written.latest.into_iter().collect() }
    }
}

impl Keyer {
    /// The call that this message belongs to. Must be called in log order.
    pub fn key(&mut self, event: &Event, decoded: &Decoded) -> Option<String> {
        match &decoded.fact.as_ref()?.0 {
            CallRef::Key(key) => Some(key.clone()),
            CallRef::Open { extension, number, starts, ends } => {
                let slot = self.slot(event, extension, number, *starts);
                let (line, number) = ((event.tenant.clone(), extension.clone()), slot.2.clone());
                let at = event.received_at;
                let current = self.open.get(&slot);
                let repeats = current
                    .is_some_and(|call| call.last.1 == decoded.fingerprint && (at - call.last.0).abs() <= SHORT_WINDOW);
                let fresh = match current {
                    None => true,
                    Some(_) if repeats => false,
                    Some(call) => call.ended_at.is_some() || *starts,
                };
                let key = match current {
                    Some(call) if !fresh => call.key.clone(),
                    _ => {
                        let plain = |text: &str| text.replace(MADE_KEY, "_");
                        format!("{MADE_KEY}{}{MADE_KEY}{}{MADE_KEY}{}", plain(extension), plain(&number), event.id)
                    }
                };
                let ended_at = if *ends { Some(at) } else { current.filter(|_| !fresh).and_then(|call| call.ended_at) };
                self.open.insert(slot, Open { key: key.clone(), ended_at, last: (at, decoded.fingerprint) });
                self.latest.insert(line, number);
                Some(key)
            }
        }
    }

    /// Tenant, extension and number; a later message of a call may leave its number out.
    fn slot(&self, event: &Event, extension: &str, number: &str, starts: bool) -> (String, String, String) {
        let line = (event.tenant.clone(), extension.to_owned());
        let known = self.latest.get(&line).filter(|_| number.is_empty() && !starts);
        let number = known.map_or(number, String::as_str).to_owned();
        (line.0, line.1, number)
    }

    /// Whether there are no calls without ids.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Notes the last stored message of a call, so that its repeat is known after a restart.
    pub fn remember(&mut self, event: &Event, decoded: &Decoded) {
        let Some((CallRef::Open { extension, number, starts, .. }, _)) = &decoded.fact else { return };
        let slot = self.slot(event, extension, number, *starts);
        if let Some(open) = self.open.get_mut(&slot) {
            open.last = (event.received_at, decoded.fingerprint);
        }
    }

    /// Takes up a stored call, later ones replacing earlier ones of the same extension and number.
    pub fn restore(&mut self, tenant: &str, source: Source, key: &str, ended_at: Option<Micros>) {
        if source != Source::Voispeed || !key.starts_with(MADE_KEY) {
            return;
        }
        let mut parts = key.splitn(4, MADE_KEY).skip(1);
        if let (Some(extension), Some(number)) = (parts.next(), parts.next()) {
            let slot = (tenant.to_owned(), extension.to_owned(), number.to_owned());
            self.latest.insert((tenant.to_owned(), extension.to_owned()), number.to_owned());
            self.open.insert(slot, Open { key: key.to_owned(), ended_at, last: (0, [0; 32]) });
        }
    }
}
