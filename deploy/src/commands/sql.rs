//! `trunklog sql`: a table on a terminal, CSV elsewhere, or what `--format` says.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::cli::{Format, SqlArgs};
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;

pub async fn run(arguments: SqlArgs, config: &Checked) -> Result<(), Error> {
    let default = if output::is_terminal() { Format::Table } else { Format::Csv };
    let format = arguments.format.unwrap_or(default);
    let client = Client::connect(&arguments.remote, config).await?;
    let mut path = "/v1/sql".to_owned();
    if let Some(tenant) = &arguments.tenant {
        let tenant: String = url::form_urlencoded::byte_serialize(tenant.as_bytes()).collect();
        path.push_str(&format!("?tenant={tenant}"));
    }
    let accept = match format {
        Format::Table | Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv",
    };
    let ask = Ask { accept, ..Ask::post(path).json(&json!({ "sql": arguments.sql })) };
    let answer = client.ask(ask).await;
    // The archive is let go of even if the statement was wrong.
    let closed = client.close().await;
    let answer = answer?;
    match format {
        Format::Table => {
            let answer: Value = serde_json::from_slice(&answer).map_err(|error| Error::Answer(error.to_string()))?;
            // Only a terminal has a width.
            output::line(&shown(&answer, Table::new().width()));
        }
        _ => {
            output::bytes(&answer);
            if !answer.is_empty() && !answer.ends_with(b"\n") {
                output::line("");
            }
        }
    }
    closed
}

/// Narrower columns cannot be read.
const NARROWEST_COLUMN: usize = 12;

/// The answer as people read it: a table if the terminal has room for its columns, else a line per value; and the
/// number of rows.
fn shown(answer: &Value, width: Option<u16>) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (columns, rows) = (list(&answer["columns"]), list(&answer["rows"]));
    let rows: Vec<Vec<Value>> = rows.iter().map(list).collect();
    let narrow = width.is_some_and(|width| columns.len() * NARROWEST_COLUMN > usize::from(width));
    let text = if narrow { records(&columns, &rows) } else { table(&columns, &rows) };
    let count = rows.len();
    format!("{text}\n{count} row{}", if count == 1 { "" } else { "s" })
}

/// `name: value`, and a line under each row.
fn records(columns: &[Value], rows: &[Vec<Value>]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let name = |column: &Value| column["name"].as_str().unwrap_or_default().to_owned();
        lines.extend(columns.iter().zip(row).map(|(column, value)| format!("{}: {}", name(column), cell(value))));
        lines.push("-".repeat(NARROWEST_COLUMN));
    }
    lines.join("\n")
}

/// Numbers to the right, NULL empty.
fn table(columns: &[Value], rows: &[Vec<Value>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|column| column["name"].as_str().unwrap_or_default()));
    for row in rows {
        table.add_row(row.iter().map(cell));
    }
    for (column, described) in table.column_iter_mut().zip(columns) {
        if matches!(described["type"].as_str(), Some("int64" | "float64")) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// A value as people read it.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A control character in a message must not command the terminal.
        Value::String(text) => {
            text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_tables() {
        let answer = json!({
            "columns": [{ "name": "source", "type": "string" }, { "name": "calls", "type": "int64" }],
            "rows": [["kazoo", 12], [null, 3]],
        });
        let text = shown(&answer, None);
        assert!(text.contains("source") && text.contains("kazoo") && text.contains("12") && text.ends_with("2 rows"));
        assert_eq!(shown(&answer, Some(80)), text);
        let records = "source: kazoo\ncalls: 12\n------------\nsource: \ncalls: 3\n------------\n2 rows";
        assert_eq!(shown(&answer, Some(23)), records);
        assert_eq!(shown(&answer, Some(0)), records);
    }
}
