//! Joining the small files of a day, so that a query opens few: the rows stay what they are.

use std::collections::{BTreeMap, HashSet};

use datafusion::prelude::{SessionContext, ident};
use deltalake::kernel::Action;
use futures::TryStreamExt;

use super::Table;
use crate::error::Error;

/// A file below this size is small.
const SMALL_BYTES: i64 = 16 << 20;
/// So many small files of a day are joined.
const JOINED_FILES: usize = 16;
/// At most so many bytes of files are joined at once.
const JOINED_BYTES: i64 = 128 << 20;

impl Table {
    /// Joins the small files of every partition that has many; says whether anything was joined. `order` are the
    /// columns that the rows are sorted by.
    ///
    /// # Errors
    /// If the table cannot be read or written; it is then as before.
    pub async fn join_small_files(&mut self, session: &SessionContext, order: &[&str]) -> Result<bool, Error> {
        self.settle().await?;
        let mut joined = false;
        while let Some(paths) = self.small_files().await? {
            self.join(session, order, paths).await?;
            joined = true;
        }
        Ok(joined)
    }

    async fn small_files(&self) -> Result<Option<HashSet<String>>, Error> {
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        let mut partitions: BTreeMap<[String; 2], Vec<(i64, String)>> = BTreeMap::new();
        for file in files.iter().filter(|file| file.size() < SMALL_BYTES) {
            let values = file.partition_values_map();
            let partition = ["day", "tier"].map(|name| values.get(name).cloned().flatten().unwrap_or_default());
            partitions.entry(partition).or_default().push((file.size(), file.path().into_owned()));
        }
        let crowded = partitions.into_values().find(|files| files.len() >= JOINED_FILES);
        Ok(crowded.map(|mut files| {
            files.sort_unstable();
            let mut bytes = 0;
            let fits = files.into_iter().take_while(|(size, _)| {
                bytes += size;
                bytes <= JOINED_BYTES
            });
            fits.map(|(_, path)| path).collect()
        }))
    }

    async fn join(&mut self, session: &SessionContext, order: &[&str], paths: HashSet<String>) -> Result<(), Error> {
        let provider = self.handle.table_provider().with_session(std::sync::Arc::clone(&self.session));
        let provider = provider.with_file_paths(paths.iter().cloned()).await?;
        let frame = self.as_stored(session.read_table(provider)?)?;
        let sorted = frame.sort(order.iter().map(|column| ident(*column).sort(true, false)).collect())?;
        let adds = self.write(sorted.execute_stream().await?).await?;
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        let removed = files.iter().filter(|file| paths.contains(file.path().as_ref()));
        let removed = removed.map(|file| (Action::Remove(file.remove_action(false)), file.size())).collect();
        self.replace(removed, adds).await
    }
}
