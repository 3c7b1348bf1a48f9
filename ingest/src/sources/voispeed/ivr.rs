//! IVR callbacks: a node of an IVR tells what it collected and waits for commands.

use trunklog_storage::call::{CallState, Rank, Text};
use trunklog_storage::event::Event;
use trunklog_storage::fact::{Decoded, SHORT_WINDOW};

use super::params::Params;
use crate::settings::TenantSettings;

/// What a callback means.
pub(super) fn decode(event: &Event, settings: &TenantSettings) -> Decoded {
    const KIND: &str = "voispeed.ivr";
    let params = match Params::of(event, settings) {
        Ok(params) => params,
        Err(error) => return Decoded::quarantined(event, KIND, error),
    };
    let Some(call_id) = params.first(&["callid", "call_id"]) else {
        return Decoded::quarantined(event, KIND, "the parameter `callid` is missing");
    };
    let idempotency =
        ["ivr", call_id, params.text("ivrid"), params.text("nodeid"), params.text("input"), params.text("tag")];
    let mut decoded = Decoded::new(KIND, &idempotency.map(str::as_bytes));
    decoded.window = SHORT_WINDOW;
    decoded.about(call_id, state(&params, event.received_at));
    decoded
}

/// The node that calls back, as `<ivrid>/<nodeid>`.
pub(super) fn node(params: &Params<'_>) -> String {
    format!("{}/{}", params.text("ivrid"), params.text("nodeid"))
}

/// The configured commands for a node, each line ended by CRLF; an empty answer would end the call without saying so.
pub(super) fn answer(settings: &TenantSettings, node: &str) -> String {
    let lines = settings.voispeed_ivr.get(node).or_else(|| settings.voispeed_ivr.get("*"));
    let answer: String = lines.into_iter().flatten().map(|line| format!("{}\r\n", line.trim_end())).collect();
    if answer.trim().is_empty() { "command=0\r\n".to_owned() } else { answer }
}

fn state(params: &Params<'_>, received_at: i64) -> CallState {
    let mut state = CallState::default();
    state.call.start(Rank::Guess, received_at);
    // `call_in` knows better, should its numbers have been rewritten since.
    state.call.text(Text::From, Rank::Receipt, params.text("calling"));
    state.call.text(Text::To, Rank::Receipt, params.text("called"));
    if let Some(input) = params.get("input") {
        state.digits(node(params), input);
    }
    // The older variant names the company by one id, and says 0 for no tag where the newer says −1.
    for name in ["license_id", "domain", "companyid"] {
        state.attribute(name, params.text(name));
    }
    state.attribute("tag", params.get("tag").filter(|tag| !matches!(*tag, "0" | "-1")).unwrap_or_default());
    state
}
