//! Keys for messages that name no call: VOIspeed user events without any id.
//!
//! Such a message goes to the open call of its extension and number, else it starts one. The key of a call made so
//! is `~<extension>~<number>~<event id of its first message>`; it depends on the order of the log and on nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Micros, Offset, Source};
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
    pub fn key(&mut self, event: &Event, decoded: &Decoded) -> Option<Arc<str>> {
        match &decoded.fact.as_ref()?.0 {
            CallRef::Key(key) => Some(Arc::clone(key)),
            CallRef::Open { extension, number, starts, ends } => {
                let slot = self.slot(event, extension, number, *starts);
                let (line, number) = ((event.tenant.to_string(), extension.clone()), slot.2.clone());
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
                        format!("{MADE_KEY}{}{MADE_KEY}{}{MADE_KEY}{}", escape(extension), escape(&number), event.id)
                    }
                };
                let ended_at = if *ends { Some(at) } else { current.filter(|_| !fresh).and_then(|call| call.ended_at) };
                self.open.insert(slot, Open { key: key.clone(), ended_at, last: (at, decoded.fingerprint) });
                self.latest.insert(line, number);
                Some(key.into())
            }
        }
    }

    /// Tenant, extension and number; a later message of a call may leave its number out.
    fn slot(&self, event: &Event, extension: &str, number: &str, starts: bool) -> (String, String, String) {
        let line = (event.tenant.to_string(), extension.to_owned());
        let known = self.latest.get(&line).filter(|_| number.is_empty() && !starts);
        let number = known.map_or(number, String::as_str).to_owned();
        (line.0, line.1, number)
    }

    /// Whether there are no calls without ids.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Notes the last stored messages, in log order, of the calls that were taken up, so that a repeat is known after a
    /// restart.
    pub fn remember<'a>(&mut self, messages: impl Iterator<Item = (&'a Event, &'a Decoded)>) {
        let mut said: HashMap<(String, String), Option<String>> = HashMap::new();
        for (event, decoded) in messages {
            let Some((CallRef::Open { extension, number, starts, .. }, _)) = &decoded.fact else { continue };
            let line = (event.tenant.to_string(), extension.clone());
            // Without a number it was about the call that was the latest then: that of now, unless another came since.
            let number = match said.get(&line) {
                _ if !number.is_empty() || *starts => Some(number.clone()),
                Some(said) => said.clone(),
                None => self.latest.get(&line).cloned(),
            };
            said.insert(line.clone(), number.clone());
            let slot = number.map(|number| (line.0, line.1, number));
            if let Some(open) = slot.and_then(|slot| self.open.get_mut(&slot)) {
                open.last = (event.received_at, decoded.fingerprint);
            }
        }
    }

    /// Takes up stored calls: of the same extension and number the one that began last, and of an extension the number
    /// of the call that was heard of last.
    pub fn restore(&mut self, mut calls: Vec<Stored>) {
        calls.retain(|call| call.source == Source::Voispeed && call.key.starts_with(MADE_KEY));
        let slot = |call: &Stored| {
            let mut parts = call.key.splitn(4, MADE_KEY).skip(1);
            Some((call.tenant.clone(), unescape(parts.next()?), unescape(parts.next()?)))
        };
        calls.sort_by_key(|call| call.began);
        for call in &calls {
            let Some(slot) = slot(call) else { continue };
            let open = Open { key: call.key.clone(), ended_at: call.ended_at, last: (0, [0; 32]) };
            self.open.insert(slot, open);
        }
        calls.sort_by_key(|call| call.heard);
        for call in &calls {
            let Some((tenant, extension, number)) = slot(call) else { continue };
            self.latest.insert((tenant, extension), number);
        }
    }
}

/// A stored call, as far as its key depends on it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub tenant: String,
    pub source: Source,
    pub key: String,
    pub ended_at: Option<Micros>,
    /// Offsets of its first and last message.
    pub began: Option<Offset>,
    pub heard: Option<Offset>,
}

/// A part of a key, such that it can be had back.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace(MADE_KEY, "%7E")
}

fn unescape(text: &str) -> String {
    text.replace("%7E", "~").replace("%25", "%")
}
