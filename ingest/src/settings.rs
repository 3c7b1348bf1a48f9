//! What ingest and its decoders are configured with: checked values, per tenant, replaced as a whole on reload.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use trunklog_storage::event::{Event, Micros, Source};

use crate::reject::Refusal;

/// The settings in force, shared by all; a reload swaps them.
#[derive(Clone, Debug, Default)]
pub struct SharedSettings(Arc<RwLock<Arc<Settings>>>);

impl SharedSettings {
    /// Starts with these.
    pub fn new(settings: Settings) -> SharedSettings {
        SharedSettings(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// Those in force now.
    pub fn load(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force.
    pub fn store(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// Settings of all tenants.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For tenants that have none of their own.
    pub defaults: TenantSettings,
    /// By tenant, each already merged over the defaults.
    pub tenants: BTreeMap<String, TenantSettings>,
    /// Sizes of what is taken.
    pub limits: Limits,
    /// How the outside reaches the archive, such as `https://calls.acme.example`, without a slash at the end; `None` if
    /// nobody said.
    pub public_url: Option<String>,
}

impl Settings {
    /// Those of this tenant.
    pub fn of(&self, tenant: &str) -> &TenantSettings {
        self.tenants.get(tenant).unwrap_or(&self.defaults)
    }
}

/// Larger requests are refused with 413.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One message, or one line of NDJSON.
    pub message_bytes: usize,
    /// A report or a bulk body.
    pub report_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message_bytes: 1 << 20, report_bytes: 16 << 20 }
    }
}

impl Limits {
    /// Refuses the messages of a body if one of them is too large.
    ///
    /// # Errors
    /// 413 with the limit.
    pub fn check_messages(&self, events: &[Event]) -> Result<(), Refusal> {
        let too_large = events.iter().any(|event| event.payload.len() > self.message_bytes);
        if too_large { Err(Refusal::TooLarge(self.message_bytes)) } else { Ok(()) }
    }
}

/// Settings of one tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantSettings {
    /// ISO code of the country whose national numbers are sent, such as `DE`.
    pub country: Option<String>,
    /// For local times without an offset.
    pub time_zone: Option<chrono_tz::Tz>,
    /// Callflow to answer a pivot request with, by dialled number, `*` for all.
    pub kazoo_callflow: BTreeMap<String, serde_json::Value>,
    /// Account ids that may send; empty for any.
    pub kazoo_accounts: Vec<String>,
    /// What the answer to a pivot request says about recording; `None` if it says nothing.
    pub kazoo_record: Option<RecordCalls>,
    /// Call-control answer to an IncomingCall, by called number, `*` for all.
    pub placetel_answer: BTreeMap<String, String>,
    /// Command lines for the IVR, by `<ivrid>/<nodeid>`, `*` for all.
    pub voispeed_ivr: BTreeMap<String, Vec<String>>,
    /// Other spellings of parameter names, by the name that the decoder knows.
    pub voispeed_alias: BTreeMap<String, Vec<String>>,
    /// Contacts by number, digits only.
    pub planfix_contacts: Arc<BTreeMap<String, Contact>>,
    /// Hosts that record links may be fetched from.
    pub fetch_allow: Vec<String>,
    /// How long a call may stay open without a message.
    pub timeouts: BTreeMap<Source, Micros>,
    /// The same for a Placetel call of which nothing but its IncomingCall came.
    pub ringing_timeout: Option<Micros>,
}

/// How a Kazoo is told to record a call to this archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordCalls {
    /// What it uploads.
    pub format: RecordFormat,
    /// The longest recording, in seconds; the switch may have a lower limit of its own.
    pub time_limit_seconds: u64,
    /// Only the caller is heard, not the one who answers.
    pub caller_only: bool,
}

impl Default for RecordCalls {
    fn default() -> RecordCalls {
        RecordCalls { format: RecordFormat::Mp3, time_limit_seconds: 3 * 3600, caller_only: false }
    }
}

/// A format that a Kazoo records in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// MP3.
    Mp3,
    /// WAV.
    Wav,
}

impl RecordFormat {
    /// As call flows name it.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordFormat::Mp3 => "mp3",
            RecordFormat::Wav => "wav",
        }
    }
}

/// Who a number belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Name of the caller.
    pub contact_name: String,
    /// Short code of the employee who looks after them.
    pub manager: Option<String>,
}

/// Finds contacts beyond the contacts file: the binary plugs in a look at earlier calls.
#[async_trait]
pub trait ContactLookup: Send + Sync + 'static {
    /// Who this number belongs to, if anybody said.
    async fn find(&self, tenant: &str, phone: &str) -> Option<Contact>;
}

/// Knows nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContacts;

#[async_trait]
impl ContactLookup for NoContacts {
    async fn find(&self, _tenant: &str, _phone: &str) -> Option<Contact> {
        None
    }
}
