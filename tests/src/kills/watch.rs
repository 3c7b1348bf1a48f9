//! A directory tree as the kernel tells of it: what appears in it, is written and goes.
//!
//! A listing that is repeated would miss what lives shorter than its round; the kernel misses nothing. A new folder is
//! watched as soon as it is heard of, and what stands in it by then is reported as having appeared.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// What happened to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was made, linked, or renamed to this name.
    Appeared,
    /// Its bytes changed.
    Written,
    /// It was unlinked, or renamed from this name.
    Gone,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Change {
    /// To what.
    pub path: PathBuf,
    /// What.
    pub kind: Kind,
}

/// Folders that are watched.
pub struct Watch {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new() -> Watch {
        Watch { inotify: inotify::init(CreateFlags::CLOEXEC).unwrap(), folders: HashMap::new() }
    }

    /// Watches a folder and all below it, also what is made there later. Gives the files that are there.
    pub fn add(&mut self, folder: &Path) -> Vec<PathBuf> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::MODIFY;
        let mut files = Vec::new();
        match inotify::add_watch(&self.inotify, folder, flags) {
            Ok(number) => drop(self.folders.insert(number, folder.to_owned())),
            // It went as quickly as it came.
            Err(Errno::NOENT | Errno::NOTDIR) => return files,
            Err(error) => panic!("watching `{}`: {error}", folder.display()),
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                files.extend(self.add(&entry.path()));
            } else {
                files.push(entry.path());
            }
        }
        files
    }

    /// Waits until something happens and gives all that has.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (folder, events, name) in self.read() {
            assert!(!events.contains(ReadFlags::QUEUE_OVERFLOW), "the kernel dropped events");
            let (Some(above), Some(name)) = (self.folders.get(&folder), name) else { continue };
            let path = above.join(name);
            let kind = if events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                Kind::Appeared
            } else if events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                Kind::Gone
            } else {
                Kind::Written
            };
            changes.push(Change { path: path.clone(), kind });
            if events.contains(ReadFlags::ISDIR) && kind == Kind::Appeared {
                let found = self.add(&path).into_iter();
                changes.extend(found.map(|path| Change { path, kind: Kind::Appeared }));
            }
        }
        changes
    }

    fn read(&self) -> Vec<(i32, ReadFlags, Option<OsString>)> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                    events.push((event.wd(), event.events(), name));
                }
                Err(Errno::INTR) => continue,
                Err(error) => panic!("reading what happened: {error}"),
            }
            if reader.is_buffer_empty() {
                return events;
            }
        }
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}
