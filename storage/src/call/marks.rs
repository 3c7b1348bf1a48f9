//! What was seen of a call or leg: a set of few known things, in one word. Written as a list.

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Things that were seen, and cannot be unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mark {
    /// A message that starts the call or leg.
    #[serde(rename = "s", alias = "Started")]
    Started,
    /// A message that ends the call or leg, with or without an outcome.
    #[serde(rename = "e", alias = "Ended")]
    Ended,
    /// A call report or CDR with an outcome.
    #[serde(rename = "r", alias = "Reported")]
    Reported,
    /// Kazoo: a webhook or CDR of the A-leg.
    #[serde(rename = "a", alias = "ALeg")]
    ALeg,
    /// Kazoo: the A-leg came through a carrier resource.
    #[serde(rename = "A", alias = "ALegByResource")]
    ALegByResource,
    /// Kazoo: a webhook or CDR of a B-leg.
    #[serde(rename = "b", alias = "BLeg")]
    BLeg,
    /// Kazoo: a B-leg went through a carrier resource.
    #[serde(rename = "B", alias = "BLegByResource")]
    BLegByResource,
    /// Kazoo: a pivot request.
    #[serde(rename = "p", alias = "Pivot")]
    Pivot,
    /// The leg or call went to a mailbox.
    #[serde(rename = "v", alias = "Voicemail")]
    Voicemail,
    /// The leg was called off (Planfix `Canceled`): answered elsewhere if another leg was answered.
    #[serde(rename = "c", alias = "CalledOff")]
    CalledOff,
    /// A recording was announced.
    #[serde(rename = "x", alias = "RecordingExpected")]
    RecordingExpected,
    /// Bytes of a recording are stored.
    #[serde(rename = "y", alias = "RecordingAvailable")]
    RecordingAvailable,
    /// A recording could not be had.
    #[serde(rename = "z", alias = "RecordingFailed")]
    RecordingFailed,
}

pub(super) const ALL: [Mark; 13] = [
    Mark::Started,
    Mark::Ended,
    Mark::Reported,
    Mark::ALeg,
    Mark::ALegByResource,
    Mark::BLeg,
    Mark::BLegByResource,
    Mark::Pivot,
    Mark::Voicemail,
    Mark::CalledOff,
    Mark::RecordingExpected,
    Mark::RecordingAvailable,
    Mark::RecordingFailed,
];

/// A set of marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u32);

impl Marks {
    const fn bit(mark: Mark) -> u32 {
        1 << mark as u32
    }

    /// Adds one.
    pub fn insert(&mut self, mark: Mark) {
        self.0 |= Marks::bit(mark);
    }

    /// Adds all of another set.
    pub fn join(&mut self, other: Marks) {
        self.0 |= other.0;
    }

    /// Whether it is in the set.
    pub fn contains(self, mark: Mark) -> bool {
        self.0 & Marks::bit(mark) != 0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.count_ones() as usize))?;
        for mark in ALL.iter().filter(|mark| self.contains(**mark)) {
            list.serialize_element(mark)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Marks;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of marks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Marks, A::Error> {
        let mut marks = Marks::default();
        while let Some(mark) = list.next_element()? {
            marks.insert(mark);
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_written_is_as_of_a_tree() {
        for set in 0..1_u32 << ALL.len() {
            let members: BTreeSet<Mark> = ALL.into_iter().filter(|mark| set & Marks::bit(*mark) != 0).collect();
            let mut marks = Marks::default();
            members.iter().for_each(|mark| marks.insert(*mark));
            let written = rmp_serde::to_vec_named(&marks).expect("written");
            assert_eq!(written, rmp_serde::to_vec_named(&members).expect("written"));
            assert_eq!(rmp_serde::from_slice::<Marks>(&written).expect("read"), marks);
            assert_eq!((marks.is_empty(), marks.0), (members.is_empty(), set));
        }
    }
}
