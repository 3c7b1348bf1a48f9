//! Numbers in E.164 as they were written. They are made when a row is rendered, so rows that are merged in memory have
//! them as this version makes them; what the tables have is what was shown before.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionContext, cast, col};
use futures::TryStreamExt;

use super::super::Superseded;
use super::rows::chosen;
use crate::error::Error;

/// A number as sent, and the column of its E.164 form.
const NUMBERS: [(&str, &str); 2] = [("from_number", "from_e164"), ("to_number", "to_e164")];

/// By call id and number as sent.
type Written = HashMap<String, HashMap<String, Option<String>>>;

/// The same rows with E.164 numbers as last written for the same call and number.
pub(super) async fn restore(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    superseded: Superseded,
    rows: Vec<RecordBatch>,
) -> Result<Vec<RecordBatch>, Error> {
    if rows.is_empty() {
        return Ok(rows);
    }
    let written = read(session, table, superseded).await?;
    rows.into_iter().map(|batch| replace(&batch, &written)).collect()
}

/// Reads stored rows of any tier; the latest wins.
async fn read(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    superseded: Superseded,
) -> Result<Written, Error> {
    let text = |name: &str| cast(col(name), DataType::Utf8).alias(name);
    let mut columns = vec![text("call_id"), col("last_offset")];
    columns.extend(NUMBERS.iter().flat_map(|(number, e164)| [text(number), text(e164)]));
    let frame = session.read_table(Arc::clone(table))?;
    let frame = frame.filter(chosen(move |id| superseded.contains(id), "call_id"))?.select(columns)?;
    let mut stream = frame.sort(vec![col("last_offset").sort(true, true)])?.execute_stream().await?;
    let mut written = Written::new();
    while let Some(batch) = stream.try_next().await? {
        let ids = column(&batch, "call_id")?;
        for (number, e164) in NUMBERS {
            let (numbers, forms) = (column(&batch, number)?, column(&batch, e164)?);
            for row in (0..batch.num_rows()).filter(|row| numbers.is_valid(*row)) {
                let form = forms.is_valid(row).then(|| forms.value(row).to_owned());
                let of_call = written.entry(ids.value(row).to_owned()).or_default();
                of_call.insert(numbers.value(row).to_owned(), form);
            }
        }
    }
    Ok(written)
}

fn replace(batch: &RecordBatch, written: &Written) -> Result<RecordBatch, Error> {
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let ids = column(batch, "call_id")?;
    for (number, e164) in NUMBERS {
        let (numbers, forms) = (column(batch, number)?, column(batch, e164)?);
        let restored = (0..batch.num_rows()).map(|row| {
            let of_call = written.get(ids.value(row)).filter(|_| numbers.is_valid(row));
            match of_call.and_then(|of_call| of_call.get(numbers.value(row))) {
                Some(form) => form.as_deref(),
                None => forms.is_valid(row).then(|| forms.value(row)),
            }
        });
        columns[batch.schema().index_of(e164)?] = Arc::new(restored.collect::<StringArray>());
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, Error> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| Error::Corrupt(format!("column `{name}` is missing or not text")))
}
