//! `POST /in/placetel`: always answered with XML, because the answer to an IncomingCall may control the call.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use trunklog_storage::event::Source;

use crate::IngestState;
use crate::accept::{Inbound, accept_events, stored};
use crate::form::{Form, is_json};
use crate::reject::Refusal;

/// The provisional type that the decoder replaces.
const KIND: &str = "placetel.notify";
/// Tells Placetel nothing: in notify mode the answer is ignored.
const EMPTY_ANSWER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>";

/// The one route.
pub fn routes() -> Router<IngestState> {
    Router::new().route("/in/placetel", post(notify)).route("/in/placetel/", post(notify))
}

async fn notify(State(state): State<IngestState>, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let limit = settings.limits.message_bytes;
    let inbound = Inbound::read(&state, request, Source::Placetel, limit, &[]).await?;
    check_media_type(&inbound.media_type())?;
    if inbound.is_empty() {
        return Err(Refusal::Unprocessable("the request has neither query nor body".to_owned()));
    }
    let event = inbound.event(KIND, inbound.body.clone());
    let fields = Form::of_event(&event).unwrap_or_default();
    let tenant = &inbound.tenant;
    let e164 = |number: &str| state.archive.decoder().e164(tenant, Source::Placetel, number);
    let answer = answer(&settings.of(tenant).placetel_answer, &fields, e164).to_owned();
    let receipts = accept_events(&state, vec![event]).await?;
    let response = ([(header::CONTENT_TYPE, "application/xml")], answer).into_response();
    Ok(match receipts.last() {
        Some(receipt) => stored(response, receipt),
        None => response,
    })
}

fn check_media_type(media_type: &str) -> Result<(), Refusal> {
    const FORMS: [&str; 5] =
        ["", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "application/octet-stream"];
    if FORMS.contains(&media_type) || is_json(media_type) {
        Ok(())
    } else {
        Err(Refusal::UnsupportedMediaType("a form or a JSON object is taken here".to_owned()))
    }
}

/// The configured answer to an IncomingCall: by the called number as sent, else the same number written another way,
/// else `*`.
fn answer<'a>(
    configured: &'a BTreeMap<String, String>,
    fields: &Form<'_>,
    e164: impl Fn(&str) -> Option<String>,
) -> &'a str {
    if fields.get("event") != Some("IncomingCall") {
        return EMPTY_ANSWER;
    }
    let called = fields.get("to").unwrap_or_default();
    let same_number = || {
        let wanted = e164(called)?;
        configured.iter().find(|(number, _)| e164(number).as_ref() == Some(&wanted)).map(|(_, answer)| answer)
    };
    let found = configured.get(called).or_else(same_number).or_else(|| configured.get("*"));
    found.map_or(EMPTY_ANSWER, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(query: &str) -> String {
        let configured = [("022129191999", "<one/>"), ("*", "<all/>")];
        let configured = configured.map(|(number, answer)| (number.to_owned(), answer.to_owned())).into();
        let fields = Form::parse(query.as_bytes()).expect("valid");
        let e164 = |number: &str| number.strip_prefix('0').map(|rest| format!("+49{rest}")).or(Some(number.to_owned()));
        answer(&configured, &fields, e164).to_owned()
    }

    #[test]
    fn only_incoming_calls_are_controlled() {
        assert_eq!(chosen("event=IncomingCall&to=022129191999"), "<one/>");
        assert_eq!(chosen("event=IncomingCall&to=%2B4922129191999"), "<one/>");
        assert_eq!(chosen("event=IncomingCall&to=030"), "<all/>");
        assert_eq!(chosen("event=HungUp&to=022129191999"), EMPTY_ANSWER);
        assert_eq!(answer(&BTreeMap::new(), &Form::default(), |_| None), EMPTY_ANSWER);
    }

    #[test]
    fn other_types_are_refused() {
        assert!(check_media_type("application/json").is_ok());
        assert!(check_media_type("image/png").is_err());
    }
}
