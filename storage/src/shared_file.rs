//! A small JSON file that is replaced as a whole: in the data directory, or in the bucket, where nodes share it and each
//! looks now and then whether another one changed it.

use std::future::Future;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::bucket::{Bucket, Written};
use crate::durable_file;
use crate::error::Error;

/// Tells one state of a shared file from the next; `None` when there is none yet, or nobody shares it.
pub(crate) type Tag = Option<String>;

/// Where the file is.
pub(crate) enum SharedFile {
    /// Only this process has it.
    Local(PathBuf),
    /// Other nodes have it, too.
    Shared { bucket: Bucket, key: String, runtime: Handle },
}

impl SharedFile {
    /// The file of this name in the data directory.
    pub fn local(data_dir: &Path, name: &str) -> SharedFile {
        SharedFile::Local(data_dir.join(name))
    }

    /// The file of this name in the bucket. One in the data directory, of before there were several nodes, is put there if
    /// there is none.
    ///
    /// # Errors
    /// If the bucket or the file cannot be read or written.
    pub async fn shared(bucket: &Bucket, data_dir: &Path, name: &str) -> Result<SharedFile, Error> {
        let key = format!("config/{name}");
        if let Some(before) = durable_file::read::<serde_json::Value>(&data_dir.join(name))?
            && bucket.read_tagged(&key).await?.is_none()
        {
            bucket.create(&key, text(&before)?).await?;
        }
        Ok(SharedFile::Shared { bucket: bucket.clone(), key, runtime: Handle::current() })
    }

    /// Where it is, for errors.
    pub fn place(&self) -> String {
        match self {
            SharedFile::Local(path) => path.display().to_string(),
            SharedFile::Shared { key, .. } => format!("`{key}` in the bucket"),
        }
    }

    /// What is in it, if there is one. Blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read<T: DeserializeOwned + Send>(&self) -> Result<(Option<T>, Tag), Error> {
        match self {
            SharedFile::Local(path) => Ok((durable_file::read(path)?, None)),
            SharedFile::Shared { runtime, .. } => match wait(runtime, self.newer_than(&None))? {
                Some((content, tag)) => Ok((Some(content), tag)),
                None => Ok((None, None)),
            },
        }
    }

    /// What is in a shared one, if it has another tag than this.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn newer_than<T: DeserializeOwned>(&self, tag: &Tag) -> Result<Option<(T, Tag)>, Error> {
        let SharedFile::Shared { bucket, key, .. } = self else { return Ok(None) };
        let Some((bytes, found)) = bucket.read_newer(key, tag.as_deref()).await? else { return Ok(None) };
        let content = serde_json::from_slice(&bytes);
        let content = content.map_err(|error| Error::Corrupt(format!("{}: {error}", self.place())))?;
        Ok(Some((content, Some(found))))
    }

    /// Replaces it, durably, and gives the new tag; `None` when another node changed it since it had this one. Blocks.
    ///
    /// # Errors
    /// If it cannot be written. A shared one may have been written all the same.
    pub fn write(&self, content: &impl Serialize, tag: &Tag) -> Result<Option<Tag>, Error> {
        match self {
            SharedFile::Local(path) => durable_file::write(path, content).map(|()| Some(None)),
            SharedFile::Shared { bucket, key, runtime } => {
                let text = text(content)?;
                match wait(runtime, bucket.replace(key, text, tag.clone()))? {
                    Written::Now(tag) => Ok(Some(Some(tag))),
                    Written::Refused => Ok(None),
                }
            }
        }
    }
}

fn text(content: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec_pretty(content).map_err(|error| Error::Config(error.to_string()))
}

/// Waits on a thread of its own, so that it may be called from anywhere; changes are rare.
fn wait<T: Send>(runtime: &Handle, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join()).unwrap_or(Err(Error::Closed))
}
