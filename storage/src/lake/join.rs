//! Joining the small files of a day, so that a query opens few: the rows stay what they are.

use std::collections::{BTreeMap, HashSet};

use datafusion::prelude::{SessionContext, ident};

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
        let mut partitions: BTreeMap<(String, String), Vec<(i64, String)>> = BTreeMap::new();
        for file in self.files().await?.into_iter().filter(|file| file.bytes < SMALL_BYTES) {
            partitions.entry((file.day, file.tier)).or_default().push((file.bytes, file.path));
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
        let frame = self.as_stored(session.read_table(self.provider_of(paths.iter().cloned()).await?)?)?;
        let sorted = frame.sort(order.iter().map(|column| ident(*column).sort(true, false)).collect())?;
        let adds = self.write(sorted.execute_stream().await?).await?;
        self.swap(adds, |file| paths.contains(&file.path)).await
    }
}
