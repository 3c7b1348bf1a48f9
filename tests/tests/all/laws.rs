//! The laws of the fold, for messages of all five sources as their own decoders read them: any order, any
//! repetition, any split into batches and any way through a stored row gives the same call.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;
use trunklog_ingest::{SharedSettings, adapters};
use trunklog_storage::call::CallState;
use trunklog_storage::event::{Event, Micros, Offset, Source};
use trunklog_storage::fact::{CallRef, Decoder, decode_safely};

/// 2026-01-02T03:04:05Z, in microseconds and in Kazoo's gregorian seconds.
const MORNING: Micros = 1_767_323_045_000_000;
const GREGORIAN: i64 = 63_934_542_245;
const FORM: &str = "application/x-www-form-urlencoded";

fn event(source: Source, kind: &str, content_type: &str, body: String, second: i64) -> Event {
    Event {
        id: format!("{kind}-{second}").into(),
        tenant: "acme".into(),
        source,
        kind: kind.into(),
        received_at: MORNING + second * 1_000_000 + 7,
        subject: None,
        structured: false,
        method: Some("POST".into()),
        path: Some(format!("/in/{source}").into()),
        query: None,
        headers: Default::default(),
        content_type: Some(content_type.into()),
        error: None,
        payload: body.into_bytes().into(),
    }
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(words)
}

fn placetel() -> impl Strategy<Value = Event> {
    let kinds = one_of(&["IncomingCall", "OutgoingCall", "CallAccepted", "HungUp"]);
    let types =
        one_of(&["voicemail", "missed", "blocked", "accepted", "busy", "canceled", "unavailable", "congestion"]);
    let peers = one_of(&["", "&peer=a%40fpbx.de", "&peer=b%40fpbx.de"]);
    let directions = one_of(&["", "&direction=in", "&direction=out"]);
    (kinds, types, peers, directions, one_of(&["0", "5", "61"]), 0..400_i64).prop_map(
        |(kind, end, peer, direction, duration, second)| {
            let hung_up = if kind == "HungUp" { format!("&type={end}&duration={duration}") } else { String::new() };
            let body = format!("call_id=k{direction}&event={kind}&from=0301111111&to=0222222222{peer}{hung_up}");
            event(Source::Placetel, "placetel.notify", FORM, body, second)
        },
    )
}

fn planfix() -> impl Strategy<Value = Event> {
    let kinds = one_of(&["INCOMING", "OUTGOING", "ACCEPTED", "COMPLETED", "record"]);
    let statuses = one_of(&[
        "Success",
        "Missed",
        "Canceled",
        "Cancelled",
        "Busy",
        "NoAnswer",
        "NotAvailable",
        "NotAllowed",
        "Odd",
    ]);
    (kinds, statuses, one_of(&["101", "102", "103"]), one_of(&["in", "out"]), one_of(&["", "0", "61"]), 0..400_i64).prop_map(
        |(kind, status, ext, direction, duration, second)| {
            let body = match kind {
                "record" => format!("cmd=record&callid=k&record_link=https%3A%2F%2Fh%2F{duration}.mp3"),
                "COMPLETED" => format!(
                    "cmd=event&type={direction}&event={kind}&phone=79990001122&diversion=74950001122&ext={ext}&callid=k&duration={duration}&is_recorded=1&status={status}&data_utm={status}"
                ),
                _ => format!("cmd=event&type={direction}&event={kind}&phone=79990001122&diversion=74950001122&ext={ext}&callid=k"),
            };
            event(Source::Planfix, "planfix.post", FORM, body, second)
        },
    )
}

fn kazoo(source: Source) -> impl Strategy<Value = Event> {
    let kinds = one_of(&["pivot", "channel_create", "channel_answer", "channel_bridge", "channel_destroy"]);
    let legs = one_of(&["", "b1", "b2"]);
    let causes =
        one_of(&["NORMAL_CLEARING", "ORIGINATOR_CANCEL", "NO_ANSWER", "USER_BUSY", "LOSE_RACE", "CALL_REJECTED"]);
    let resources = one_of(&["", "&authorizing_type=resource", "&authorizing_type=device&authorizing_id=dev1"]);
    (kinds, legs, causes, resources, 0..60_i64, 0..400_i64).prop_map(move |(kind, leg, cause, resource, billing, second)| {
        if kind == "pivot" {
            let body = format!("Call-ID=k&From=1001&To=3004&Request=3004&Caller-ID-Name=Ann+{billing}&Digits[pin]={billing}");
            return event(source, &format!("{source}.pivot"), FORM, body, second);
        }
        let which = if leg.is_empty() {
            "call_id=k&call_direction=inbound".to_owned()
        } else {
            format!("call_id={leg}&other_leg_call_id=k&call_direction=outbound&owner_id=user-{leg}")
        };
        let end = if kind == "channel_destroy" {
            format!("&hangup_cause={cause}&hangup_code=sip:480&duration_seconds={}&ringing_seconds=8&billing_seconds={billing}", billing + 8)
        } else {
            String::new()
        };
        let body = format!(
            "hook_event={kind}&{which}{resource}&timestamp={}&caller_id_number=1001&caller_id_name=Ann&from=1001%40h&to=3004%40h&request=3004%40h{end}",
            GREGORIAN + second
        );
        event(source, &format!("{source}.hook"), FORM, body, second + 1)
    })
}

fn voispeed_user() -> impl Strategy<Value = Event> {
    let kinds = select(vec![
        (8, "incoming_call"),
        (9, "outgoing_call"),
        (10, "new_voicemail"),
        (12, "lost_call"),
        (14, "call_answered"),
        (15, "call_rejected"),
        (16, "call_disconnect_out"),
        (17, "call_disconnect_in"),
    ]);
    (kinds, one_of(&["35", "36"]), 0..60_i64, any::<bool>()).prop_map(|((code, name), ext, second, clock)| {
        let clock = if clock { format!("&datetime=2026-01-02+04:04:{second:02}") } else { String::new() };
        let body =
            format!("event_type=2&event={code}&event_name={name}&ext={ext}&number=0212345678&usercallid=k{clock}");
        event(Source::Voispeed, "voispeed.event", FORM, body, second)
    })
}

fn voispeed_system() -> impl Strategy<Value = Event> {
    let kinds = select(vec![
        (1, "call_in", "calling=0212345678&called=073333655434&calling_id=3&calling_type=2"),
        (3, "call_out", "calling=0212345678&called=35&called_id=12&called_type=0"),
        (4, "call_response", "sender_id=12&sender_type=0&outcome=1&connected_id=12&connected_type=0"),
        (4, "call_response", "sender_id=13&sender_type=0&outcome=5"),
        (5, "disconnect_in", "sender_id=3&sender_type=2"),
        (7, "call_transfer", "sender_id=12&sender_type=0&recipient_id=14&recipient_type=0&refer_id=r"),
        (9, "call_divert", "sender_id=12&sender_type=0&recipient_id=13&recipient_type=0"),
        (10, "call_terminated", "outcome=1"),
        (10, "call_terminated", "outcome=9"),
        (11, "call_held", "user_id=12"),
        (12, "call_retrieved", "user_id=12"),
    ]);
    (kinds, 0..60_i64).prop_map(|((code, name, fields), second)| {
        let body = format!(
            "event_type=1&event={code}&event_name={name}&call_id=k&{fields}&datetime=2026-01-02+04:04:{second:02}"
        );
        event(Source::Voispeed, "voispeed.event", FORM, body, second)
    })
}

fn voispeed_report() -> impl Strategy<Value = Event> {
    (one_of(&["1", "2", "5"]), 0..60_i64, any::<bool>()).prop_map(|(outcome, second, user)| {
        let start = format!("<start_time>2026-01-02 04:04:{second:02}</start_time><duration>{second}</duration><outcome>{outcome}</outcome>");
        let (kind, rest) = if user {
            let rest = format!("<id>{second}</id><callid>k</callid><answer_time>1899-12-30 00:00:00</answer_time><direction>1</direction><my_number>35</my_number><remote_number>0212345678</remote_number><local_id>9</local_id>");
            ("voispeed.user_call_report", rest)
        } else {
            let rest = format!("<id>k</id><calling_number>0212345678</calling_number><called_number>35</called_number><ring_time>{second}</ring_time><talk_time>{second}</talk_time><internal>0</internal>");
            ("voispeed.call_report", rest)
        };
        event(Source::Voispeed, kind, "text/xml", format!("<call>{rest}{start}</call>"), second)
    })
}

fn voispeed() -> impl Strategy<Value = Event> {
    let ivr = (one_of(&["1", "2"]), 0..60_i64).prop_map(|(input, second)| {
        let body = format!(
            "license_id=L&domain=d&ivrid=9&nodeid=0&callid=k&calling=0212345678&called=12345&input={input}&tag=-1"
        );
        event(Source::Voispeed, "voispeed.ivr", FORM, body, second)
    });
    prop_oneof![4 => voispeed_user(), 6 => voispeed_system(), 1 => voispeed_report(), 1 => ivr]
}

/// Messages of one call, and a second delivery of them: some twice, in another order, cut into batches.
fn deliveries(message: impl Strategy<Value = Event>) -> impl Strategy<Value = (Vec<Event>, Vec<usize>, usize)> {
    let messages = prop::collection::vec(message, 1..12);
    messages.prop_flat_map(|messages| {
        let count = messages.len();
        let again = prop::collection::vec(0..count, 0..4);
        let order = again.prop_flat_map(move |again| Just((0..count).chain(again).collect::<Vec<_>>()).prop_shuffle());
        (Just(messages), order, 1..5_usize)
    })
}

/// What each message says about call `k`, with its delivery.
fn facts(decoder: &dyn Decoder, messages: &[Event]) -> Vec<Option<CallState>> {
    let fact = |(index, message): (usize, &Event)| {
        let decoded = decode_safely(decoder, message);
        assert_eq!(decoded.error, None, "{message:?}");
        let (reference, state) = decoded.fact?;
        let mut state = (*state).clone();
        assert_eq!(reference, CallRef::Key("k".into()), "{message:?}");
        state.delivered(message.received_at, Offset(index as u64));
        Some(state)
    };
    messages.iter().enumerate().map(fact).collect()
}

fn fold(states: impl IntoIterator<Item = CallState>) -> CallState {
    states.into_iter().fold(CallState::default(), |mut whole, state| {
        whole.merge(state);
        whole
    })
}

/// Through the form in which a row keeps it.
fn stored(state: &CallState) -> CallState {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

fn check(source: Source, messages: &[Event], order: &[usize], batch: usize) -> Result<(), TestCaseError> {
    let decoder = adapters(SharedSettings::default());
    let facts = facts(&*decoder, messages);
    let whole = fold(facts.iter().flatten().cloned());
    let reordered: Vec<CallState> = order.iter().filter_map(|index| facts[*index].clone()).collect();
    let batches = reordered.chunks(batch).map(|batch| stored(&fold(batch.iter().cloned())));
    let mut parts: Vec<CallState> = batches.collect();
    parts.reverse();
    let other = fold(parts);
    prop_assert_eq!(&whole, &other);
    prop_assert_eq!(whole.row("acme", source), other.row("acme", source));
    let mut twice = whole.clone();
    twice.merge(stored(&whole));
    prop_assert_eq!(&whole, &twice);
    Ok(())
}

/// A message is read alike under the name that its route gave it and under the name it is stored by.
fn check_names(decoder: &Arc<dyn Decoder>, message: &Event) -> Result<(), TestCaseError> {
    let first = decode_safely(&**decoder, message);
    let mut named = message.clone();
    named.kind.clone_from(&first.kind);
    let second = decode_safely(&**decoder, &named);
    prop_assert_eq!(
        (&first.kind, first.fingerprint, first.occurred_at),
        (&second.kind, second.fingerprint, second.occurred_at)
    );
    prop_assert_eq!((first.call_key, first.fact, first.error), (second.call_key, second.fact, second.error));
    Ok(())
}

fn everyday() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(everyday())]

    #[test]
    fn kazoo_calls_fold_alike((messages, order, batch) in deliveries(kazoo(Source::Kazoo))) {
        check(Source::Kazoo, &messages, &order, batch)?;
    }

    #[test]
    fn virtualpbx_calls_fold_alike((messages, order, batch) in deliveries(kazoo(Source::Virtualpbx))) {
        check(Source::Virtualpbx, &messages, &order, batch)?;
    }

    #[test]
    fn placetel_calls_fold_alike((messages, order, batch) in deliveries(placetel())) {
        check(Source::Placetel, &messages, &order, batch)?;
    }

    #[test]
    fn voispeed_calls_fold_alike((messages, order, batch) in deliveries(voispeed())) {
        check(Source::Voispeed, &messages, &order, batch)?;
    }

    #[test]
    fn planfix_calls_fold_alike((messages, order, batch) in deliveries(planfix())) {
        check(Source::Planfix, &messages, &order, batch)?;
    }

    #[test]
    fn a_stored_message_is_read_as_when_it_came(
        message in prop_oneof![kazoo(Source::Kazoo), kazoo(Source::Virtualpbx), placetel(), voispeed(), planfix()]
    ) {
        check_names(&adapters(SharedSettings::default()), &message)?;
    }
}
