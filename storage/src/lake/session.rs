//! The sessions in which the archive reads and sorts its own tables.

use std::path::Path;
use std::sync::Arc;

use datafusion::config::SpillCompression;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::error::{Context, Error};

/// Rows that are read or sorted at once: a sort needs room for some batches, and the row of a call has a KiB.
const BATCH_ROWS: usize = 2048;

/// Footers of files that are kept in memory.
const FOOTER_BYTES: usize = 16 << 20;

/// A session for the archive's own reads: strings as strings, filters pushed into Parquet. Sorts that need more than
/// `memory_bytes` spill into `spill`.
///
/// # Errors
/// If the directory cannot be made.
pub fn session(memory_bytes: usize, spill: &Path) -> Result<SessionContext, Error> {
    std::fs::create_dir_all(spill).context(format!("making `{}`", spill.display()))?;
    let mut config =
        SessionConfig::new().with_information_schema(false).with_target_partitions(2).with_batch_size(BATCH_ROWS);
    let options = config.options_mut();
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = true;
    options.execution.sort_spill_reservation_bytes = memory_bytes / 16;
    options.execution.spill_compression = SpillCompression::Lz4Frame;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
        .with_temp_file_path(spill)
        .with_metadata_cache_limit(FOOTER_BYTES)
        .build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// The same for what is to be one stream, with so many rows at once. A sort of several partitions merges them at its
/// end, which takes memory that the sorts have used up, and fails.
pub fn in_one_partition(session: &SessionContext, rows: Option<usize>) -> SessionContext {
    let config = session.copied_config().with_target_partitions(1).with_batch_size(rows.unwrap_or(BATCH_ROWS));
    SessionContext::new_with_config_rt(config, session.runtime_env())
}
