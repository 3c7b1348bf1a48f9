//! What one message says about one call, in the archive's own terms, and the trait by which decoders say it.

use std::sync::Arc;

use compact_str::CompactString;
use sha2::{Digest, Sha256};

use crate::call::CallState;
use crate::event::{Event, Micros, Source};
use crate::recording::{RecordingState, message};

/// Seven days: how far back a message can be the original of a duplicate.
pub const DUPLICATE_WINDOW: Micros = 7 * 24 * 3600 * 1_000_000;
/// Two seconds: the window for messages that carry nothing which tells a repeat from a second visit.
pub const SHORT_WINDOW: Micros = 2_000_000;

/// Which call a message belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum CallRef {
    /// The key stands in the message.
    Key(Arc<str>),
    /// VOIspeed user events without any id: the open call of this extension and number, else a new one.
    Open {
        /// Extension.
        extension: String,
        /// The other party.
        number: String,
        /// The message starts a call (incoming or outgoing).
        starts: bool,
        /// The message ends it.
        ends: bool,
    },
}

/// What a message says about one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingFact {
    /// Source of the recording.
    pub source: Source,
    /// Our id of it.
    pub id: String,
    /// What is said. Moments in it are set by the archive.
    pub state: RecordingState,
}

/// What a message means. Made by a [`Decoder`] from the stored form of the message alone.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// `events.type`.
    pub kind: CompactString,
    /// The time that the message itself carries.
    pub occurred_at: Option<Micros>,
    /// The source's call id, if the message names one.
    pub call_key: Option<Arc<str>>,
    /// SHA-256 of the idempotency key (within tenant and source).
    pub fingerprint: [u8; 32],
    /// Two messages of one fingerprint are the same delivery if they lie at most this far apart.
    pub window: Micros,
    /// The source of the call that it concerns, where that is not the message's own (trunklog's decisions).
    pub concerns: Option<Source>,
    /// What it says about its call; `None` for messages that concern no call.
    pub fact: Option<(CallRef, Arc<CallState>)>,
    /// What it says about a recording. Kept for quarantined messages too: stored bytes are never forgotten.
    pub recording: Option<Box<RecordingFact>>,
    /// Why it could not be understood; such a message is quarantined and has no fact.
    pub error: Option<String>,
}

impl Decoded {
    /// A message that says nothing about a call.
    pub fn new(kind: impl Into<CompactString>, idempotency: &[&[u8]]) -> Decoded {
        Decoded {
            kind: kind.into(),
            occurred_at: None,
            call_key: None,
            fingerprint: fingerprint(idempotency),
            window: DUPLICATE_WINDOW,
            concerns: None,
            fact: None,
            recording: None,
            error: None,
        }
    }

    /// Says so much about the call of this key, which the message names.
    pub fn about(&mut self, key: impl Into<Arc<str>>, state: impl Into<Arc<CallState>>) {
        let key = key.into();
        self.call_key = Some(Arc::clone(&key));
        self.fact = Some((CallRef::Key(key), state.into()));
    }

    /// A message that could not be understood; it is its own idempotency key.
    pub fn quarantined(event: &Event, kind: impl Into<CompactString>, error: impl Into<String>) -> Decoded {
        let query = event.query.as_deref().unwrap_or_default();
        let path = event.path.as_deref().unwrap_or_default();
        let mut decoded = Decoded::new(kind, &[b"quarantined", path.as_bytes(), query.as_bytes(), &event.payload]);
        decoded.error = Some(error.into());
        decoded
    }
}

/// SHA-256 over the parts, each preceded by its length so that no two lists of parts meet.
pub fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Turns messages into facts: a pure function of the event and the tenant's settings. It may panic on a message
/// it does not expect; the caller quarantines that message.
pub trait Decoder: Send + Sync + 'static {
    /// What this message means.
    fn decode(&self, event: &Event) -> Decoded;
    /// The number in E.164 by the tenant's country, or `None` for anonymous, SIP ids and short numbers.
    fn e164(&self, tenant: &str, source: Source, number: &str) -> Option<String>;
    /// How long a call of this source may stay open without a message, in microseconds; `only_ringing` for a call
    /// of which nothing but its start is known.
    fn timeout(&self, tenant: &str, source: Source, only_ringing: bool) -> Micros;
}

/// Decodes, and quarantines what makes the decoder panic or names a key that is too long.
pub fn decode_safely(decoder: &dyn Decoder, event: &Event) -> Decoded {
    let decode = || if event.source == Source::Trunklog { message::decode(event) } else { decoder.decode(event) };
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode));
    let mut decoded =
        attempt.unwrap_or_else(|_| Decoded::quarantined(event, &*event.kind, "the decoder failed on this message"));
    if let Some(error) = &event.error {
        decoded = Decoded::quarantined(event, decoded.kind, error.clone());
    }
    let too_long = |key: &str| key.len() > MAX_KEY_BYTES;
    let key_too_long = decoded.call_key.as_deref().is_some_and(too_long)
        || matches!(&decoded.fact, Some((CallRef::Key(key), _)) if too_long(key));
    if key_too_long {
        let error = format!("a key field is longer than {MAX_KEY_BYTES} bytes");
        decoded = Decoded { recording: decoded.recording, ..Decoded::quarantined(event, decoded.kind, error) };
    }
    if event.structured {
        decoded.fingerprint = fingerprint(&[b"cloudevent", event.source.as_str().as_bytes(), event.id.as_bytes()]);
        decoded.window = DUPLICATE_WINDOW;
    }
    decoded
}

/// A call key or other key field may be this long.
pub const MAX_KEY_BYTES: usize = 1024;
