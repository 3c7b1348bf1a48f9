//! Single values out of record batches, by column name.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};

/// One row of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub batch: &'a RecordBatch,
    pub at: usize,
}

impl<'a> Row<'a> {
    /// All rows of an answer.
    pub(crate) fn all(batches: &'a [RecordBatch]) -> impl Iterator<Item = Row<'a>> {
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| Row { batch, at }))
    }

    fn column(&self, name: &str) -> Option<&'a dyn Array> {
        let column = self.batch.column_by_name(name)?;
        column.is_valid(self.at).then_some(column.as_ref())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        Some(self.column(name)?.as_string_opt::<i32>()?.value(self.at))
    }

    pub(crate) fn whole(&self, name: &str) -> Option<i64> {
        Some(self.column(name)?.as_primitive_opt::<Int64Type>()?.value(self.at))
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        Some(self.column(name)?.as_primitive_opt::<Float64Type>()?.value(self.at))
    }

    pub(crate) fn time(&self, name: &str) -> Option<i64> {
        Some(self.column(name)?.as_primitive_opt::<TimestampMicrosecondType>()?.value(self.at))
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        Some(self.column(name)?.as_binary_opt::<i32>()?.value(self.at))
    }

    pub(crate) fn map(&self, name: &str) -> BTreeMap<String, String> {
        let Some(map) = self.column(name).and_then(|column| column.as_map_opt()) else { return BTreeMap::new() };
        let entries = map.value(self.at);
        let (keys, values) = (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>());
        let (Some(keys), Some(values)) = (keys, values) else { return BTreeMap::new() };
        let pairs = keys.iter().zip(values.iter());
        pairs.filter_map(|(key, value)| Some((key?.to_owned(), value.unwrap_or_default().to_owned()))).collect()
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, list: &str) -> Vec<String> {
        let Some(list) = self.column(list).and_then(|column| column.as_list_opt::<i32>()) else { return Vec::new() };
        let values = list.value(self.at);
        let texts = values.as_string_opt::<i32>();
        texts.map(|texts| texts.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The texts of one field of a list of structs.
    pub(crate) fn texts_in(&self, list: &str, field: &str) -> Vec<String> {
        let Some(list) = self.column(list).and_then(|column| column.as_list_opt::<i32>()) else { return Vec::new() };
        let values = list.value(self.at);
        let field = values.as_struct_opt().and_then(|element| element.column_by_name(field));
        let texts = field.and_then(|field| field.as_string_opt::<i32>());
        texts.map(|texts| texts.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
    }
}
