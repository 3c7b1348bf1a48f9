//! Planfix: events of each extension that rang, without times, and links to recordings.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Call, Draft, chance, one_of};

const EXTENSIONS: [&str; 3] = ["101", "102", "103"];

pub(super) fn script(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    let outgoing = chance(dice, 30);
    let (kind, first) = if outgoing { ("out", "OUTGOING") } else { ("in", "INCOMING") };
    let count = if outgoing { 1 } else { dice.random_range(1..=EXTENSIONS.len()) };
    let rang = &EXTENSIONS[..count];
    let mut script: Vec<Draft> = rang.iter().map(|extension| event(call, kind, first, extension, "")).collect();
    let taken = chance(dice, 60).then(|| one_of(dice, rang));
    if let Some(extension) = taken.filter(|_| chance(dice, 80)) {
        script.push(event(call, kind, "ACCEPTED", extension, ""));
    }
    for extension in rang {
        let status = match taken {
            Some(taken) if taken == *extension => "Success",
            Some(_) => one_of(dice, &["Canceled", "Cancelled"]),
            None => one_of(dice, &["Missed", "NoAnswer", "Busy", "NotAvailable", "NotAllowed"]),
        };
        let talk = if status == "Success" { one_of(dice, &["", "0", "61"]) } else { "" };
        let recorded = u8::from(status == "Success" && chance(dice, 50));
        let more = format!("&duration={talk}&is_recorded={recorded}&status={status}&data_utm={}", call.key);
        script.push(event(call, kind, "COMPLETED", extension, &more));
    }
    if chance(dice, 40) {
        script.push(record(dice, call));
    }
    script
}

fn event(call: &Call, kind: &str, name: &str, extension: &str, more: &str) -> Draft {
    let body = format!(
        "cmd=event&type={kind}&event={name}&phone=79990001122&diversion=74950001122&ext={extension}&callid={}{more}",
        call.key
    );
    Draft::form(call.source, "post", body)
}

fn record(dice: &mut StdRng, call: &Call) -> Draft {
    let link = format!("https%3A%2F%2Frecords.example%2F{}-{}.mp3", call.key, dice.random_range(0..2));
    Draft::form(call.source, "post", format!("cmd=record&callid={}&record_link={link}", call.key))
}

/// A link to the recording may come late, and so may a start.
pub(super) fn afterwards(dice: &mut StdRng, call: &Call) -> Draft {
    if chance(dice, 70) {
        return record(dice, call);
    }
    let extension = one_of(dice, &EXTENSIONS);
    event(call, "in", "INCOMING", extension, "")
}
