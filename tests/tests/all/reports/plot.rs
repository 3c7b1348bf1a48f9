//! What happens in a call, and the messages in which it is told.

use serde_json::json;
use url::form_urlencoded::Serializer;

use super::zone::{SECOND, utc_text};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    In,
    Out,
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Answered,
    NoAnswer,
    Busy,
    Canceled,
    Voicemail,
    Failed,
}

/// What happens in a call, before a telephone system tells of it. Times in microseconds, lengths in seconds.
#[derive(Clone, Debug)]
pub struct Plot {
    pub start: i64,
    pub ring: i64,
    pub talk: i64,
    pub outcome: Outcome,
    pub way: Way,
    pub other: String,
    pub own: &'static str,
    pub endpoint: &'static str,
    pub queue: Option<&'static str>,
}

impl Plot {
    pub fn answer(&self) -> i64 {
        self.start + self.ring * SECOND
    }

    pub fn end(&self) -> i64 {
        self.answer() + self.talk * SECOND
    }

    pub fn answered(&self) -> bool {
        self.outcome == Outcome::Answered
    }

    /// Calling and called number.
    pub fn parties(&self) -> (&str, &str) {
        match self.way {
            Way::In => (self.other.as_str(), self.own),
            Way::Out => (self.own, self.other.as_str()),
            Way::Internal => (self.endpoint, "109"),
        }
    }
}

/// A message of a telephone system.
pub struct Message {
    pub at: i64,
    kind: &'static str,
    media: &'static str,
    body: String,
}

impl Message {
    /// A form that comes at this time.
    pub fn form(at: i64, kind: &'static str, fields: &[(&str, &str)]) -> Message {
        let mut form = Serializer::new(String::new());
        for (name, value) in fields {
            form.append_pair(name, value);
        }
        Message { at, kind, media: "application/x-www-form-urlencoded", body: form.finish() }
    }

    /// A row of a report that comes at this time.
    pub fn row(at: i64, kind: &'static str, body: String) -> Message {
        Message { at, kind, media: "application/xml", body }
    }

    /// The line of a bulk load.
    pub fn line(&self, id: &str) -> String {
        let source = self.kind.split('.').next();
        json!({
            "specversion": "1.0", "id": id, "source": source, "type": self.kind, "time": utc_text(self.at),
            "datacontenttype": self.media, "data": self.body,
        })
        .to_string()
    }
}
