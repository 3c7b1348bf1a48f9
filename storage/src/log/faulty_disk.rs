//! A disk that fails as told, under one log directory: what tests put below [`super::disk`].
//!
//! The files are real and show what the kernel would show. Beside them is kept what a power failure would leave: how
//! pages stood before writes that were not synced, and names that were given and not synced. A failed sync is that of
//! Linux: it says so once, its pages count as clean from then on, and no later sync writes them unless somebody else
//! has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, const_mutex};
use rustix::io::Errno;

use super::segment::HEADER_BYTES;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

static DISKS: Mutex<Vec<(PathBuf, Weak<FaultyDisk>)>> = const_mutex(Vec::new());

/// What the log asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Of a new spare, or of the file that touches the directory.
    Create,
    /// Of zeros.
    WriteSpare,
    SyncSpare,
    WriteHeader,
    SyncHeader,
    /// Of a frame.
    Write,
    /// Of a frame.
    Sync,
    Rename,
    Remove,
    SyncDirectory,
}

/// What happens instead. Where a kind makes no sense, the operation fails with an I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write takes half of the bytes and says so.
    Short,
    /// A write takes nothing; a signal came.
    Interrupted,
    /// A write takes half of the bytes and fails; a sync fails, and nothing of what it was for is on disk.
    Error(Errno),
    /// A sync fails, and every other page is on disk.
    Half(Errno),
    /// So many sectors of a write are on disk when the power fails.
    Torn(usize),
    /// The power fails meanwhile; what is on disk shows when it comes back.
    PowerLoss,
}

impl Fault {
    fn error(self) -> std::io::Error {
        match self {
            Fault::Error(errno) | Fault::Half(errno) => errno.into(),
            Fault::Interrupted => Errno::INTR.into(),
            Fault::Short | Fault::Torn(_) | Fault::PowerLoss => Errno::IO.into(),
        }
    }
}

#[derive(Debug)]
struct Planned {
    operation: Operation,
    skip: u64,
    fault: Fault,
}

/// A page that the kernel shows differently from what is on disk.
#[derive(Debug)]
struct Page {
    on_disk: Vec<u8>,
    /// The next sync writes it.
    dirty: bool,
}

#[derive(Debug, Default)]
struct State {
    plan: Vec<Planned>,
    dead: bool,
    performed: Vec<Operation>,
    /// By inode and number.
    pages: BTreeMap<(u64, u64), Page>,
    /// Renames that are not known to be on disk, oldest first.
    names: Vec<(PathBuf, PathBuf)>,
    /// The next sync of the directory writes them.
    names_dirty: bool,
}

/// The disk under one log directory.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    directory: PathBuf,
    state: Mutex<State>,
}

impl FaultyDisk {
    /// Puts this directory on a faulty disk for as long as the handle lives; it works until told otherwise.
    pub fn under(directory: &Path) -> Arc<FaultyDisk> {
        let disk = Arc::new(FaultyDisk { directory: directory.to_owned(), state: Mutex::default() });
        let mut disks = DISKS.lock();
        disks.retain(|(_, disk)| disk.strong_count() > 0);
        disks.push((directory.to_owned(), Arc::downgrade(&disk)));
        disk
    }

    /// The faulty disk of this directory.
    pub fn at(directory: &Path) -> Option<Arc<FaultyDisk>> {
        DISKS.lock().iter().find(|(at, _)| at == directory).and_then(|(_, disk)| disk.upgrade())
    }

    /// The faulty disk of this file.
    pub fn of(file: &Path) -> Option<Arc<FaultyDisk>> {
        file.parent().and_then(FaultyDisk::at)
    }

    /// Once `skip` of these operations went well, the next one meets the fault.
    pub fn plan(&self, operation: Operation, skip: u64, fault: Fault) {
        self.state.lock().plan.push(Planned { operation, skip, fault });
    }

    /// Forgets what was planned and has not struck; says how much that was.
    pub fn calm(&self) -> usize {
        self.state.lock().plan.drain(..).count()
    }

    /// Everything that was asked of the disk, in order.
    pub fn performed(&self) -> Vec<Operation> {
        self.state.lock().performed.clone()
    }

    /// The power has failed.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// The power fails, if it had not, and comes back. Of what was written and not synced, a sector is there if
    /// `landed` says so; of what a failed sync was for, only what had landed then. Nothing of the log may be open.
    pub fn power_cycle(&self, mut landed: impl FnMut() -> bool) -> Result<()> {
        let mut state = self.state.lock();
        let files = self.files()?;
        for ((inode, number), mut page) in std::mem::take(&mut state.pages) {
            let Some(file) = files.get(&inode) else { continue };
            let shown = read_page(file, number)?;
            if page.dirty {
                for sector in (0..PAGE).step_by(SECTOR).filter(|_| landed()) {
                    page.on_disk[sector..sector + SECTOR].copy_from_slice(&shown[sector..sector + SECTOR]);
                }
            }
            let position = number * PAGE as u64;
            let end = file.metadata()?.len().saturating_sub(position).min(PAGE as u64);
            file.write_all_at(&page.on_disk[..usize::try_from(end).unwrap_or(PAGE)], position)?;
        }
        let names_landed = state.names_dirty && landed();
        for (from, to) in std::mem::take(&mut state.names).into_iter().rev() {
            match (names_landed, is_removed(&to)) {
                (true, true) => std::fs::remove_file(&to)?,
                (true, false) => {}
                (false, _) => std::fs::rename(&to, &from)?,
            }
        }
        (state.names_dirty, state.dead) = (false, false);
        Ok(())
    }

    fn files(&self) -> Result<BTreeMap<u64, File>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let file = File::options().read(true).write(true).open(entry?.path())?;
            files.insert(file.metadata()?.ino(), file);
        }
        Ok(files)
    }

    pub(super) fn create(&self) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.meet(Operation::Create)? {
            return Err(fault.error());
        }
        state.names_dirty = true;
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.renamed(Operation::Rename, from, to.to_owned())
    }

    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        let mut removed = path.as_os_str().to_owned();
        removed.push(".removed");
        self.renamed(Operation::Remove, path, PathBuf::from(removed))
    }

    fn renamed(&self, operation: Operation, from: &Path, to: PathBuf) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(fault) = state.meet(operation)? {
            return Err(fault.error());
        }
        assert!(!to.exists(), "`{}` would be lost", to.display());
        std::fs::rename(from, &to)?;
        state.names.push((from.to_owned(), to));
        state.names_dirty = true;
        Ok(())
    }

    pub(super) fn sync_directory(&self) -> Result<()> {
        let mut state = self.state.lock();
        let fault = state.meet(Operation::SyncDirectory)?;
        let dirty = std::mem::take(&mut state.names_dirty);
        if let Some(fault) = fault {
            state.names_dirty = dirty && fault == Fault::PowerLoss;
            return Err(fault.error());
        }
        if dirty {
            for (_, to) in std::mem::take(&mut state.names) {
                if is_removed(&to) {
                    let inode = std::fs::metadata(&to)?.ino();
                    state.pages.retain(|(of, _), _| *of != inode);
                    std::fs::remove_file(&to)?;
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// What this operation meets.
    fn meet(&mut self, operation: Operation) -> Result<Option<Fault>> {
        if self.dead {
            return Err(Errno::IO.into());
        }
        self.performed.push(operation);
        let Some(index) = self.plan.iter().position(|planned| planned.operation == operation) else { return Ok(None) };
        if self.plan[index].skip > 0 {
            self.plan[index].skip -= 1;
            return Ok(None);
        }
        let fault = self.plan.remove(index).fault;
        self.dead = matches!(fault, Fault::PowerLoss | Fault::Torn(_));
        Ok(Some(fault))
    }

    /// Writes to the kernel's memory.
    fn write(&mut self, inode: u64, file: &File, bytes: &[u8], position: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        for number in numbers(position, bytes.len(), PAGE) {
            match self.pages.entry((inode, number)) {
                Entry::Vacant(entry) => {
                    entry.insert(Page { on_disk: read_page(file, number)?, dirty: true });
                }
                Entry::Occupied(mut entry) => entry.get_mut().dirty = true,
            }
        }
        file.write_all_at(bytes, position)
    }

    /// Brings what was written to these bytes to the disk, whole sectors of it.
    fn land(&mut self, inode: u64, file: &File, position: u64, length: usize) -> Result<()> {
        for sector in numbers(position, length, SECTOR) {
            let (number, within) = (sector / 8, usize::try_from(sector % 8).unwrap_or_default() * SECTOR);
            let shown = read_page(file, number)?;
            if let Some(page) = self.pages.get_mut(&(inode, number)) {
                page.on_disk[within..within + SECTOR].copy_from_slice(&shown[within..within + SECTOR]);
            }
        }
        Ok(())
    }

    /// Counts the file's pages as clean, although they are not on disk.
    fn forget(&mut self, inode: u64) {
        for (_, page) in self.pages.iter_mut().filter(|((of, _), _)| *of == inode) {
            page.dirty = false;
        }
    }
}

/// The numbers of the pages or sectors that hold these bytes.
fn numbers(position: u64, length: usize, size: usize) -> std::ops::Range<u64> {
    let size = size as u64;
    position / size..(position + length as u64).div_ceil(size)
}

/// A page as the kernel shows it, zeros behind the file's end.
fn read_page(file: &File, number: u64) -> Result<Vec<u8>> {
    let mut page = vec![0; PAGE];
    let mut read = 0;
    while read < PAGE {
        match file.read_at(&mut page[read..], number * PAGE as u64 + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(page)
}

fn is_removed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "removed")
}

/// What a file on a faulty disk carries along.
#[derive(Debug)]
pub(super) struct FaultyFile {
    disk: Arc<FaultyDisk>,
    inode: u64,
    /// It is being filled with zeros.
    is_new: bool,
    /// The last write was that of the header.
    wrote_header: AtomicBool,
}

impl FaultyFile {
    pub fn of(path: &Path, file: &File) -> Result<Option<FaultyFile>> {
        let Some(disk) = FaultyDisk::of(path) else { return Ok(None) };
        let metadata = file.metadata()?;
        let (inode, is_new) = (metadata.ino(), metadata.len() == 0);
        Ok(Some(FaultyFile { disk, inode, is_new, wrote_header: AtomicBool::new(false) }))
    }

    pub fn write_at(&self, file: &File, bytes: &[u8], position: u64) -> Result<usize> {
        let header = position < HEADER_BYTES;
        self.wrote_header.store(header, Ordering::Relaxed);
        let operation = match (self.is_new, header) {
            (true, _) => Operation::WriteSpare,
            (false, true) => Operation::WriteHeader,
            (false, false) => Operation::Write,
        };
        let mut state = self.disk.state.lock();
        let Some(fault) = state.meet(operation)? else {
            state.write(self.inode, file, bytes, position)?;
            return Ok(bytes.len());
        };
        let taken = match fault {
            Fault::Interrupted => 0,
            Fault::Short | Fault::Error(_) | Fault::Half(_) => bytes.len().div_ceil(2),
            Fault::Torn(_) | Fault::PowerLoss => bytes.len(),
        };
        state.write(self.inode, file, &bytes[..taken], position)?;
        match fault {
            Fault::Short => return Ok(taken),
            Fault::Torn(0) => state.forget(self.inode),
            Fault::Torn(sectors) => {
                let end = (position / SECTOR as u64 + sectors as u64) * SECTOR as u64;
                let landed = usize::try_from(end - position).unwrap_or(taken).min(taken);
                state.land(self.inode, file, position, landed)?;
                state.forget(self.inode);
            }
            _ => {}
        }
        Err(fault.error())
    }

    pub fn sync(&self) -> Result<()> {
        let operation = match (self.is_new, self.wrote_header.load(Ordering::Relaxed)) {
            (true, _) => Operation::SyncSpare,
            (false, true) => Operation::SyncHeader,
            (false, false) => Operation::Sync,
        };
        let mut state = self.disk.state.lock();
        let fault = state.meet(operation)?;
        match fault {
            None => state.pages.retain(|(inode, _), page| *inode != self.inode || !page.dirty),
            Some(Fault::PowerLoss) => {}
            Some(fault) => {
                if matches!(fault, Fault::Half(_)) {
                    state.pages.retain(|(inode, number), page| *inode != self.inode || !page.dirty || number % 2 == 1);
                }
                state.forget(self.inode);
            }
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}
