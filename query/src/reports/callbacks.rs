//! `callbacks`: who was missed, and what came of it.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use compact_str::CompactString;
use serde_json::json;
use trunklog_storage::event::Micros;

use super::answer::Answer;
use super::calendar::Interval;
use super::call::Call;
use super::cells::Key;
use super::dimension::{Dimension, Filters};
use super::family::{Basis, CallFamily, OfCalls};
use super::grouped::{group_columns, group_of, group_reads, groups_without};
use super::histogram::Histogram;
use super::request::Request;
use super::table::{Cell, Column, StaticColumn, Table, Type, column};

/// The columns.
pub(crate) const COLUMNS: [StaticColumn; 6] = [
    column("number", Type::Text, None, "callbacks/1", "who was missed, as E.164"),
    column("last_missed_at", Type::Time, None, "callbacks/1", "end of the last missed call"),
    column("tries", Type::Whole, Some("calls"), "callbacks/1", "missed calls"),
    column(
        "state",
        Type::Text,
        None,
        "callback_state/1",
        "called_back, caller_came_back, attempted, still_open or never",
    ),
    column("first_attempt_at", Type::Time, None, "callbacks/1", "first call to the number afterwards"),
    column("time_to_callback_ms", Type::Whole, Some("ms"), "time_to_callback/1", "from the last missed call to it"),
];

/// The five states, in the order in which they are looked for.
const STATES: [&str; 5] = ["called_back", "caller_came_back", "attempted", "still_open", "never"];

const HOUR: Micros = 3_600_000_000;

/// What a call means to a number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Contact {
    /// It was missed, until when it rang, and the group of the call.
    Missed(Micros, Vec<Key>),
    /// It was called.
    Attempted,
    /// It was called, and answered.
    Reached,
    /// It called, and was answered.
    CameBack,
}

type Contacts = HashMap<CompactString, Vec<(Micros, Contact)>, RandomState>;

/// What some calls come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    contacts: Contacts,
    /// Starts of missed calls whose number is not known as E.164.
    nameless: Vec<Micros>,
    /// Starts of open calls.
    open: Vec<Micros>,
}

/// One question.
pub(crate) struct Callbacks {
    filters: Filters,
    group_by: Vec<Dimension>,
}

/// What came of one number.
struct Outcome<'a> {
    number: &'a CompactString,
    group: &'a [Key],
    last_missed_at: Micros,
    tries: u64,
    state: &'static str,
    first_attempt_at: Option<Micros>,
}

impl Callbacks {
    /// The question of this request.
    pub fn of(request: &Request) -> Callbacks {
        Callbacks { filters: request.filters.clone(), group_by: groups(request) }
    }

    /// The columns of the answer.
    pub fn columns(request: &Request) -> Vec<Column> {
        group_columns(&groups(request)).into_iter().chain(COLUMNS.map(Column::from)).collect()
    }

    /// The answer, as of `now`.
    pub fn answer(request: &Request, total: OfCalls<Known>, now: Micros) -> Answer {
        let interval = request.interval;
        let window = request.options.whole("within_h").saturating_mul(HOUR);
        let known = total.inner;
        let found = known.contacts.iter().flat_map(|(number, contacts)| {
            let missed = missed(contacts, interval).into_iter();
            missed.map(|(group, missed)| outcome(number, group, missed, contacts, window, now))
        });
        let mut outcomes: Vec<Outcome<'_>> = found.collect();
        outcomes.sort_unstable_by(|left, right| {
            let later = right.last_missed_at.cmp(&left.last_missed_at);
            later.then_with(|| (left.number, left.group).cmp(&(right.number, right.group)))
        });
        let mut times = Histogram::default();
        let mut states: BTreeMap<&str, u64> = STATES.into_iter().map(|state| (state, 0)).collect();
        let mut changes_at: Option<Micros> = None;
        let mut rows = Vec::with_capacity(outcomes.len());
        for outcome in &outcomes {
            *states.entry(outcome.state).or_default() += 1;
            let time = outcome.first_attempt_at.map(|at| (at - outcome.last_missed_at) / 1000);
            time.into_iter().for_each(|ms| times.add(ms));
            if outcome.state == "still_open" {
                let ends = outcome.last_missed_at.saturating_add(window);
                changes_at = Some(changes_at.map_or(ends, |other| other.min(ends)));
            }
            let own = [
                Cell::Text(outcome.number.clone()),
                Cell::Time(outcome.last_missed_at),
                Cell::count(outcome.tries),
                Cell::text(Some(outcome.state)),
                Cell::time(outcome.first_attempt_at),
                Cell::whole(time),
            ];
            rows.push(outcome.group.iter().map(Cell::from).chain(own).collect());
        }
        let mut params = request.params();
        let unresolved = outcomes.iter().filter(|outcome| outcome.first_attempt_at.is_none()).count();
        params.extend(states.into_iter().map(|(state, count)| (format!("n_{state}"), json!(count))));
        params.insert("n_unresolved".into(), json!(unresolved));
        for percent in [50, 90, 95, 99] {
            params.insert(format!("p{percent}"), json!(times.percentile(percent)));
        }
        let open = known.open.iter().filter(|at| interval.contains(**at)).count();
        let table = Table { rows, columns: Callbacks::columns(request) };
        let mut answer = Answer::new(table, params, open as u64);
        let nameless = known.nameless.iter().filter(|at| interval.contains(**at)).count();
        answer.unknown("number", nameless as u64);
        answer.changes_at = changes_at;
        answer
    }
}

/// Missed calls of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    tries: u64,
    last: Micros,
}

/// The missed calls of the interval by group.
fn missed(contacts: &[(Micros, Contact)], interval: Interval) -> BTreeMap<&[Key], Missed> {
    let mut missed: BTreeMap<&[Key], Missed> = BTreeMap::new();
    for (at, contact) in contacts {
        if let Contact::Missed(ended, group) = contact
            && interval.contains(*at)
        {
            let of_group = missed.entry(group).or_insert(Missed { tries: 0, last: Micros::MIN });
            *of_group = Missed { tries: of_group.tries + 1, last: of_group.last.max(*ended) };
        }
    }
    missed
}

/// What came of a number that was missed.
fn outcome<'a>(
    number: &'a CompactString,
    group: &'a [Key],
    Missed { tries, last: last_missed_at }: Missed,
    contacts: &[(Micros, Contact)],
    window: Micros,
    now: Micros,
) -> Outcome<'a> {
    let ends = last_missed_at.saturating_add(window);
    let after = |wanted: &[Contact]| {
        let later =
            contacts.iter().filter(|(at, contact)| *at > last_missed_at && *at < ends && wanted.contains(contact));
        later.map(|(at, _)| *at).min()
    };
    let first_attempt_at = after(&[Contact::Attempted, Contact::Reached]);
    let state = if after(&[Contact::Reached]).is_some() {
        STATES[0]
    } else if after(&[Contact::CameBack]).is_some() {
        STATES[1]
    } else if first_attempt_at.is_some() {
        STATES[2]
    } else if ends > now {
        STATES[3]
    } else {
        STATES[4]
    };
    Outcome { number, group, last_missed_at, tries, state, first_attempt_at }
}

/// The number is no group: it is the report's own.
fn groups(request: &Request) -> Vec<Dimension> {
    groups_without(request, |dimension| dimension == Dimension::Number)
}

impl CallFamily for Callbacks {
    type Partial = Known;

    /// What comes after a missed call counts, whatever it is.
    const FILTERS_ITSELF: bool = true;

    fn begin(&self) -> Known {
        Known::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        let filters = self.filters.0.iter().flat_map(|(dimension, _)| dimension.columns().iter().copied());
        let own = ["from_e164", "to_e164", "answered_at", "ended_at"];
        own.into_iter().chain(filters).chain(group_reads(&self.group_by)).collect()
    }

    fn basis(&self) -> Basis {
        Basis::Since("started_at")
    }

    fn add(&self, partial: &mut Known, call: &Call<'_>, open: bool, _within: Interval) {
        let Some(at) = call.started_at else { return };
        let chosen = self.filters.accept(call);
        if open && chosen {
            partial.open.push(at);
        }
        let contact = match call.direction {
            "in" if call.is_missed() && chosen => {
                Contact::Missed(call.ended_at.unwrap_or(at), group_of(&self.group_by, call))
            }
            "in" if call.answered_at.is_some() => Contact::CameBack,
            "out" if call.answered_at.is_some() => Contact::Reached,
            "out" => Contact::Attempted,
            _ => return,
        };
        let Some(number) = (if call.direction == "in" { call.from_e164 } else { call.to_e164 }) else {
            if matches!(contact, Contact::Missed(..)) {
                partial.nameless.push(at);
            }
            return;
        };
        if !partial.contacts.contains_key(number) {
            partial.contacts.insert(number.into(), Vec::new());
        }
        let contacts = partial.contacts.get_mut(number).expect("it was just put there");
        // A missed call can have been answered by a machine: then the caller came back, too.
        if matches!(contact, Contact::Missed(..)) && call.answered_at.is_some() {
            contacts.push((at, Contact::CameBack));
        }
        contacts.push((at, contact));
    }

    fn merge(&self, partial: &mut Known, other: &Known) {
        for (number, contacts) in &other.contacts {
            match partial.contacts.get_mut(number) {
                Some(known) => known.extend_from_slice(contacts),
                None => drop(partial.contacts.insert(number.clone(), contacts.clone())),
            }
        }
        partial.nameless.extend_from_slice(&other.nameless);
        partial.open.extend_from_slice(&other.open);
    }

    fn bytes(&self, partial: &Known) -> usize {
        let contacts = partial.contacts.values().map(|contacts| 64 + contacts.capacity() * 40).sum::<usize>();
        contacts + (partial.nameless.len() + partial.open.len()) * 8
    }
}
