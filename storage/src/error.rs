//! What can go wrong in storage, named after what the caller should do.

/// Errors of the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Disk or tail is full: nothing was written; try again later.
    #[error("the archive is full: {0}")]
    Full(String),
    /// Too many appends are waiting: nothing was written; try again at once.
    #[error("too many appends are waiting")]
    Busy,
    /// A write or sync of the log failed: nothing more is accepted until a restart.
    #[error("the log failed and takes no more messages until restart: {0}")]
    Poisoned(String),
    /// A server that storage rests on does not answer: nothing was acknowledged; try again later.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The archive is shutting down.
    #[error("the archive is closing")]
    Closed,
    /// That version is no longer kept.
    #[error("no longer available: {0}")]
    Gone(String),
    /// There is no such object.
    #[error("there is no `{0}`")]
    Missing(String),
    /// More bytes than are taken; nothing was kept.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// What is on disk contradicts itself; nothing was changed.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// Another process holds or changed it.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A setting is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// The file system failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Delta Lake failed.
    #[error("table: {0}")]
    Lake(#[from] deltalake::DeltaTableError),
    /// Arrow failed.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A query of the archive's own failed.
    #[error("query: {0}")]
    Query(#[from] datafusion::error::DataFusionError),
}

impl Error {
    /// Whether a server that holds files gave no answer: another try may do.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Unavailable(_)) || is_outage(self)
    }
}

/// Whether this goes back to a server of files that gave no answer. Local files have no such errors.
pub fn is_outage(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let cause = cause.downcast_ref::<object_store::Error>();
        matches!(cause, Some(object_store::Error::Generic { store, .. }) if !store.starts_with("Local"))
    })
}

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { context: what.into(), source })
    }
}
