//! The sessions in which the archive reads and sorts its own tables.

use std::path::Path;
use std::sync::Arc;

use datafusion::config::SpillCompression;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::error::{Context, Error};

/// A session for the archive's own reads: strings as strings, filters pushed into Parquet. Sorts that need more than
/// `memory_bytes` spill into `spill`.
///
/// # Errors
/// If the directory cannot be made.
pub fn session(memory_bytes: usize, spill: &Path) -> Result<SessionContext, Error> {
    std::fs::create_dir_all(spill).context(format!("making `{}`", spill.display()))?;
    let mut config = SessionConfig::new().with_information_schema(false).with_target_partitions(2);
    let options = config.options_mut();
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = true;
    options.execution.sort_spill_reservation_bytes = memory_bytes / 16;
    options.execution.spill_compression = SpillCompression::Lz4Frame;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
        .with_temp_file_path(spill)
        .build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// The same for sorting rows that may be large: a sort needs room for two of its batches, and does not divide one.
/// Messages of a MiB each, the most that is taken, then need an eighth of 256 MiB.
pub fn for_large_rows(session: &SessionContext) -> SessionContext {
    const ROWS: usize = 16;
    let config = session.copied_config().with_batch_size(ROWS).with_target_partitions(1);
    SessionContext::new_with_config_rt(config, session.runtime_env())
}
