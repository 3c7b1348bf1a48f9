//! The ground truth: what the archive must show of each call, stated by the source that played it.
//!
//! Only columns that the messages determine whatever their order and their times of receipt; a column that is not
//! there is not stated.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};
use trunklog_storage::event::{Source, format_time};

use super::audio::Audio;

/// Columns of one call, and its recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    columns: Map<String, Value>,
    recordings: Vec<Audio>,
}

impl Truth {
    /// The call of this source and key; nothing else is known yet.
    pub fn new(source: Source, call_key: &str) -> Truth {
        let mut columns = Map::new();
        columns.insert("source".to_owned(), json!(source.as_str()));
        columns.insert("call_key".to_owned(), json!(call_key));
        Truth { columns, recordings: Vec::new() }
    }

    /// A text column.
    pub fn text(&mut self, column: &str, value: &str) -> &mut Truth {
        self.set(column, json!(value))
    }

    /// A text column, if there is a value.
    pub fn text_if(&mut self, column: &str, value: Option<&str>) -> &mut Truth {
        if let Some(value) = value {
            self.text(column, value);
        }
        self
    }

    /// A whole number.
    pub fn number(&mut self, column: &str, value: i64) -> &mut Truth {
        self.set(column, json!(value))
    }

    /// A duration given in seconds; the column is in milliseconds.
    pub fn seconds(&mut self, column: &str, seconds: i64) -> &mut Truth {
        self.number(column, seconds * 1000)
    }

    /// A time given in Unix seconds.
    pub fn time(&mut self, column: &str, seconds: i64) -> &mut Truth {
        self.text(column, &format_time(seconds * 1_000_000))
    }

    /// Digits by collection.
    pub fn digits(&mut self, digits: &[(String, String)]) -> &mut Truth {
        if digits.is_empty() {
            return self;
        }
        let map: Map<String, Value> = digits.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        self.set("dtmf", Value::Object(map))
    }

    /// The calling or called number, and its E.164 form where it is sent in that form.
    pub fn party(&mut self, side: &str, number: &str) -> &mut Truth {
        self.text(&format!("{side}_number"), number);
        if number.starts_with('+') {
            self.text(&format!("{side}_e164"), number);
        }
        self
    }

    /// A recording that is uploaded.
    pub fn recording(&mut self, audio: Audio) -> &mut Truth {
        self.recordings.push(audio);
        self
    }

    /// Whether this column is stated.
    pub fn states(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Any other column.
    pub fn set(&mut self, column: &str, value: Value) -> &mut Truth {
        self.columns.insert(column.to_owned(), value);
        self
    }

    /// The object as it stands in the file. Of a lost call no recording was uploaded either.
    pub fn line(&self, lost: bool) -> Value {
        let mut columns = self.columns.clone();
        if lost {
            columns.insert("lost".to_owned(), json!(true));
        } else if !self.recordings.is_empty() {
            let object = |audio: &Audio| {
                let (sha256, bytes) = audio.identity();
                json!({"sha256": sha256, "bytes": bytes})
            };
            columns.insert("recordings".to_owned(), self.recordings.iter().map(object).collect());
        }
        Value::Object(columns)
    }
}

/// Writes the truth file, one call a line; each comes with whether its messages are withheld.
pub fn write(path: &Path, truths: &[(Truth, bool)]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for (truth, lost) in truths {
        writeln!(file, "{}", truth.line(*lost))?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}
