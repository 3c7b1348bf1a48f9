//! Points in the log's history that an answer can be read at.

use serde::{Deserialize, Serialize};
use trunklog_storage::event::{Micros, Offset, Tokens, format_time, parse_time};

use crate::error::QueryError;

/// When to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Everything that was acknowledged until now.
    #[default]
    Now,
    /// Up to this message, inclusive.
    Offset(Offset),
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
        Tokens::parse(text).map(Moment::Offset).ok_or_else(wrong)
    }
}

/// What an answer was read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The last message that it contains; `None` on an empty archive.
    pub offset: Option<Offset>,
    /// How that is told. A cursor need not know.
    #[serde(skip)]
    pub tokens: Tokens,
    /// The time of the snapshot.
    #[serde(with = "time_text")]
    pub time: Micros,
}

impl AsOf {
    /// The header `Trunklog-As-Of`: what the parameter `as_of` takes, so the offset, or the time of an empty archive.
    pub fn to_header(self) -> String {
        self.offset.map_or_else(|| format_time(self.time), |offset| self.tokens.text(offset))
    }

    /// The JSON object in answers.
    pub fn to_json(self) -> String {
        let offset = self.tokens.json(self.offset);
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
        assert_eq!(Moment::parse("17").ok(), Some(Moment::Offset(Offset(17))));
        assert_eq!(Moment::parse("0:17").ok(), Some(Moment::Offset(Offset(17))));
        assert_eq!(Moment::parse("1970-01-01T00:00:01Z").ok(), Some(Moment::Time(1_000_000)));
        for wrong in ["", "-1", "+1", "0:", "1:2", "0:1:2", "x", "2026-01-01", "2026-13-01T00:00:00Z"] {
            assert!(matches!(Moment::parse(wrong), Err(QueryError::Parameter { .. })), "{wrong}");
        }
    }

    #[test]
    fn empty_archives_have_no_offset() {
        let as_of = AsOf { offset: None, tokens: Tokens::OfPartition, time: 6 };
        assert_eq!(as_of.to_json(), r#"{"offset":null,"time":"1970-01-01T00:00:00.000006Z"}"#);
        let some = AsOf { offset: Some(Offset(3)), ..as_of };
        assert!(some.to_json().starts_with(r#"{"offset":"0:3","#) && some.to_header() == "0:3", "{}", some.to_json());
        let as_of = AsOf { tokens: Tokens::Plain, ..as_of };
        assert_eq!(serde_json::to_string(&as_of).expect("serialises"), as_of.to_json());
        assert_eq!(serde_json::from_str::<AsOf>(&as_of.to_json()).expect("parses"), as_of);
    }
}
