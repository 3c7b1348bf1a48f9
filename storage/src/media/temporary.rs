//! A file in `objects/.tmp` that is gone when it is dropped, unless it was moved into place.

use std::fs::File;
use std::io::{Result as IoResult, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::tree::Tree;

/// A file that nobody sees yet.
pub(super) struct Temporary {
    file: Arc<File>,
    /// Its name in `objects/.tmp`; `None` once it was moved.
    name: Option<String>,
    tree: Arc<Tree>,
}

impl Temporary {
    pub fn create(tree: &Arc<Tree>) -> IoResult<Temporary> {
        let name = Uuid::new_v4().simple().to_string();
        let file = Arc::new(tree.create_temporary(&name)?);
        Ok(Temporary { file, name: Some(name), tree: Arc::clone(tree) })
    }

    pub fn append(&self, bytes: &[u8]) -> IoResult<()> {
        (&*self.file).write_all(bytes)
    }

    /// The file itself; it can be read after its name is gone.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Starts write-back and waits for it, so that the last sync is short.
    pub fn sync_data(&self) -> IoResult<()> {
        self.file.sync_data()
    }

    /// Moves the file into a directory. An existing one of that name is never replaced: `AlreadyExists`.
    pub fn move_into(&mut self, directory: &OwnedFd, name: &str) -> IoResult<Arc<File>> {
        let Some(own) = self.name.as_deref() else { return Ok(Arc::clone(&self.file)) };
        let here = &self.tree.temporary;
        match rustix::fs::renameat_with(here, own, directory, name, RenameFlags::NOREPLACE) {
            // Not every file system knows a rename that does not replace.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(here, own, directory, name, AtFlags::empty())?;
                rustix::fs::unlinkat(here, own, AtFlags::empty())?;
            }
            renamed => renamed?,
        }
        self.name = None;
        Ok(Arc::clone(&self.file))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        // What cannot be removed now is removed at the next start.
        let _ = rustix::fs::unlinkat(&self.tree.temporary, name.as_str(), AtFlags::empty());
        // The last close frees the blocks: for gigabytes that takes too long for an async thread.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let file = Arc::clone(&self.file);
            runtime.spawn_blocking(move || drop(file));
        }
    }
}
