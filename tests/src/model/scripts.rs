//! Calls as each telephone system tells of them: which messages, in which order, with which times in them.

mod kazoo;
mod learnt;
mod placetel;
mod planfix;
mod voispeed;

use chrono::DateTime;
use rand::Rng;
use rand::rngs::StdRng;
use trunklog_storage::event::{Micros, Source};

pub(super) use learnt::{Recorded, decision, upload};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A call that messages tell of.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub tenant: &'static str,
    pub source: Source,
    /// The source's key; both tenants and both Kazoos have calls of the same key.
    pub key: String,
    /// When it starts by the clock of the telephone system.
    pub start: Micros,
}

impl Call {
    fn after(&self, seconds: i64) -> Micros {
        self.start + seconds * 1_000_000
    }
}

/// A message before it is sent.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub source: Source,
    /// As its route names it.
    pub kind: String,
    pub path: String,
    pub query: Option<String>,
    pub content_type: Option<&'static str>,
    pub body: String,
}

impl Draft {
    fn new(source: Source, kind: &str, content_type: &'static str, body: String) -> Draft {
        let (kind, path) = (format!("{source}.{kind}"), format!("/in/{source}"));
        Draft { source, kind, path, query: None, content_type: Some(content_type), body }
    }

    fn form(source: Source, kind: &str, body: String) -> Draft {
        Draft::new(source, kind, FORM, body)
    }

    /// The same as a GET.
    fn in_query(mut self) -> Draft {
        self.query = Some(std::mem::take(&mut self.body));
        self.content_type = None;
        self
    }
}

/// The messages of a call in the order in which they come about.
pub(super) fn script(dice: &mut StdRng, call: &Call) -> Vec<Draft> {
    match call.source {
        Source::Kazoo | Source::Virtualpbx => kazoo::script(dice, call),
        Source::Placetel => placetel::script(dice, call),
        Source::Voispeed => voispeed::script(dice, call),
        Source::Planfix => planfix::script(dice, call),
        Source::Trunklog => Vec::new(),
    }
}

/// Something that comes when the call may be long over.
pub(super) fn afterwards(dice: &mut StdRng, call: &Call) -> Draft {
    match call.source {
        Source::Kazoo | Source::Virtualpbx => kazoo::afterwards(dice, call),
        Source::Placetel => placetel::afterwards(dice, call),
        Source::Voispeed => voispeed::afterwards(dice, call),
        Source::Planfix | Source::Trunklog => planfix::afterwards(dice, call),
    }
}

/// A message that its source's decoder cannot understand.
pub(super) fn gibberish(dice: &mut StdRng, source: Source) -> Draft {
    let number = dice.random_range(0..5);
    match source {
        Source::Kazoo | Source::Virtualpbx => {
            Draft::form(source, "hook", format!("hook_event=channel_create&n={number}"))
        }
        Source::Voispeed => {
            Draft::new(source, "call_report", "text/xml", format!("<call><id></id><n>{number}</n></call>"))
        }
        _ => Draft::form(source, "notify", format!("cmd=%zz&event=Nothing&n={number}")),
    }
}

pub(super) fn one_of<T: Copy>(dice: &mut StdRng, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}

/// True in so many of a hundred cases.
pub(super) fn chance(dice: &mut StdRng, percent: u32) -> bool {
    dice.random_range(0..100) < percent
}

/// Kazoo's clock.
fn gregorian(at: Micros) -> i64 {
    at.div_euclid(1_000_000) + 62_167_219_200
}

/// A time without a zone, an hour ahead of UTC.
fn local(at: Micros, format: &str) -> String {
    DateTime::from_timestamp_micros(at + 3_600_000_000).unwrap().format(format).to_string()
}
