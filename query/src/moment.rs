//! Points in the log's history that an answer can be read at.

use serde::{Deserialize, Serialize};
use trunklog_storage::event::{Micros, format_time, parse_time};
use trunklog_storage::position::Position;

use crate::error::QueryError;

/// When to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there are few at a time, and a box could not be copied")]
pub enum Moment {
    /// Everything that was acknowledged until now.
    #[default]
    Now,
    /// Up to these messages, inclusive.
    Position(Position),
    /// What had been received by then.
    Time(Micros),
}

impl Moment {
    /// Parses the parameter `as_of`: a time if it contains `T`, else an offset.
    pub fn parse(text: &str) -> Result<Moment, QueryError> {
        let wrong = || QueryError::parameter("as_of", format!("`{text}` is neither an offset nor an RFC 3339 time"));
        if text.contains('T') {
            return parse_time(text).map(Moment::Time).ok_or_else(wrong);
        }
        Position::parse(text).map(Moment::Position).ok_or_else(wrong)
    }
}

/// What an answer was read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The last messages that it contains.
    pub offset: Position,
    /// The time of the snapshot.
    #[serde(with = "time_text")]
    pub time: Micros,
}

impl AsOf {
    /// The header `Trunklog-As-Of`: what the parameter `as_of` takes, so the offset, or the time of an empty archive.
    pub fn to_header(self) -> String {
        if self.offset.is_empty() { format_time(self.time) } else { self.offset.to_string() }
    }

    /// The JSON object in answers.
    pub fn to_json(self) -> String {
        let offset = self.offset.json();
        format!(r#"{{"offset":{offset},"time":"{}"}}"#, format_time(self.time))
    }
}

mod time_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use trunklog_storage::event::{Micros, format_time, parse_time};

    pub fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_offsets_and_times() {
        let position = |token| Position::parse(token).map(Moment::Position);
        assert_eq!(Moment::parse("17").ok(), position("17"));
        assert_eq!(Moment::parse("0:17,1:4").ok(), position("0:17,1:4"));
        assert_eq!(Moment::parse("1970-01-01T00:00:01Z").ok(), Some(Moment::Time(1_000_000)));
        for wrong in ["", "-1", "x", "2026-01-01", "2026-13-01T00:00:00Z"] {
            assert!(matches!(Moment::parse(wrong), Err(QueryError::Parameter { .. })), "{wrong}");
        }
    }

    #[test]
    fn empty_archives_have_no_offset() {
        for over_kafka in [false, true] {
            let as_of = AsOf { offset: Position::unsaid(over_kafka), time: 6 };
            assert_eq!(as_of.to_json(), r#"{"offset":null,"time":"1970-01-01T00:00:00.000006Z"}"#);
            assert_eq!(serde_json::to_string(&as_of).expect("serialises"), as_of.to_json());
        }
        let some = AsOf { offset: Position::parse("0:3").expect("a token"), time: 6 };
        assert!(some.to_json().starts_with(r#"{"offset":"0:3","#) && some.to_header() == "0:3", "{}", some.to_json());
        assert_eq!(serde_json::from_str::<AsOf>(&some.to_json()).expect("parses"), some);
    }
}
