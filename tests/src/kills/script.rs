//! Calls as the five telephone systems tell of them, each message with what it means for its call.

use chrono::DateTime;

/// Seconds from year 0 to 1970: Kazoo counts from there.
const GREGORIAN: i64 = 62_167_219_200;
const FORM: &str = "application/x-www-form-urlencoded";
/// The systems, in turn.
const SOURCES: [&str; 5] = ["kazoo", "placetel", "planfix", "virtualpbx", "voispeed"];

/// What a message says of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It began.
    Start,
    /// It was answered.
    Answer,
    /// It ended, with this disposition.
    End(&'static str),
}

/// One message, as it is sent and as it must be found.
#[derive(Clone, Debug)]
pub struct Message {
    /// Telephone system.
    pub source: &'static str,
    /// Path of the request.
    pub path: String,
    /// Query; empty if there is none.
    pub query: String,
    /// Type of the body; without one the method is GET.
    pub content_type: Option<&'static str>,
    /// Body.
    pub body: String,
    /// Its call's key, and what it says of it.
    pub about: Option<(String, Stage)>,
}

/// All messages of call `number`, which began at `start` (Unix seconds): start, answer if it was answered, end. Every
/// fourth call is missed. Names and numbers tell each message from all others.
pub fn call(number: u64, start: i64) -> Vec<Message> {
    let source = SOURCES[(number % SOURCES.len() as u64) as usize];
    let key = format!("kill-{source}-{number}");
    let answered = !number.is_multiple_of(4);
    let end = Stage::End(if answered { "answered" } else { "missed" });
    let stages = if answered { vec![Stage::Start, Stage::Answer, end] } else { vec![Stage::Start, end] };
    stages.into_iter().map(|stage| message(source, &key, stage, start)).collect()
}

/// A message without a call, so long that a few fill a segment of the log.
pub fn pad(number: u64, bytes: usize) -> Message {
    let body = format!(
        r#"{{"hook_event":"object","action":"doc_created","type":"account","id":"pad-{number}","pad":"{}"}}"#,
        "x".repeat(bytes)
    );
    let content_type = Some("application/json");
    Message { source: "kazoo", path: "/in/kazoo/hook".into(), query: String::new(), content_type, body, about: None }
}

fn message(source: &'static str, key: &str, stage: Stage, start: i64) -> Message {
    let (path, query, body) = match source {
        "placetel" => ("/in/placetel".to_owned(), String::new(), placetel(key, stage)),
        "planfix" => ("/in/planfix".to_owned(), String::new(), planfix(key, stage)),
        "voispeed" => ("/in/voispeed/event".to_owned(), voispeed(key, stage, start), String::new()),
        kazoo => (format!("/in/{kazoo}/hook"), String::new(), hook(key, stage, start)),
    };
    let content_type = (!body.is_empty()).then_some(FORM);
    Message { source, path, query, content_type, body, about: Some((key.to_owned(), stage)) }
}

fn hook(key: &str, stage: Stage, start: i64) -> String {
    let (name, after, more) = match stage {
        Stage::Start => ("channel_create", 0, ""),
        Stage::Answer => ("channel_answer", 8, ""),
        Stage::End("answered") => (
            "channel_destroy",
            30,
            "&hangup_cause=NORMAL_CLEARING&hangup_code=sip%3A200&duration_seconds=30&ringing_seconds=8&billing_seconds=22",
        ),
        Stage::End(_) => {
            ("channel_destroy", 30, "&hangup_cause=NO_ANSWER&duration_seconds=30&ringing_seconds=30&billing_seconds=0")
        }
    };
    let at = start + GREGORIAN + after;
    format!(
        "hook_event={name}&call_id={key}&account_id=0123456789abcdef0123456789abcdef&timestamp={at}\
         &caller_id_name=Ann&caller_id_number=%2B35316877779&callee_id_number=0871234567&callee_id_name=Desk\
         &from=%2B35316877779%40acme.sip&to=0871234567%40acme.sip&request=0871234567%40acme.sip\
         &call_direction=inbound&authorizing_id=res1&authorizing_type=resource{more}"
    )
}

fn placetel(key: &str, stage: Stage) -> String {
    let event = match stage {
        Stage::Start => "IncomingCall",
        Stage::Answer => "CallAccepted",
        Stage::End("answered") => "HungUp&type=accepted&duration=61",
        Stage::End(_) => "HungUp&type=missed&duration=0",
    };
    format!("call_id={key}&direction=in&from=022129191999&to=022199998560&event={event}")
}

fn planfix(key: &str, stage: Stage) -> String {
    let event = match stage {
        Stage::Start => "INCOMING",
        Stage::Answer => "ACCEPTED",
        Stage::End("answered") => "COMPLETED&duration=61&is_recorded=0&status=Success",
        Stage::End(_) => "COMPLETED&duration=0&is_recorded=0&status=Missed",
    };
    format!("cmd=event&phone=79990001122&diversion=74950001122&type=in&ext=102&callid={key}&event={event}")
}

fn voispeed(key: &str, stage: Stage, start: i64) -> String {
    let (name, code, after) = match stage {
        Stage::Start => ("incoming_call", 8, 0),
        Stage::Answer => ("call_answered", 14, 8),
        Stage::End("answered") => ("call_disconnect_in", 17, 30),
        Stage::End(_) => ("lost_call", 12, 30),
    };
    let at = DateTime::from_timestamp(start + after, 0).unwrap().format("%Y-%m-%d+%H%%3A%M%%3A%S");
    format!("event_type=2&event={code}&event_name={name}&ext=35&number=0212345678&usercallid={key}&datetime={at}")
}
