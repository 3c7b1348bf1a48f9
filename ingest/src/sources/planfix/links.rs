//! The links to recordings in Planfix messages: `record_link` of `cmd=record` and of a COMPLETED.

use trunklog_storage::event::{Event, Micros, Source};

use crate::fetch::FetchRequest;
use crate::form::Form;

/// The link in a stored message; `None` if there is none.
pub fn of_event(event: &Event) -> Option<FetchRequest> {
    in_fields(&event.tenant, event.received_at, &Form::of_event(event).ok()?)
}

/// The link in the fields of a message.
pub fn in_fields(tenant: &str, received_at: Micros, fields: &Form<'_>) -> Option<FetchRequest> {
    let names_a_file = match fields.get("cmd")? {
        "record" => true,
        "event" => fields.get("event").is_some_and(|step| step.eq_ignore_ascii_case("COMPLETED")),
        _ => false,
    };
    if !names_a_file {
        return None;
    }
    Some(FetchRequest {
        tenant: tenant.to_owned(),
        source: Source::Planfix,
        call_key: fields.text("callid")?.to_owned(),
        url: fields.text("record_link")?.to_owned(),
        is_temp: fields.get("is_temp") == Some("1"),
        received_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::fixture::{AT, posted};

    #[test]
    fn which_messages_link_to_a_file() {
        let link = |body: &str| of_event(&posted(Source::Planfix, "planfix.post", body));
        let url = "record_link=https%3A%2F%2Fpbx.example%2Fa.mp3%3Ft%3D1";
        let permanent = link(&format!("cmd=record&callid=A1&{url}&planfix_token=REDACTED")).expect("a link");
        assert_eq!((permanent.call_key.as_str(), permanent.url.as_str()), ("A1", "https://pbx.example/a.mp3?t=1"));
        assert_eq!((permanent.tenant.as_str(), permanent.received_at, permanent.is_temp), ("acme", AT, false));
        assert!(link(&format!("cmd=record&callid=A1&{url}&is_temp=1")).is_some_and(|link| link.is_temp));
        assert!(link(&format!("cmd=event&type=in&event=completed&callid=A1&ext=7&{url}")).is_some());
        for body in [
            "cmd=record&callid=A1".to_owned(),
            "cmd=record&callid=A1&record_link=".to_owned(),
            format!("cmd=record&{url}"),
            format!("cmd=event&event=ACCEPTED&callid=A1&{url}"),
            format!("cmd=contact&callid=A1&{url}"),
            format!("callid=A1&{url}"),
        ] {
            assert_eq!(link(&body), None, "{body}");
        }
    }
}
