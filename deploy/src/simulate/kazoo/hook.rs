//! Kazoo webhooks: one message per leg and step, by GET, form or JSON.

use serde_json::{Map, Value, json};
use trunklog_storage::event::Source;

use super::super::model::{Agent, Call};
use super::super::wire::{FORM, Fields, JSON, Message, Script};
use super::{ACCOUNT, CARRIER, REALM};

/// From the year 0 to 1970: Kazoo counts gregorian seconds.
pub const GREGORIAN: i64 = 62_167_219_200;
const ROUTES: [&str; 2] = ["/kazoo/hook", "/virtualpbx/hook"];

/// How the hook is configured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Fields in the query.
    Get,
    /// Form by POST.
    Form,
    /// Form by PUT.
    Put,
    /// JSON with numbers.
    Json,
    /// JSON with numbers as text.
    JsonText,
}

impl Format {
    /// The configuration that this call meets.
    pub fn choose(call: &mut Call) -> Format {
        let shares = [
            (Format::Form, 0.4),
            (Format::Json, 0.25),
            (Format::JsonText, 0.15),
            (Format::Get, 0.15),
            (Format::Put, 0.05),
        ];
        call.weighted(&shares)
    }
}

/// One leg as its hooks describe it.
#[derive(Clone)]
pub struct Leg {
    /// Call id of the leg.
    pub id: String,
    /// Relative to the switch: the A-leg comes in, B-legs go out.
    pub call_direction: &'static str,
    /// The A-leg, on B-legs.
    pub other: Option<String>,
    /// Calling number.
    pub from: String,
    /// Where the caller's SIP address lives.
    pub from_realm: &'static str,
    /// Calling name.
    pub name: &'static str,
    /// Called number.
    pub to: String,
    /// Whose device it is.
    pub agent: Option<Agent>,
    /// `offnet-origination` or `offnet-termination`.
    pub resource_type: Option<&'static str>,
    /// Authorized by a carrier resource.
    pub by_resource: bool,
}

impl Leg {
    /// A leg between these numbers.
    pub fn new(id: String, call_direction: &'static str, from: &str, name: &'static str, to: &str) -> Leg {
        Leg {
            id,
            call_direction,
            other: None,
            from: from.to_owned(),
            from_realm: REALM,
            name,
            to: to.to_owned(),
            agent: None,
            resource_type: None,
            by_resource: false,
        }
    }

    fn fields(&self, event: &str, at: i64) -> Fields {
        let mut fields = Fields::default();
        fields
            .add("hook_event", event)
            .add("account_id", ACCOUNT)
            .add("reseller_id", "a0b1c2d3e4f5061728394a5b6c7d8e9f");
        match (&self.agent, self.by_resource) {
            (_, true) => {
                fields.add("authorizing_id", "9d8c7b6a5f4e3d2c1b0a998877665544").add("authorizing_type", "resource");
            }
            (Some(agent), false) => {
                fields
                    .add("authorizing_id", agent.device.as_str())
                    .add("authorizing_type", "device")
                    .add("owner_id", agent.owner.as_str());
            }
            (None, false) => {}
        }
        fields
            .add("call_direction", self.call_direction)
            .add("call_forwarded", false)
            .add("call_id", self.id.as_str())
            .add("callee_id_number", self.to.as_str())
            .add("caller_id_name", self.name)
            .add("caller_id_number", self.from.as_str());
        if let Some(kind) = self.resource_type {
            let variables: Map<String, Value> = [("resource_type".to_owned(), json!(kind))].into_iter().collect();
            fields.add("custom_channel_vars", variables);
        }
        let host = if self.resource_type == Some("offnet-termination") { CARRIER } else { REALM };
        fields
            .add("emergency_resource_used", false)
            .add("from", format!("{}@{}", self.from, self.from_realm))
            .add("is_internal_leg", false)
            .add("local_resource_used", false)
            .add_some("other_leg_call_id", self.other.as_deref())
            .add("request", format!("{}@{host}", self.to))
            .add("timestamp", (at + GREGORIAN).to_string())
            .add("to", format!("{}@{host}", self.to));
        fields
    }
}

/// How a leg ends.
pub struct Release {
    /// Hang-up cause by name.
    pub cause: &'static str,
    /// Final SIP status.
    pub sip: Option<i64>,
    /// Ringing, in seconds.
    pub ringing: i64,
    /// Conversation, in seconds.
    pub billed: i64,
    /// When (Unix seconds).
    pub end: i64,
}

/// `channel_create`.
pub fn created(call: &Call, format: Format, leg: &Leg, at: i64, script: &mut Script) {
    send(call, format, "channel_create", leg.fields("channel_create", at), at, script);
}

/// `channel_answer`.
pub fn answered(call: &Call, format: Format, leg: &Leg, at: i64, script: &mut Script) {
    send(call, format, "channel_answer", leg.fields("channel_answer", at), at, script);
}

/// `channel_bridge`, of both legs.
pub fn bridged(call: &Call, format: Format, legs: (&Leg, &Leg), at: i64, script: &mut Script) {
    for (leg, other) in [legs, (legs.1, legs.0)] {
        let named = Leg { other: Some(other.id.clone()), ..leg.clone() };
        let mut fields = named.fields("channel_bridge", at);
        fields.add("original_number", legs.0.to.as_str()).add("other_leg_destination_number", other.to.as_str());
        send(call, format, "channel_bridge", fields, at, script);
    }
}

/// `channel_destroy`.
pub fn destroyed(call: &Call, format: Format, leg: &Leg, created: i64, release: &Release, script: &mut Script) {
    let mut fields = leg.fields("channel_destroy", release.end);
    fields.add("hangup_cause", release.cause);
    if let Some(code) = release.sip {
        fields.add("hangup_code", format!("sip:{code}"));
    }
    for (name, seconds) in [
        ("duration_seconds", release.end - created),
        ("ringing_seconds", release.ringing),
        ("billing_seconds", release.billed),
    ] {
        if format == Format::JsonText {
            fields.add(name, seconds.to_string());
        } else {
            fields.add(name, seconds);
        }
    }
    send(call, format, "channel_destroy", fields, release.end, script);
}

/// A hook that concerns no call: somebody edited an object.
pub fn object_changed(call: &Call, script: &mut Script) {
    let mut fields = Fields::default();
    fields
        .add("hook_event", "object")
        .add("account_id", ACCOUNT)
        .add("action", "doc_edited")
        .add("type", "user")
        .add("id", &call.hash("object")[..32]);
    send(call, Format::Json, "hook", fields, call.start, script);
}

fn send(call: &Call, format: Format, kind: &str, fields: Fields, at: i64, script: &mut Script) {
    let route = ROUTES[usize::from(call.source == Source::Virtualpbx)];
    let kind = format!("{}.{kind}", call.source);
    let mut message = match format {
        Format::Get => Message::get(call.source, kind, route, &fields),
        Format::Form | Format::Put => Message::post(call.source, kind, route, FORM, fields.encoded()),
        Format::Json | Format::JsonText => Message::post(call.source, kind, route, JSON, fields.json()),
    };
    if format == Format::Put {
        message.method = "PUT";
    }
    message.headers =
        vec![("x-hook-id", "c1d2e3f4a5b60718293a4b5c6d7e8f90".to_owned()), ("x-account-id", ACCOUNT.to_owned())];
    script.send(at, message);
}
