//! The Unix socket in the data directory: whoever may open it is the administrator.

use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;

const NAME: &str = "trunklog.sock";

/// A socket's path may have 107 bytes; tests and containers have longer data directories.
const LONGEST_PATH: usize = 100;

/// A directory under a path that is short enough for sockets.
pub struct Reachable {
    path: PathBuf,
    /// Keeps `/proc/self/fd/…` valid.
    _directory: Option<File>,
}

impl Reachable {
    fn new(directory: &Path) -> std::io::Result<Reachable> {
        if directory.as_os_str().len() + 40 <= LONGEST_PATH {
            return Ok(Reachable { path: directory.to_owned(), _directory: None });
        }
        let handle = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        Ok(Reachable { path, _directory: Some(handle) })
    }

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join(NAME)
    }
}

/// Binds the socket of this data directory, mode 0600. The caller holds the data directory's lock, so one that is
/// already there was left by a crash and is replaced. It is made inside a private directory and then moved, so that
/// it is open to others at no moment.
pub fn bind(data_dir: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Io { context: format!("making the socket in {}", data_dir.display()), source };
    let reachable = Reachable::new(data_dir).map_err(failed)?;
    let private = reachable.path.join(".socket");
    remove(&private)?;
    std::fs::DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
    let fresh = private.join("s");
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&fresh, reachable.socket()).map_err(failed)?;
    remove(&private)?;
    Ok(listener)
}

fn remove(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { context: format!("removing {}", directory.display()), source: error })
        }
        _ => Ok(()),
    }
}

/// Takes the socket away, so that the next command does not try it.
pub fn unbind(data_dir: &Path) {
    let path = data_dir.join(NAME);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, path = %path.display(), "cannot remove the socket");
    }
}

/// The socket of the server that runs on this data directory, if one answers.
pub async fn find(data_dir: &Path) -> Option<Reachable> {
    let reachable = Reachable::new(data_dir).ok()?;
    UnixStream::connect(reachable.socket()).await.ok().map(|_| reachable)
}
