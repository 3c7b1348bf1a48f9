//! Placetel: four kinds of notification, none of which carries a time.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Call, Draft, chance, one_of};

const ENDS: [&str; 7] = ["missed", "voicemail", "blocked", "busy", "canceled", "unavailable", "congestion"];

pub(super) fn script(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let outgoing = chance(dice, 40);
    let (first, direction) = if outgoing { ("OutgoingCall", "out") } else { ("IncomingCall", "in") };
    let direction = if chance(dice, 50) { format!("&direction={direction}") } else { String::new() };
    let peer = one_of(dice, &["&peer=a%40fpbx.de", "&peer=b%40fpbx.de"]);
    let start = if outgoing { peer } else { "" };
    let mut script = vec![notice(call, first, &format!("{direction}{start}"))];
    if chance(dice, 10) {
        // A contact centre's number: it never says that a call ended.
        return script;
    }
    if chance(dice, 60) {
        if chance(dice, 80) {
            script.push(notice(call, "CallAccepted", &format!("{direction}{peer}")));
        }
        let talk = dice.random_range(0..120);
        script.push(notice(call, "HungUp", &format!("{direction}&type=accepted&duration={talk}")));
    } else {
        script.push(hung_up(dice, call));
    }
    script
}

fn hung_up(dice: &mut StdRng, call: &Call) -> Draft {
    let end = one_of(dice, &ENDS);
    notice(call, "HungUp", &format!("&type={end}&duration=0"))
}

fn notice(call: &Call, name: &str, more: &str) -> Draft {
    let body = format!("call_id={}&event={name}&from=0301111111&to=0222222222{more}", call.key);
    Draft::form(call.source, "notify", body)
}

/// A notification that was held up.
pub(super) fn afterwards(dice: &mut StdRng, call: &Call) -> Draft {
    match dice.random_range(0..3) {
        0 => notice(call, "CallAccepted", "&peer=c%40fpbx.de"),
        1 => notice(call, "IncomingCall", ""),
        _ => hung_up(dice, call),
    }
}
