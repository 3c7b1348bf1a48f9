//! Object storage on a local disk, made durable: `object_store`'s own local file system never syncs.
//!
//! The law: when a put, a multipart upload, a copy or a rename returns, the file's bytes and its directory entry (and
//! those of directories made on the way) are on disk. A put is synced before it becomes visible, so that no crash
//! shows an empty commit.
//!
//! Bytes are synced as they are written, a piece at a time: one sync of a large file keeps the disk from everything
//! else for as long as that takes, and the log's next sync is what a sender waits for.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

/// So many bytes are written between two syncs: some milliseconds of a slow disk.
const SYNCED_BYTES: usize = 1 << 20;

/// A local file system whose writes are durable when they return.
#[derive(Debug, Clone)]
pub struct DurableStore {
    inner: Arc<LocalFileSystem>,
    root: PathBuf,
    /// Directories whose own entry is known to be on disk.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
    staged: Arc<AtomicU64>,
}

impl DurableStore {
    /// The local file system, for what lies below `root`: an absolute directory whose own entry is on disk.
    pub fn new(root: &FilePath) -> DurableStore {
        DurableStore {
            inner: Arc::new(LocalFileSystem::new()),
            durable: Arc::new(Mutex::new(HashSet::from([root.to_owned()]))),
            root: root.to_owned(),
            staged: Arc::default(),
        }
    }

    /// Syncs a file that the inner store has put in place, then its directories.
    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let store = self.clone();
        blocking(move || {
            File::open(&path)?.sync_all()?;
            store.sync_directories(&path)
        })
        .await
    }

    /// Syncs the directory of a new file and, once, the directories above it that were made for it.
    fn sync_directories(&self, file: &FilePath) -> std::io::Result<()> {
        let Some(parent) = file.parent() else { return Ok(()) };
        File::open(parent)?.sync_all()?;
        let mut directory = parent.to_owned();
        while directory != self.root && !self.durable.lock().contains(&directory) {
            let Some(above) = directory.parent().map(FilePath::to_owned) else { break };
            File::open(&above)?.sync_all()?;
            self.durable.lock().insert(directory);
            directory = above;
        }
        Ok(())
    }

    /// A new file beside `path`, not yet to be seen.
    fn stage(&self, path: &FilePath) -> std::io::Result<(PathBuf, File)> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // The inner store hides names that end in `#` and digits from listings: its own mark of a staged file.
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{}{number}", std::process::id()));
        let staged = PathBuf::from(staged);
        let file = File::create(&staged)?;
        Ok((staged, file))
    }

    fn put_durably(&self, path: &FilePath, payload: &PutPayload, create: bool) -> std::io::Result<()> {
        let (staged, file) = self.stage(path)?;
        self.publish(&staged, path, create, || {
            write_synced(&file, payload, 0)?;
            file.sync_all()
        })
    }

    /// Puts a staged file in its place once it was written and synced.
    fn publish(
        &self,
        staged: &FilePath,
        path: &FilePath,
        create: bool,
        write: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let written = write()
            .and_then(|()| if create { std::fs::hard_link(staged, path) } else { std::fs::rename(staged, path) });
        if create || written.is_err() {
            let _ = std::fs::remove_file(staged);
        }
        written?;
        let synced = self.sync_directories(path);
        if create && synced.is_err() {
            // Seen but perhaps not on disk, it must not be believed: a commit is then tried again, never trusted.
            let _ = std::fs::remove_file(path);
        }
        synced
    }
}

/// Removes the staged files that a killed process left below this directory; nobody may be writing there.
///
/// # Errors
/// If a directory cannot be read or a file not be removed.
pub fn remove_staged(directory: &FilePath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_staged(&entry.path())?;
            continue;
        }
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes at this position, and syncs piece by piece.
fn write_synced(file: &File, payload: &PutPayload, mut position: u64) -> std::io::Result<()> {
    for piece in payload.iter().flat_map(|part| part.chunks(SYNCED_BYTES)) {
        file.write_all_at(piece, position)?;
        position += piece.len() as u64;
        if piece.len() == SYNCED_BYTES {
            file.sync_data()?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Generic { store: "DurableStore", source: Box::new(error) }
}

impl std::fmt::Display for DurableStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DurableStore({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        let store = self.clone();
        let name = location.to_string();
        let written = tokio::task::spawn_blocking(move || store.put_durably(&path, &payload, create)).await;
        match written.map_err(|error| failed(std::io::Error::other(error)))? {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::AlreadyExists { path: name, source: Box::new(error) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let (store, target) = (self.clone(), path.clone());
        let (staged, file) = blocking(move || store.stage(&target)).await?;
        Ok(Box::new(DurableUpload { store: self.clone(), path, staged: Some(staged), file: Arc::new(file), end: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

#[derive(Debug)]
struct DurableUpload {
    store: DurableStore,
    path: PathBuf,
    /// Until it is in its place.
    staged: Option<PathBuf>,
    file: Arc<File>,
    /// Where the next part begins.
    end: u64,
}

impl Drop for DurableUpload {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            let _ = std::fs::remove_file(staged);
        }
    }
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, position) = (Arc::clone(&self.file), self.end);
        self.end += data.content_length() as u64;
        Box::pin(blocking(move || write_synced(&file, &data, position)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(|| failed(std::io::Error::other("the upload is over")))?;
        let (store, path, file) = (self.store.clone(), self.path.clone(), Arc::clone(&self.file));
        blocking(move || store.publish(&staged, &path, false, || file.sync_all())).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let Some(staged) = self.staged.take() else { return Ok(()) };
        blocking(move || std::fs::remove_file(staged)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_left_of_its_puts_is_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path().canonicalize().expect("it is there");
        let store = DurableStore::new(&root);
        let path = |name: &str| Path::from_absolute_path(root.join(name)).expect("a path");
        let (kept, begun) = (path("day=1/kept.parquet"), path("day=1/begun.parquet"));
        store.put_opts(&kept, PutPayload::from_static(b"rows"), PutOptions::default()).await.expect("kept");
        let mut upload = store.put_multipart_opts(&begun, PutMultipartOptions::default()).await.expect("begun");
        upload.put_part(PutPayload::from_static(b"ro")).await.expect("a part");
        // As a kill would leave it.
        std::mem::forget(upload);
        let names = || std::fs::read_dir(root.join("day=1")).expect("a directory").count();
        assert_eq!(names(), 2);
        remove_staged(&root).expect("removed");
        assert_eq!(names(), 1);
        let bytes = store.get_opts(&kept, GetOptions::default()).await.expect("there").bytes().await.expect("read");
        assert_eq!(&bytes[..], b"rows");
    }
}
