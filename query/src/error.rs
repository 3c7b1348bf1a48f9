//! Why a query was not answered, named after what the caller should do.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use trunklog_storage::error::{Error as StorageError, is_outage};

/// A limit that a query can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Rows of the answer.
    Rows,
    /// Time.
    Time,
    /// Memory.
    Memory,
}

impl Limit {
    /// The name in problem documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Rows => "rows",
            Limit::Time => "time",
            Limit::Memory => "memory",
        }
    }
}

/// Errors of queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The SQL is wrong, or it failed on the data that it asked for.
    #[error("{0}")]
    Sql(String),
    /// The SQL would change something.
    #[error("only queries are allowed: {0}")]
    ReadOnly(String),
    /// The answer would be larger or take longer than is allowed; there is no short answer.
    #[error("the {} limit was reached: {detail}", .limit.as_str())]
    Limit {
        /// Which one.
        limit: Limit,
        /// How much is allowed.
        detail: String,
    },
    /// Too many queries are waiting.
    #[error("too many queries are waiting")]
    Busy,
    /// A parameter of the request is at fault.
    #[error("{detail}")]
    Parameter {
        /// Its name.
        parameter: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is nothing of that name.
    #[error("there is no {0}")]
    NotFound(String),
    /// That offset has not been reached in time.
    #[error("offset {0} is not visible yet")]
    NotYet(String),
    /// That version is no longer kept.
    #[error("no longer available: {0}")]
    Gone(String),
    /// The archive does not answer at the moment.
    #[error("the archive is not available: {0}")]
    Unavailable(String),
    /// A fault on our side.
    #[error("internal error: {0}")]
    Internal(String),
}

impl QueryError {
    /// A parameter that is at fault.
    pub fn parameter(parameter: impl Into<String>, detail: impl Into<String>) -> QueryError {
        QueryError::Parameter { parameter: parameter.into(), detail: detail.into() }
    }

    /// What happened, for logs: without the message, which may show values of rows.
    pub fn kind(&self) -> &str {
        match self {
            QueryError::Sql(_) => "sql",
            QueryError::ReadOnly(_) => "read-only",
            QueryError::Limit { limit, .. } => limit.as_str(),
            QueryError::Busy => "busy",
            QueryError::Parameter { .. } => "parameter",
            QueryError::NotFound(_) => "not found",
            QueryError::NotYet(_) => "not yet",
            QueryError::Gone(_) => "gone",
            QueryError::Unavailable(_) => "unavailable",
            // What a file of a table did is told with its path, which shows nothing of rows.
            QueryError::Internal(detail) if detail.starts_with(FILE) => until_value(detail, FILE.len()),
            QueryError::Internal(detail) => until_value(detail, 0),
        }
    }

    fn memory(detail: impl Into<String>) -> QueryError {
        QueryError::Limit { limit: Limit::Memory, detail: detail.into() }
    }
}

impl From<StorageError> for QueryError {
    fn from(error: StorageError) -> QueryError {
        match error {
            StorageError::Gone(what) => QueryError::Gone(what),
            StorageError::Full(_)
            | StorageError::Busy
            | StorageError::Unavailable(_)
            | StorageError::Poisoned(_)
            | StorageError::Closed => QueryError::Unavailable(error.to_string()),
            StorageError::Query(error) => QueryError::from(error),
            other if other.is_outage() => QueryError::Unavailable(other.to_string()),
            other => QueryError::Internal(other.to_string()),
        }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> QueryError {
        let detail = error.strip_backtrace();
        if is_outage(&error) { QueryError::Unavailable(detail) } else { classify(&error, detail) }
    }
}

/// Begins what went wrong with a file of a table.
const FILE: &str = "Parquet error: ";

/// Up to where a value may follow, looked for from here on.
fn until_value(detail: &str, from: usize) -> &str {
    let end = detail[from..].find([':', '"']).map_or(detail.len(), |at| from + at);
    &detail[..end]
}

fn classify(error: &DataFusionError, detail: String) -> QueryError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::memory(detail),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_) => QueryError::Sql(detail),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::MemoryError(_) => QueryError::memory(detail),
            ArrowError::IoError(..) | ArrowError::ExternalError(_) | ArrowError::IpcError(_) => {
                QueryError::Internal(detail)
            }
            _ => QueryError::Sql(detail),
        },
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => classify(first, detail),
            None => QueryError::Internal(detail),
        },
        _ => QueryError::Internal(detail),
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> QueryError {
        QueryError::from(DataFusionError::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_limit() {
        let error = QueryError::from(DataFusionError::ResourcesExhausted("no memory".into()));
        assert!(matches!(error, QueryError::Limit { limit: Limit::Memory, .. }), "{error:?}");
    }

    #[test]
    fn logs_show_no_rows() {
        let error = QueryError::Internal("Arrow error: Cast error: Cannot cast string '+4930123'".into());
        assert_eq!(error.kind(), "Arrow error");
        let error = QueryError::Internal("Parquet error: EOF: expected 12 bytes".into());
        assert_eq!(error.kind(), "Parquet error: EOF");
        assert_eq!(QueryError::Sql("Cannot cast string '+4930123'".into()).kind(), "sql");
    }

    #[test]
    fn wrong_sql_is_the_callers_fault() {
        let error = DataFusionError::Plan("table not found".into()).context("planning");
        assert!(matches!(QueryError::from(error), QueryError::Sql(_)));
    }
}
