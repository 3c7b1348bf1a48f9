//! The rows of one side: which they are, sorted by id, as digests or whole.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::builder::FixedSizeBinaryBuilder;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};
use datafusion::prelude::{DataFrame, Expr, SessionContext, cast, col};
use sha2::{Digest, Sha256};

use super::super::Superseded;
use super::Shape;
use super::merge::{Cursor, Reader, Row, Side};
use crate::error::Error;
use crate::lake;
use crate::schema;

/// Bytes of a digest: chance does not make two rows of any table alike.
const DIGEST_BYTES: usize = 16;

/// The final rows of a stored table but for those that are superseded.
pub(super) fn stored(
    session: &SessionContext,
    table: Arc<dyn TableProvider>,
    id: &str,
    superseded: Option<Superseded>,
) -> Result<DataFrame, Error> {
    let frame = session.read_table(table)?.filter(lake::read::is_whole())?;
    let Some(superseded) = superseded else { return Ok(frame) };
    Ok(frame.filter(chosen(move |id| !superseded.contains(id), id))?)
}

/// Rows that are in memory.
pub(super) fn held(
    session: &SessionContext,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<DataFrame, Error> {
    let schema = batches.first().map_or_else(|| schema::bare(schema), RecordBatch::schema);
    Ok(session.read_table(Arc::new(MemTable::try_new(schema, vec![batches])?))?)
}

/// Every row as its digest.
pub(super) async fn digests(frames: &[DataFrame], shape: &Shape) -> Result<Side, Error> {
    let digest = ScalarUDF::from(RowDigest { signature: Signature::variadic_any(Volatility::Immutable) });
    let columns = vec![text(shape.id).alias(shape.id), digest.call(visible(&shape.schema)).alias("digest")];
    let mut cursors = Vec::with_capacity(frames.len());
    for frame in frames {
        let frame = frame.clone().select(columns.clone())?.sort(vec![col(shape.id).sort(true, false)])?;
        cursors.push(Cursor::new(frame.execute_stream().await?, read_digests(shape.id)));
    }
    Ok(Side::new(cursors))
}

/// The rows with these ids, or all, as JSON.
pub(super) async fn whole(
    frames: &[DataFrame],
    shape: &Shape,
    picked: Option<Arc<HashSet<String>>>,
) -> Result<Side, Error> {
    let mut cursors = Vec::with_capacity(frames.len());
    for frame in frames {
        let mut frame = frame.clone();
        if let Some(picked) = picked.clone() {
            frame = frame.filter(chosen(move |id| picked.contains(id), shape.id))?;
        }
        let frame = frame.select(visible(&shape.schema))?.sort(vec![col(shape.id).sort(true, false)])?;
        cursors.push(Cursor::new(frame.execute_stream().await?, read_lines(shape.id)));
    }
    Ok(Side::new(cursors))
}

/// Whether the row is wanted, by its id. Said to be volatile, so that it stays out of the scan of the files.
pub(super) fn chosen(is_chosen: impl Fn(&str) -> bool + Send + Sync + 'static, id: &str) -> Expr {
    let check = move |arguments: &[ColumnarValue]| -> datafusion::error::Result<ColumnarValue> {
        let ids = arguments[0].to_array(1)?;
        let chosen = ids.as_string::<i32>().iter().map(|id| Some(id.is_some_and(&is_chosen)));
        let chosen: ArrayRef = Arc::new(chosen.collect::<BooleanArray>());
        Ok(ColumnarValue::Array(chosen))
    };
    let (arguments, answer) = (vec![DataType::Utf8], DataType::Boolean);
    create_udf("chosen", arguments, answer, Volatility::Volatile, Arc::new(check)).call(vec![text(id)])
}

fn text(name: &str) -> Expr {
    cast(col(name), DataType::Utf8)
}

/// The columns that SQL shows, texts in the same type whatever the table stores them as.
fn visible(schema: &SchemaRef) -> Vec<Expr> {
    let columns = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => text(field.name()).alias(field.name()),
        _ => col(format!("\"{}\"", field.name())).alias(field.name()),
    });
    columns.collect()
}

fn ids(batch: &RecordBatch, id: &str) -> Result<Vec<String>, Error> {
    let column = batch.column_by_name(id).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| Error::Corrupt(format!("column `{id}` is missing or not text")))?;
    Ok(column.iter().map(|id| id.unwrap_or_default().to_owned()).collect())
}

fn read_digests(id: &'static str) -> Reader {
    Box::new(move |batch: &RecordBatch| {
        let digests = batch.column_by_name("digest").and_then(|column| column.as_fixed_size_binary_opt());
        let digests = digests.ok_or_else(|| Error::Corrupt("the digests of rows are missing".into()))?;
        let ids = ids(batch, id)?.into_iter().enumerate();
        Ok(ids.map(|(row, id)| Row { id, content: digests.value(row).to_vec() }).collect())
    })
}

fn read_lines(id: &'static str) -> Reader {
    Box::new(move |batch: &RecordBatch| {
        let mut lines = Vec::new();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
        writer.write(batch)?;
        writer.finish()?;
        drop(writer);
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let rows = ids(batch, id)?.into_iter().zip(lines);
        Ok(rows.map(|(id, line)| Row { id, content: line.to_vec() }).collect::<VecDeque<Row>>())
    })
}

/// `row_digest(columns…)`: SHA-256, cut, over a form of the row that is the same exactly when all values are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowDigest {
    signature: Signature,
}

impl ScalarUDFImpl for RowDigest {
    fn name(&self) -> &str {
        "row_digest"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(DataType::FixedSizeBinary(DIGEST_BYTES as i32))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        let columns = arguments.args.iter().map(|column| column.to_array(arguments.number_rows));
        let columns = columns.collect::<datafusion::error::Result<Vec<ArrayRef>>>()?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
        let mut digests = FixedSizeBinaryBuilder::with_capacity(rows.num_rows(), DIGEST_BYTES as i32);
        for row in &rows {
            digests.append_value(&Sha256::digest(row)[..DIGEST_BYTES])?;
        }
        Ok(ColumnarValue::Array(Arc::new(digests.finish())))
    }
}
