//! VOIspeed: user events with and without an id, system events, IVR callbacks and rows of reports.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Call, Draft, chance, local, one_of};

pub(super) fn script(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    match dice.random_range(0..10) {
        0..3 => user(dice, call),
        3..7 => nameless(dice, call),
        _ => system(dice, call),
    }
}

fn datetime(call: &Call, seconds: i64) -> String {
    format!("&datetime={}", local(call.after(seconds), "%Y-%m-%d+%H:%M:%S"))
}

fn event(call: &Call, level: u8, code: u8, name: &str, more: &str, seconds: i64) -> Draft {
    let key = if level == 2 { "usercallid" } else { "call_id" };
    let clock = datetime(call, seconds);
    let body = format!("event_type={level}&event={code}&event_name={name}&{key}={}{more}{clock}", call.key);
    Draft::form(call.source, "event", body)
}

/// What one extension, or two, see of a call.
fn user(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let line = |ext: &str| format!("&ext={ext}&number=0212345678");
    let outgoing = chance(dice, 40);
    let (code, name) = if outgoing { (9, "outgoing_call") } else { (8, "incoming_call") };
    let mut script = vec![event(call, 2, code, name, &line("35"), 0)];
    if !outgoing && chance(dice, 40) {
        script.push(event(call, 2, 8, "incoming_call", &line("36"), 1));
        script.push(event(call, 2, 12, "lost_call", &line("36"), 9));
    }
    if chance(dice, 60) {
        script.push(event(call, 2, 14, "call_answered", &line("35"), 9));
        let (code, name) = one_of(dice, &[(16, "call_disconnect_out"), (17, "call_disconnect_in")]);
        script.push(event(call, 2, code, name, &line("35"), 70));
    } else {
        let (code, name) = one_of(dice, &[(12, "lost_call"), (15, "call_rejected"), (10, "new_voicemail")]);
        script.push(event(call, 2, code, name, &line("35"), 20));
    }
    script
}

/// Events without any id, on few extensions and with few numbers. Later ones may leave the number out.
fn nameless(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let ext = one_of(dice, &["31", "32"]);
    let number = one_of(dice, &["0212345678", "0687654321", "0~21"]);
    let mut events = vec![one_of(dice, &[(8, "incoming_call"), (9, "outgoing_call")])];
    if chance(dice, 60) {
        events.push((14, "call_answered"));
        events.push(one_of(dice, &[(16, "call_disconnect_out"), (17, "call_disconnect_in")]));
    } else {
        events.push(one_of(dice, &[(12, "lost_call"), (15, "call_rejected")]));
    }
    let mut script = Vec::new();
    for (index, (code, name)) in events.into_iter().enumerate() {
        let number = if index > 0 && chance(dice, 40) { String::new() } else { format!("&number={number}") };
        let body = format!("event_type=2&event={code}&event_name={name}&ext={ext}{number}");
        let draft = Draft::form(call.source, "event", body);
        script.push(if chance(dice, 30) { draft.in_query() } else { draft });
    }
    script
}

/// What the PBX sees: a call from a gateway to a user, held, transferred or diverted, with an IVR before it.
fn system(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let mut script = Vec::new();
    if chance(dice, 30) {
        let input = dice.random_range(0..4);
        let body = format!(
            "license_id=L&domain=d&ivrid=9&nodeid=0&callid={}&calling=0212345678&called=12345&input={input}&tag=-1",
            call.key
        );
        script.push(Draft::form(call.source, "ivr", body).in_query());
    }
    let caller = "&calling=0212345678&called=073333655434&calling_id=3&calling_type=2";
    script.push(event(call, 1, 1, "call_in", caller, 0));
    script.push(event(call, 1, 3, "call_out", "&calling=0212345678&called=35&called_id=12&called_type=0", 1));
    let answered = chance(dice, 60);
    if answered {
        let response = "&sender_id=12&sender_type=0&outcome=1&connected_id=12&connected_type=0";
        script.push(event(call, 1, 4, "call_response", response, 9));
        if chance(dice, 30) {
            script.push(event(call, 1, 11, "call_held", "&user_id=12", 20));
            script.push(event(call, 1, 12, "call_retrieved", "&user_id=12", 35));
        }
        if chance(dice, 30) {
            let transfer = "&sender_id=12&sender_type=0&recipient_id=14&recipient_type=0&refer_id=vs-1";
            script.push(event(call, 1, 7, "call_transfer", transfer, 40));
        }
        script.push(event(call, 1, 5, "disconnect_in", "&sender_id=3&sender_type=2", 70));
    } else if chance(dice, 50) {
        let divert = "&sender_id=12&sender_type=0&recipient_id=13&recipient_type=0";
        script.push(event(call, 1, 9, "call_divert", divert, 9));
    }
    let outcome = if answered { 1 } else { one_of(dice, &[2, 5, 9]) };
    script.push(event(call, 1, 10, "call_terminated", &format!("&outcome={outcome}"), 71));
    script
}

/// A row of a report, which knows better than all events.
pub(super) fn afterwards(dice: &mut StdRng, call: &Call) -> Draft {
    let start = local(call.start, "%Y-%m-%d %H:%M:%S");
    let outcome = one_of(dice, &[1, 2, 5]);
    let length = dice.random_range(5..90);
    let common = format!("<start_time>{start}</start_time><duration>{length}</duration>");
    let (kind, row) = match dice.random_range(0..3) {
        0 => (
            "user_call_report",
            format!(
                "<id>{}</id><callid>{}</callid><answer_time>1899-12-30 00:00:00</answer_time><direction>1</direction>\
                 <my_number>35</my_number><remote_number>0212345678</remote_number><outcome>{outcome}</outcome>",
                dice.random_range(1..50),
                call.key
            ),
        ),
        1 => (
            "current_calls",
            format!(
                "<id>{}</id><calling_number>0212345678</calling_number><codec>G711</codec><recording>1</recording>",
                call.key
            ),
        ),
        _ => (
            "call_report",
            format!(
                "<id>{}</id><calling_number>0212345678</calling_number><called_number>35</called_number>\
                 <ring_time>5</ring_time><talk_time>{length}</talk_time><internal>0</internal><outcome>{outcome}</outcome>",
                call.key
            ),
        ),
    };
    Draft::new(call.source, kind, "text/xml", format!("<call>{row}{common}</call>"))
}
