//! `summary`: the common measures beside those of the period before.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::answer::Answer;
use super::common::Common;
use super::table::{Cell, Column};

/// The columns after the groups' once more, for the period before.
pub(super) fn with_previous(mut columns: Vec<Column>, groups: usize) -> Vec<Column> {
    let previous: Vec<Column> = columns[groups..]
        .iter()
        .map(|column| Column { name: format!("previous_{}", column.name), ..column.clone() })
        .collect();
    columns.extend(previous);
    columns
}

impl Answer {
    /// Puts the values of the period before beside those of the same group; a group that only one of both has is empty
    /// in the other.
    pub fn put_beside(&mut self, previous: &Answer, groups: usize) {
        let empty = Common::default().cells();
        let rows = previous.table.rows.iter();
        let mut earlier: BTreeMap<Vec<Option<CompactString>>, &[Cell]> =
            rows.map(|row| (texts(&row[..groups]), &row[groups..])).collect();
        for row in &mut self.table.rows {
            let values = earlier.remove(&texts(&row[..groups])).unwrap_or(&empty).to_vec();
            row.extend(values);
        }
        // In the order in which they stand there.
        let gone = previous.table.rows.iter().map(|row| row.split_at(groups));
        let gone = gone.filter(|(group, _)| earlier.contains_key(&texts(group)));
        self.table.rows.extend(gone.map(|(group, values)| [group, &empty, values].concat()));
        self.table.columns = with_previous(std::mem::take(&mut self.table.columns), groups);
    }
}

/// The texts of a group.
fn texts(group: &[Cell]) -> Vec<Option<CompactString>> {
    group.iter().map(|cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None }).collect()
}
