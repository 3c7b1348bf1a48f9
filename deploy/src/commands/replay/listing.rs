//! The list of differences as it is printed. A table is drawn at its end; all else goes out as it comes.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use trunklog_storage::archive::{Change, ColumnChange, Difference};

use super::super::sql::cell;
use super::summary::Summary;
use crate::cli::Format;
use crate::error::Error;
use crate::output;

/// Columns of a table and of CSV.
const HEADER: [&str; 10] = ["table", "change", "tenant", "source", "id", "key", "column", "element", "before", "after"];
/// Written at once.
const PIECE_BYTES: usize = 64 << 10;

/// A list under way.
pub struct Listing {
    format: Format,
    limit: u64,
    listed: u64,
    table: Table,
    waiting: Vec<u8>,
}

impl Listing {
    pub fn start(format: Format, limit: u64) -> Result<Listing, Error> {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(HEADER);
        let mut listing = Listing { format, limit, listed: 0, table, waiting: Vec::new() };
        match format {
            Format::Csv => listing.record(&HEADER)?,
            Format::Json => listing.waiting.extend_from_slice(b"{\"differences\":["),
            Format::Table | Format::Ndjson => {}
        }
        Ok(listing)
    }

    /// Lists a row, unless the limit has been reached.
    pub fn add(&mut self, difference: &Difference) -> Result<(), Error> {
        if self.listed >= self.limit {
            return Ok(());
        }
        match self.format {
            Format::Table => {
                for row in rows(difference, cell) {
                    self.table.add_row(row);
                }
            }
            Format::Csv => {
                for row in rows(difference, verbatim) {
                    self.record(&row)?;
                }
            }
            Format::Json => {
                let before: &[u8] = if self.listed == 0 { b"\n" } else { b",\n" };
                self.waiting.extend_from_slice(before);
                self.waiting.extend(json(difference)?);
            }
            Format::Ndjson => {
                self.waiting.extend(json(difference)?);
                self.waiting.push(b'\n');
            }
        }
        self.listed += 1;
        if self.waiting.len() >= PIECE_BYTES {
            self.send();
        }
        Ok(())
    }

    /// Ends the list with the summary: in it where its form has a place for it, else on standard error.
    pub fn finish(mut self, summary: &Summary) -> Result<(), Error> {
        let unlisted = summary.differing().saturating_sub(self.listed);
        if self.format == Format::Json {
            let mut shown = serde_json::to_value(summary).map_err(not_json)?;
            shown["listed"] = Value::from(self.listed);
            self.waiting.extend_from_slice(format!("\n],\"summary\":{shown}}}\n").as_bytes());
        }
        self.send();
        if self.format == Format::Table && self.listed > 0 {
            output::line(&self.table.to_string());
        }
        let mut lines = summary.lines();
        if unlisted > 0 {
            lines.push(format!("listed={} not_listed={unlisted}; see --limit", self.listed));
        }
        for line in lines {
            match self.format {
                Format::Table => output::line(&line),
                Format::Csv | Format::Ndjson => output::error_line(&line),
                Format::Json => {}
            }
        }
        Ok(())
    }

    fn record(&mut self, fields: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(&mut self.waiting);
        writer.write_record(fields).map_err(|error| Error::Answer(error.to_string()))?;
        writer.flush().map_err(Error::io("writing CSV"))
    }

    fn send(&mut self) {
        output::bytes(&self.waiting);
        self.waiting.clear();
    }
}

fn json(difference: &Difference) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(difference).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> Error {
    Error::Answer(error.to_string())
}

/// For programs: texts as they are.
fn verbatim(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A line for each column; at least one.
fn rows(difference: &Difference, show: fn(&Value) -> String) -> Vec<[String; 10]> {
    let change = match difference.change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    };
    let text = |text: &str| show(&Value::String(text.to_owned()));
    let row = |column: Option<&ColumnChange>| {
        let value = |pick: fn(&ColumnChange) -> &Value| column.map(|column| show(pick(column))).unwrap_or_default();
        [
            difference.table.to_owned(),
            change.to_owned(),
            text(&difference.tenant),
            text(&difference.source),
            text(&difference.id),
            text(&difference.key),
            column.map(|column| column.name.clone()).unwrap_or_default(),
            column.and_then(|column| column.element.as_deref()).map(text).unwrap_or_default(),
            value(|column| &column.before),
            value(|column| &column.after),
        ]
    };
    if difference.columns.is_empty() {
        return vec![row(None)];
    }
    difference.columns.iter().map(|column| row(Some(column))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_column_is_a_line() {
        let column = |name: &str, element: Option<&str>| ColumnChange {
            name: name.into(),
            element: element.map(str::to_owned),
            before: Value::Null,
            after: json!("a\u{1b}b"),
        };
        let mut difference = Difference {
            table: "calls",
            change: Change::Changed,
            id: "1".into(),
            key: "k".into(),
            tenant: "acme".into(),
            source: "kazoo".into(),
            columns: vec![column("from_e164", None), column("legs.endpoint", Some("l"))],
        };
        let lines = rows(&difference, cell);
        assert_eq!(lines[0][6..], ["from_e164", "", "", "a\u{fffd}b"]);
        assert_eq!(lines[1][6..], ["legs.endpoint", "l", "", "a\u{fffd}b"]);
        assert_eq!(rows(&difference, verbatim)[0][9], "a\u{1b}b");
        difference.columns.clear();
        assert_eq!(rows(&difference, verbatim), [["calls", "changed", "acme", "kazoo", "1", "k", "", "", "", ""]]);
    }
}
