//! Kazoo and VirtualPBX: a pivot request or two, webhooks of the A-leg and of the legs that rang, debug documents.

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use super::{Call, Draft, JSON, chance, gregorian, one_of};

pub(super) fn script(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let mut script = Vec::new();
    if chance(dice, 50) {
        script.push(pivot(dice, call, ""));
        if chance(dice, 30) {
            let digits = format!("&Digits[menu]={}", dice.random_range(0..4));
            script.push(pivot(dice, call, &digits));
        }
    }
    if chance(dice, 15) {
        // Nothing but the request is ever heard of this one.
        return script;
    }
    let by_resource = one_of(dice, &["", "&authorizing_type=resource", "&resource_type=offnet-origination"]);
    let a_leg = format!("call_id={}&call_direction=inbound{by_resource}", call.key);
    let answered = chance(dice, 60);
    let talk = dice.random_range(1..90);
    script.push(hook(call, "channel_create", &a_leg, 0));
    b_legs(dice, call, answered, talk, &mut script);
    if answered {
        script.push(hook(call, "channel_answer", &a_leg, 8));
    }
    let end = destroyed(dice, answered, if answered { talk } else { 0 });
    script.push(hook(call, "channel_destroy", &format!("{a_leg}{end}"), 8 + talk));
    script
}

/// The attempts to reach somebody. One of them answers; a leg may not know its A-leg at first.
fn b_legs(dice: &mut StdRng, call: &Call, answered: bool, talk: i64, script: &mut Vec<Draft>) {
    let count = dice.random_range(1..4);
    for number in 1..=count {
        let alone = format!("call_id={}-b{number}&call_direction=outbound&owner_id=user-{number}", call.key);
        let leg = format!("{alone}&other_leg_call_id={}", call.key);
        let first = if chance(dice, 15) { &alone } else { &leg };
        script.push(hook(call, "channel_create", first, number));
        let taken = answered && number == count;
        if taken {
            script.push(hook(call, "channel_answer", &leg, 8));
            script.push(hook(call, "channel_bridge", &leg, 8));
        }
        let end = if taken { destroyed(dice, true, talk) } else { lost(dice, answered) };
        script.push(hook(call, "channel_destroy", &format!("{leg}{end}"), if taken { 8 + talk } else { 8 }));
    }
}

fn hook(call: &Call, name: &str, leg: &str, seconds: i64) -> Draft {
    let body = format!(
        "hook_event={name}&{leg}&timestamp={}&caller_id_number=0301111111&caller_id_name=Ann&from=0301111111%40h\
         &to=3004%40h&request=3004%40h&interaction_id=i-{}",
        gregorian(call.after(seconds)),
        call.key
    );
    Draft::form(call.source, "hook", body)
}

fn destroyed(dice: &mut StdRng, answered: bool, talk: i64) -> String {
    if answered {
        return format!(
            "&hangup_cause=NORMAL_CLEARING&hangup_code=sip:200&duration_seconds={}&ringing_seconds=8&billing_seconds={talk}",
            talk + 8
        );
    }
    let cause = one_of(dice, &["ORIGINATOR_CANCEL", "NO_ANSWER", "USER_BUSY", "CALL_REJECTED", "SUBSCRIBER_ABSENT"]);
    format!("&hangup_cause={cause}&hangup_code=sip:480&duration_seconds=8&ringing_seconds=8&billing_seconds=0")
}

/// The end of a leg that did not get the call.
fn lost(dice: &mut StdRng, answered: bool) -> String {
    if answered {
        return "&hangup_cause=LOSE_RACE&duration_seconds=8&ringing_seconds=8&billing_seconds=0".to_owned();
    }
    destroyed(dice, false, 0)
}

fn pivot(dice: &mut StdRng, call: &Call, more: &str) -> Draft {
    let body =
        format!("Call-ID={}&From=0301111111&To=3004&Request=3004&Caller-ID-Name=Ann&Language=de{more}", call.key);
    let draft = Draft::form(call.source, "pivot", body);
    if chance(dice, 50) { draft.in_query() } else { draft }
}

/// What the PBX logged of its own pivot request, or a final message that was held up.
pub(super) fn afterwards(dice: &mut StdRng, call: &Call) -> Draft {
    if chance(dice, 40) {
        let leg = format!("call_id={}&call_direction=inbound", call.key);
        let end = destroyed(dice, true, 30);
        return hook(call, "channel_destroy", &format!("{leg}{end}"), 38);
    }
    let id = format!("{}-{}", call.key, dice.random_range(0..3));
    let document = if chance(dice, 50) {
        let uri = format!("http://pivot.example/in?Call-ID={}&From=0301111111&To=3004", call.key);
        json!({"id": id, "uri": uri, "method": "get", "created": gregorian(call.start)})
    } else {
        json!({"id": id, "call_id": call.key, "resp_status_code": "200", "has_schema_errors": chance(dice, 20)})
    };
    Draft::new(call.source, "debug", JSON, document.to_string())
}
