//! Recordings that a Kazoo uploads, and what trunklog itself finds out about recordings and decides.

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use trunklog_storage::call::{CallState, Mark, Rank};
use trunklog_storage::event::Source;
use trunklog_storage::recording::message::UPLOAD_TYPE;
use trunklog_storage::recording::recording_id;

use super::{Call, Draft, JSON, chance, gregorian, one_of};

/// A recording that was uploaded.
#[derive(Clone, Debug)]
pub(in super::super) struct Recorded {
    pub tenant: &'static str,
    pub source: Source,
    pub id: String,
}

fn audio(dice: &mut StdRng) -> (String, Value) {
    let number = dice.random_range(1..4);
    let sha256 = format!("{number:064x}");
    let upload = json!({
        "sha256": sha256,
        "bytes": 1000 * number,
        "object": format!("recordings/acme/2026-01-02/{number}-{}", dice.random_range(0..1000)),
        "media_type": "audio/mpeg",
    });
    (sha256, upload)
}

/// An upload: most name their call, some only a file.
pub(in super::super) fn upload(dice: &mut StdRng, call: &Call) -> (Draft, Recorded) {
    let (sha256, upload) = audio(dice);
    let named = chance(dice, 70);
    let file = if named {
        format!("call_recording_{}.mp3", call.key)
    } else {
        format!("take-{}.mp3", dice.random_range(0..4))
    };
    let key = if named { call.key.as_str() } else { file.as_str() };
    let id = recording_id(call.tenant, call.source, key, None, &sha256);
    let mut draft = Draft::new(call.source, "recording", UPLOAD_TYPE, upload.to_string());
    draft.path = format!("/in/{}/recordings/{file}", call.source);
    draft.query = chance(dice, 60).then(|| {
        let start = gregorian(call.after(8));
        format!("from=0301111111%40h&to=3004%40h&start={start}&duration_ms={}", 1000 * dice.random_range(1..9))
    });
    (draft, Recorded { tenant: call.tenant, source: call.source, id })
}

/// What trunklog notes about a recording or a call of the same tenant and source.
pub(in super::super) fn decision(dice: &mut StdRng, call: &Call, recorded: Option<&Recorded>) -> Draft {
    let own = recorded.filter(|recorded| (recorded.tenant, recorded.source) == (call.tenant, call.source));
    // A decision may come before the recording that it is about, as far as the log knows.
    let id = own.map_or_else(|| format!("{:032x}", dice.random_range(0..3_u32)), |recorded| recorded.id.clone());
    let source = call.source.as_str();
    let (kind, payload) = match dice.random_range(0..10) {
        0..4 => {
            let confidence = one_of(dice, &[0.5, 0.75, 0.9]);
            let payload = json!({"source": source, "recording_id": id, "call_key": call.key, "rule": "near",
                                 "confidence": confidence});
            (one_of(dice, &["link", "link", "unlink"]), payload)
        }
        4..7 => {
            let error = chance(dice, 20).then_some("broken off");
            let length = 1000 * dice.random_range(1..9);
            let payload = json!({"source": source, "recording_id": id, "container": "mp3", "codec": "mp3",
                                 "channels": 1, "duration_ms": length, "error": error});
            ("probe", payload)
        }
        7..9 if matches!(call.source, Source::Kazoo | Source::Virtualpbx | Source::Voispeed) => {
            (one_of(dice, &["link", "link", "link", "unlink"]), tie(dice, call))
        }
        _ => {
            let (_, upload) = audio(dice);
            let outcome = one_of(dice, &["started", "stored", "failed"]);
            let upload = if outcome == "stored" { upload } else { Value::Null };
            let url = format!("https://records.example/{}-0.mp3", call.key);
            let payload = json!({"source": source, "call_key": call.key, "url": url, "outcome": outcome,
                                 "attempts": 1, "upload": upload});
            ("fetch", payload)
        }
    };
    Draft::new(Source::Trunklog, kind, JSON, payload.to_string())
}

/// One half of a decision about two calls: a Kazoo's leg that named no call at first and its call, or related ones.
fn tie(dice: &mut StdRng, call: &Call) -> Value {
    let leg_key = format!("{}-b{}", call.key, dice.random_range(1..3));
    let bond = if call.source == Source::Voispeed { "related" } else { one_of(dice, &["leg", "leg", "related"]) };
    let about = one_of(dice, &["from", "to"]);
    let mut tie = json!({"source": call.source.as_str(), "from": leg_key, "to": call.key, "about": about,
                         "bond": bond, "rule": "other_leg", "confidence": 1.0});
    if (bond, about) == ("leg", "to") {
        let mut leg = CallState::default();
        leg.call.mark(Mark::BLeg);
        leg.leg(leg_key).start(Rank::Message, call.after(1)).mark(Mark::Started);
        tie["leg"] = serde_json::to_value(leg).unwrap();
    }
    tie
}
