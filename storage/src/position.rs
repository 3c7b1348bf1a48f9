//! A place in the log: for each of its partitions the last message that counts. What clients call an offset.
//!
//! ```text
//!   12          the embedded log, which has one partition
//!   0:12        over Kafka: message 12 of partition 0; of others nothing is said
//!   0:12,1:-1   message 12 of partition 0, nothing of partition 1
//! ```

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::event::Offset;

/// Partitions that a log may have: a position is copied often.
pub const MOST_PARTITIONS: usize = 32;

/// Of this partition nothing is said.
const UNSAID: u64 = 0;
/// None of its messages.
const NONE: u64 = 1;
/// How a token names that.
const NONE_TOKEN: &str = "-1";

/// For each partition the last message that counts; see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Tokens name the partition.
    named: bool,
    /// [`UNSAID`], [`NONE`], or the offset and 2.
    at: [u64; MOST_PARTITIONS],
}

impl Position {
    /// Nothing is said; over Kafka, tokens name the partition.
    pub fn unsaid(over_kafka: bool) -> Position {
        Position { named: over_kafka, at: [UNSAID; MOST_PARTITIONS] }
    }

    /// The same with this place in one partition, which must be below [`MOST_PARTITIONS`].
    #[must_use]
    pub fn with(mut self, partition: usize, offset: Option<Offset>) -> Position {
        self.at[partition] = offset.map_or(NONE, |offset| offset.0 + 2);
        self
    }

    /// What is said of a partition.
    pub fn said(&self, partition: usize) -> Option<Option<Offset>> {
        match *self.at.get(partition)? {
            UNSAID => None,
            NONE => Some(None),
            offset => Some(Some(Offset(offset - 2))),
        }
    }

    /// The last message that counts of a partition, if one does.
    pub fn at(&self, partition: usize) -> Option<Offset> {
        self.said(partition).flatten()
    }

    /// Whether no message counts.
    pub fn is_empty(&self) -> bool {
        self.at.iter().all(|at| *at <= NONE)
    }

    /// Whether whoever is there has everything up to here.
    pub fn is_reached_by(&self, there: &Position) -> bool {
        self.at.iter().zip(&there.at).all(|(wanted, there)| *wanted <= NONE || there >= wanted)
    }

    /// Both: of each partition the later one.
    #[must_use]
    pub fn max(mut self, other: Position) -> Position {
        self.at.iter_mut().zip(other.at).for_each(|(one, other)| *one = (*one).max(other));
        self
    }

    /// The token, as JSON has it: a number or a text, null when no message counts.
    pub fn json(&self) -> Value {
        match self.at(0) {
            _ if self.is_empty() => Value::Null,
            Some(offset) if !self.named => offset.0.into(),
            _ => self.to_string().into(),
        }
    }

    /// Reads a token.
    pub fn parse(token: &str) -> Option<Position> {
        if let Some(offset) = number(token) {
            return Some(Position::unsaid(false).with(0, Some(offset)));
        }
        let mut position = Position::unsaid(true);
        for place in token.split(',') {
            let (partition, offset) = place.split_once(':')?;
            let partition = usize::try_from(number(partition)?.0).ok().filter(|at| *at < MOST_PARTITIONS)?;
            let offset = if offset == NONE_TOKEN { None } else { Some(number(offset)?) };
            if position.said(partition).is_some() {
                return None;
            }
            position = position.with(partition, offset);
        }
        Some(position)
    }
}

fn number(text: &str) -> Option<Offset> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    // Two more than the offset must be a number, too.
    text.parse().ok().filter(|number| digits && *number < u64::MAX - 2).map(Offset)
}

/// The token, as headers have it.
impl Display for Position {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        if !self.named {
            return self.at(0).map_or(Ok(()), |offset| offset.fmt(formatter));
        }
        let mut comma = "";
        for (partition, at) in self.at.iter().enumerate().filter(|(_, at)| **at != UNSAID) {
            write!(formatter, "{comma}{partition}:")?;
            match at.checked_sub(2) {
                Some(offset) => offset.fmt(formatter)?,
                None => formatter.write_str(NONE_TOKEN)?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl std::fmt::Debug for Position {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Position({self})")
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        let position = match Value::deserialize(deserializer)? {
            Value::Null => Some(Position::unsaid(false)),
            Value::Number(number) => Position::parse(&number.to_string()),
            Value::String(token) => Position::parse(&token),
            _ => None,
        };
        position.ok_or_else(|| serde::de::Error::custom("no offset"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for token in ["0", "12", "0:12", "1:0", "0:12,1:-1", "0:-1,31:18446744073709551612"] {
            let position = Position::parse(token).expect(token);
            assert_eq!(position.to_string(), token);
            let text = serde_json::to_string(&position).expect("serialises");
            assert_eq!(text, if token.contains(':') { format!("\"{token}\"") } else { token.to_owned() });
            assert_eq!(serde_json::from_str::<Position>(&text).expect("parses"), position);
        }
        for wrong in
            ["", "-1", "+1", " 1", "1:", ":1", "0:1,", "0:1,0:2", "32:0", "0:-2", "0:1:2", "x", "18446744073709551615"]
        {
            assert_eq!(Position::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Position::unsaid(true).with(0, None).json(), Value::Null, "nothing of an empty log");
    }

    #[test]
    fn who_has_more_of_each_partition_has_reached_it() {
        let position = |token| Position::parse(token).expect(token);
        for (wanted, there, reached) in [
            ("0:5", "0:5,1:-1", true),
            ("0:5", "0:4,1:9", false),
            ("1:0", "0:9,1:-1", false),
            ("0:3,1:2", "0:3,1:2", true),
            ("0:3,1:2", "0:9,1:1", false),
            ("0:-1", "1:4", true),
        ] {
            assert_eq!(position(wanted).is_reached_by(&position(there)), reached, "{wanted} {there}");
        }
        assert_eq!(position("0:3,1:2").max(position("0:1,1:5")), position("0:3,1:5"));
    }
}
