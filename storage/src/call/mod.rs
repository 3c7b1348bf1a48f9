//! `CallState`: everything known about one call, as a join-semilattice.
//!
//! The law: [`CallState::merge`] is commutative, associative and idempotent, so that any order, repetition or split
//! of a call's messages gives the same state (`tests/laws.rs` tries to break it). Every slot is a total order and
//! merging takes the greater; times take the better rank, then the earliest (ends: see [`CallState::merge`]).
//! What a table shows is a pure function of the state: [`row`].

mod decided;
mod disposition;
mod marks;
mod row;

use std::collections::BTreeSet;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::event::{Micros, Offset};
use crate::sorted_map::SortedMap;

pub use decided::{Decision, LEG, Tie};
pub use disposition::Disposition;
pub use marks::{Mark, Marks};
pub use row::{CallRow, LegRow};

/// How well a value is known; the better wins, whatever came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rank {
    /// A guess.
    #[serde(rename = "g", alias = "Guess")]
    Guess,
    /// Worked out from a duration.
    #[serde(rename = "d", alias = "Derived")]
    Derived,
    /// The receipt of the message that says it.
    #[serde(rename = "r", alias = "Receipt")]
    Receipt,
    /// A time or value that stands in a message.
    #[serde(rename = "m", alias = "Message")]
    Message,
    /// A call report or CDR.
    #[serde(rename = "p", alias = "Report")]
    Report,
}

/// A time and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(pub Rank, pub Micros);

/// A value and how well it is known; on equal rank the greater value wins, so that order does not matter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranked<T>(pub Rank, pub T);

/// Text columns of a call or leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Text {
    /// `in`, `out` or `internal`.
    #[serde(rename = "d", alias = "Direction")]
    Direction,
    /// Calling number as sent.
    #[serde(rename = "f", alias = "From")]
    From,
    /// Called number as sent.
    #[serde(rename = "t", alias = "To")]
    To,
    /// Name of the caller.
    #[serde(rename = "c", alias = "CallerName")]
    CallerName,
    /// The PBX's own number that was called or shown.
    #[serde(rename = "o", alias = "OwnNumber")]
    OwnNumber,
    /// Extension, user or SIP peer.
    #[serde(rename = "e", alias = "Endpoint")]
    Endpoint,
    /// Its name.
    #[serde(rename = "n", alias = "EndpointName")]
    EndpointName,
    /// Queue or ring group.
    #[serde(rename = "q", alias = "Queue")]
    Queue,
    /// An id that the caller of the PBX's API chose.
    #[serde(rename = "x", alias = "ExternalId")]
    ExternalId,
    /// `caller`, `callee`, `ext` or `remote`.
    #[serde(rename = "r", alias = "ReleasedBy")]
    ReleasedBy,
    /// The outcome in the source's own words.
    #[serde(rename = "w", alias = "DispositionRaw")]
    DispositionRaw,
    /// The number that `queue` takes when more than one leg rang (Planfix: `diversion`).
    #[serde(rename = "g", alias = "GroupNumber")]
    GroupNumber,
}

/// Whole numbers of a call or leg; durations in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Number {
    /// Length of the call as the source gives it.
    #[serde(rename = "d", alias = "Duration")]
    Duration,
    /// Conversation.
    #[serde(rename = "t", alias = "Talk")]
    Talk,
    /// Ringing.
    #[serde(rename = "r", alias = "Ring")]
    Ring,
    /// On hold.
    #[serde(rename = "h", alias = "Hold")]
    Hold,
    /// In an IVR.
    #[serde(rename = "i", alias = "Ivr")]
    Ivr,
    /// Waiting in a queue.
    #[serde(rename = "q", alias = "Queue")]
    Queue,
    /// Cause value of ITU-T Q.850.
    #[serde(rename = "c", alias = "CauseQ850")]
    CauseQ850,
    /// Final SIP status.
    #[serde(rename = "s", alias = "SipStatus")]
    SipStatus,
}

/// What is known about a call as a whole, or about one leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Start (seizure).
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Stamp>,
    /// Ringing.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub ringing: Option<Stamp>,
    /// Answer.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Stamp>,
    /// End.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Stamp>,
    /// Outcome. Missed is stored as `no_answer`; the row says `missed` for inbound calls.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Ranked<Disposition>>,
    /// Text columns.
    #[serde(rename = "t", default, skip_serializing_if = "SortedMap::is_empty")]
    pub text: SortedMap<Text, Ranked<CompactString>>,
    /// Number columns.
    #[serde(rename = "n", default, skip_serializing_if = "SortedMap::is_empty")]
    pub number: SortedMap<Number, Ranked<i64>>,
    /// What was seen.
    #[serde(rename = "m", default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
}

/// A hold or its end, under the fingerprint of its message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Who held.
    pub party: String,
    /// Put on hold (`true`) or retrieved.
    pub held: bool,
    /// When.
    pub at: Stamp,
}

/// The extremes over all deliveries, duplicates included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Earliest receipt.
    #[serde(rename = "f", alias = "first_received_at")]
    pub first_received_at: Micros,
    /// Latest receipt.
    #[serde(rename = "l", alias = "last_received_at")]
    pub last_received_at: Micros,
    /// Lowest offset.
    #[serde(rename = "a", alias = "first_offset")]
    pub first_offset: Offset,
    /// Highest offset.
    #[serde(rename = "z", alias = "last_offset")]
    pub last_offset: Offset,
}

/// Everything known about one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallState {
    /// The call as a whole (Kazoo: its A-leg).
    #[serde(rename = "c", default)]
    pub call: Track,
    /// Attempts to reach one endpoint, by the source's key for them.
    #[serde(rename = "l", default, skip_serializing_if = "SortedMap::is_empty")]
    pub legs: SortedMap<CompactString, Track>,
    /// Collected digits, by collection.
    #[serde(rename = "d", default, skip_serializing_if = "SortedMap::is_empty")]
    pub dtmf: SortedMap<CompactString, Ranked<CompactString>>,
    /// Other fields worth showing.
    #[serde(rename = "x", default, skip_serializing_if = "SortedMap::is_empty")]
    pub attributes: SortedMap<CompactString, Ranked<CompactString>>,
    /// Keys of related calls of the same source.
    #[serde(rename = "k", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub related: BTreeSet<String>,
    /// Transfers, each under what tells it from another.
    #[serde(rename = "f", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub transfers: BTreeSet<String>,
    /// Holds, by fingerprint of the message.
    #[serde(rename = "h", default, skip_serializing_if = "SortedMap::is_empty")]
    pub holds: SortedMap<String, Hold>,
    /// Entities that hung up, each with when.
    #[serde(rename = "q", default, skip_serializing_if = "SortedMap::is_empty")]
    pub releases: SortedMap<String, Stamp>,
    /// Recordings that were linked by decision: where in the log that was last decided, and whether they still are.
    #[serde(rename = "w", default, skip_serializing_if = "SortedMap::is_empty")]
    pub links: SortedMap<String, (Offset, bool)>,
    /// What was last decided about this call and others of the same source, by their keys.
    #[serde(rename = "y", default, skip_serializing_if = "SortedMap::is_empty")]
    pub decided: SortedMap<String, Decision>,
    /// Recording ids.
    #[serde(rename = "g", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recordings: BTreeSet<String>,
    /// Bookkeeping; set by the archive, not by decoders.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

impl Track {
    /// See [`CallState::look`].
    fn look(&self) -> usize {
        let stamps = [self.start, self.ringing, self.answer, self.end].into_iter().flatten();
        let texts = self.text.keys().next().map_or(0, |text| *text as usize);
        let numbers = self.number.keys().next().map_or(0, |number| *number as usize);
        stamps.map(|Stamp(rank, _)| rank as usize).sum::<usize>() ^ texts ^ numbers
    }

    /// Claims a start.
    pub fn start(&mut self, rank: Rank, at: Micros) -> &mut Self {
        merge_first(&mut self.start, Some(Stamp(rank, at)));
        self
    }

    /// Claims that it rang.
    pub fn ringing(&mut self, rank: Rank, at: Micros) -> &mut Self {
        merge_first(&mut self.ringing, Some(Stamp(rank, at)));
        self
    }

    /// Claims an answer.
    pub fn answer(&mut self, rank: Rank, at: Micros) -> &mut Self {
        merge_first(&mut self.answer, Some(Stamp(rank, at)));
        self
    }

    /// Claims an end.
    pub fn end(&mut self, rank: Rank, at: Micros) -> &mut Self {
        merge_end(&mut self.end, Some(Stamp(rank, at)));
        self
    }

    /// Claims a text; an empty one says nothing.
    pub fn text(&mut self, field: Text, rank: Rank, value: impl Into<CompactString>) -> &mut Self {
        let value = value.into();
        if !value.is_empty() {
            self.text.join(field, Ranked(rank, value), greater);
        }
        self
    }

    /// Claims a number.
    pub fn number(&mut self, field: Number, rank: Rank, value: i64) -> &mut Self {
        self.number.join(field, Ranked(rank, value), greater);
        self
    }

    /// Claims an outcome; `raw` is the source's own word for it.
    pub fn outcome(&mut self, rank: Rank, outcome: Disposition, raw: impl Into<CompactString>) -> &mut Self {
        merge_option(&mut self.outcome, Some(Ranked(rank, outcome)));
        self.text(Text::DispositionRaw, rank, raw)
    }

    /// Notes that something was seen.
    pub fn mark(&mut self, mark: Mark) -> &mut Self {
        self.marks.insert(mark);
        self
    }

    /// Whether it was seen.
    pub fn has(&self, mark: Mark) -> bool {
        self.marks.contains(mark)
    }

    /// The text, if known.
    pub fn get(&self, field: Text) -> Option<&str> {
        self.text.get(&field).map(|ranked| ranked.1.as_str())
    }

    /// The number, if known.
    pub fn get_number(&self, field: Number) -> Option<i64> {
        self.number.get(&field).map(|ranked| ranked.1)
    }

    fn merge(&mut self, other: Track) {
        merge_first(&mut self.start, other.start);
        merge_first(&mut self.ringing, other.ringing);
        merge_first(&mut self.answer, other.answer);
        merge_end(&mut self.end, other.end);
        merge_option(&mut self.outcome, other.outcome);
        self.text.join_all(other.text, greater);
        self.number.join_all(other.number, greater);
        self.marks.join(other.marks);
    }
}

impl CallState {
    /// Looks at every part of the state, and at what these hold elsewhere in memory. What is given says nothing.
    pub(crate) fn look(&self) -> usize {
        let elsewhere = [
            self.legs.iter().next().map_or(0, |(key, leg)| key.len() ^ leg.look()),
            self.attributes.keys().next().map_or(0, CompactString::len),
            self.dtmf.len() ^ self.holds.len() ^ self.releases.len() ^ self.links.len() ^ self.decided.len(),
            self.related.len() ^ self.transfers.len() ^ self.recordings.len(),
        ];
        elsewhere.into_iter().fold(self.call.look() ^ usize::from(self.seen.is_some()), |all, part| all ^ part)
    }

    /// The leg of this key, made if it is new.
    pub fn leg(&mut self, key: impl Into<CompactString>) -> &mut Track {
        self.legs.slot(key.into())
    }

    /// Claims an attribute; an empty one says nothing.
    pub fn attribute(&mut self, name: impl Into<CompactString>, value: impl Into<CompactString>) -> &mut Self {
        let value = value.into();
        if !value.is_empty() {
            self.attributes.join(name.into(), Ranked(Rank::Message, value), greater);
        }
        self
    }

    /// Notes collected digits.
    pub fn digits(&mut self, collection: impl Into<CompactString>, digits: impl Into<CompactString>) -> &mut Self {
        self.dtmf.join(collection.into(), Ranked(Rank::Message, digits.into()), greater);
        self
    }

    /// Notes a hold or its end. `fingerprint` tells a redelivery from a second hold.
    pub fn hold(
        &mut self,
        fingerprint: impl Into<String>,
        party: impl Into<String>,
        held: bool,
        at: Stamp,
    ) -> &mut Self {
        self.holds.join(fingerprint.into(), Hold { party: party.into(), held, at }, join_hold);
        self
    }

    /// Notes that this entity hung up; which side of the call it is, the whole call tells.
    pub fn released(&mut self, entity: impl Into<String>, at: Stamp) -> &mut Self {
        self.releases.join(entity.into(), at, join_release);
        self
    }

    /// Notes a decision that a recording belongs to this call, or no longer does; the archive says when.
    pub fn link(&mut self, recording_id: impl Into<String>, holds: bool) -> &mut Self {
        self.links.insert(recording_id.into(), (Offset(0), holds));
        self
    }

    /// Sets where in the log decisions were made: the last one wins.
    pub(crate) fn decided_at(&mut self, offset: Offset) {
        self.links.values_mut().for_each(|(at, _)| *at = offset);
        self.decided.values_mut().for_each(|decision| decision.at = offset);
    }

    /// Notes one delivery; the archive calls this for every message, duplicates included.
    pub fn delivered(&mut self, received_at: Micros, offset: Offset) {
        let seen = Seen {
            first_received_at: received_at,
            last_received_at: received_at,
            first_offset: offset,
            last_offset: offset,
        };
        merge_seen(&mut self.seen, Some(seen));
    }

    /// Least upper bound: `self ⊔ other`.
    ///
    /// Per slot the better rank wins. On equal rank: the earliest start, ringing and answer; of ends that the
    /// source itself sent the latest, of ends by receipt the earliest delivery; otherwise the greater value.
    pub fn merge(&mut self, other: CallState) {
        self.call.merge(other.call);
        self.legs.join_all(other.legs, Track::merge);
        self.dtmf.join_all(other.dtmf, greater);
        self.attributes.join_all(other.attributes, greater);
        self.related.extend(other.related);
        self.transfers.extend(other.transfers);
        self.holds.join_all(other.holds, join_hold);
        self.releases.join_all(other.releases, join_release);
        self.links.join_all(other.links, greater);
        self.decided.join_all(other.decided, Decision::join);
        self.recordings.extend(other.recordings);
        merge_seen(&mut self.seen, other.seen);
    }
}

fn merge_first(slot: &mut Option<Stamp>, new: Option<Stamp>) {
    merge_stamp(slot, new, |_, old, new| new < old);
}

fn merge_end(slot: &mut Option<Stamp>, new: Option<Stamp>) {
    merge_stamp(slot, new, |rank, old, new| if rank >= Rank::Message { new > old } else { new < old });
}

fn merge_stamp(slot: &mut Option<Stamp>, new: Option<Stamp>, takes: impl Fn(Rank, Micros, Micros) -> bool) {
    let Some(new) = new else { return };
    let replace = match slot {
        None => true,
        Some(old) if old.0 == new.0 => takes(new.0, old.1, new.1),
        Some(old) => new.0 > old.0,
    };
    if replace {
        *slot = Some(new);
    }
}

fn merge_option<T: Ord>(slot: &mut Option<T>, new: Option<T>) {
    if new > *slot {
        *slot = new;
    }
}

fn greater<T: Ord>(known: &mut T, new: T) {
    if new > *known {
        *known = new;
    }
}

fn join_hold(hold: &mut Hold, value: Hold) {
    let mut at = Some(hold.at);
    merge_first(&mut at, Some(value.at));
    hold.at = at.unwrap_or(value.at);
    // One fingerprint is one message, so party and direction agree; the greater keeps the law if they do not.
    if (&value.party, value.held) > (&hold.party, hold.held) {
        hold.party = value.party;
        hold.held = value.held;
    }
}

fn join_release(known: &mut Stamp, at: Stamp) {
    let mut slot = Some(*known);
    merge_end(&mut slot, Some(at));
    *known = slot.unwrap_or(at);
}

fn merge_seen(slot: &mut Option<Seen>, new: Option<Seen>) {
    let Some(new) = new else { return };
    *slot = Some(match *slot {
        None => new,
        Some(old) => Seen {
            first_received_at: old.first_received_at.min(new.first_received_at),
            last_received_at: old.last_received_at.max(new.last_received_at),
            first_offset: old.first_offset.min(new.first_offset),
            last_offset: old.last_offset.max(new.last_offset),
        },
    });
}

#[cfg(test)]
mod tests;
