//! Two sides in the order of their ids, walked together: only what is not the same on both comes out.

use std::cmp::Ordering;
use std::collections::VecDeque;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use crate::error::Error;

/// A row, or what stands for it.
#[derive(Debug)]
pub(super) struct Row {
    pub id: String,
    /// Equal exactly when the rows are.
    pub content: Vec<u8>,
}

/// What makes rows of a batch, in its order.
pub(super) type Reader = Box<dyn Fn(&RecordBatch) -> Result<VecDeque<Row>, Error> + Send + Sync>;

/// One sorted source of rows.
pub(super) struct Cursor {
    stream: SendableRecordBatchStream,
    read: Reader,
    waiting: VecDeque<Row>,
}

impl Cursor {
    pub fn new(stream: SendableRecordBatchStream, read: Reader) -> Cursor {
        Cursor { stream, read, waiting: VecDeque::new() }
    }

    /// Makes sure that a row waits, unless there is none left.
    async fn fill(&mut self) -> Result<(), Error> {
        while self.waiting.is_empty() {
            let Some(batch) = self.stream.try_next().await? else { return Ok(()) };
            self.waiting = (self.read)(&batch)?;
        }
        Ok(())
    }
}

/// One side: sources that are sorted each, with a count of what was taken.
pub(super) struct Side {
    cursors: Vec<Cursor>,
    taken: u64,
}

impl Side {
    pub fn new(cursors: Vec<Cursor>) -> Side {
        Side { cursors, taken: 0 }
    }

    async fn next(&mut self) -> Result<Option<Row>, Error> {
        for cursor in &mut self.cursors {
            cursor.fill().await?;
        }
        let filled = self.cursors.iter_mut().filter(|cursor| !cursor.waiting.is_empty());
        let lowest = filled.min_by(|one, other| one.waiting[0].id.cmp(&other.waiting[0].id));
        let row = lowest.and_then(|cursor| cursor.waiting.pop_front());
        self.taken += u64::from(row.is_some());
        Ok(row)
    }
}

/// Rows of one id that are not the same on both sides.
#[derive(Debug)]
pub(super) struct Pair {
    pub id: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// Both sides.
pub(super) struct Merge {
    before: Side,
    after: Side,
    next_before: Option<Row>,
    next_after: Option<Row>,
}

impl Merge {
    pub fn new(before: Side, after: Side) -> Merge {
        Merge { before, after, next_before: None, next_after: None }
    }

    /// Rows taken from both sides so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.before.taken, self.after.taken)
    }

    /// The next that differ.
    pub async fn next(&mut self) -> Result<Option<Pair>, Error> {
        loop {
            if self.next_before.is_none() {
                self.next_before = self.before.next().await?;
            }
            if self.next_after.is_none() {
                self.next_after = self.after.next().await?;
            }
            let order = match (&self.next_before, &self.next_after) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.id.cmp(&after.id),
            };
            let before = if order.is_le() { self.next_before.take() } else { None };
            let after = if order.is_ge() { self.next_after.take() } else { None };
            let (before_content, after_content) =
                (before.as_ref().map(|row| &row.content), after.as_ref().map(|row| &row.content));
            if before_content == after_content {
                continue;
            }
            let id = before.as_ref().or(after.as_ref()).map(|row| row.id.clone()).unwrap_or_default();
            return Ok(Some(Pair { id, before: before.map(|row| row.content), after: after.map(|row| row.content) }));
        }
    }
}
