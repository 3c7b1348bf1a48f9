//! An index on disk that can be made again: 128-bit keys, which must be hashes, and values of `V` bytes.
//!
//! ```text
//! add(entries, until) ──► sort ──┐
//!           runs of similar size ┴─ merge ──► NNN.run, synced ──► manifest.json, replaced ──► old runs unlinked
//! view().each(key) ──► every run, oldest first: filter (one cache line) ──► fence ──► one block read and checked
//! ```
//!
//! A run is immutable and the manifest alone says which runs count, so a crash leaves the index of before or after,
//! with its own `until`. In memory are filters and fences, about seventeen bits an entry; a key that is not there
//! costs no system call but in one of a thousand cases. Runs stay in the order of the log: merged are neighbours only.

mod build;
mod filter;
mod layout;
mod manifest;
mod merge;
mod run;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, Error};
use crate::event::{Micros, Offset};
use build::Builder;
use manifest::Manifest;
use run::Run;

/// The writer of an index; a directory must have one only. Its methods block.
#[derive(Debug)]
pub(crate) struct Runs<const V: usize> {
    directory: PathBuf,
    identity: String,
    until: Option<Offset>,
    /// It lacks entries from before, until [`Runs::complete`].
    lacking: bool,
    runs: Vec<(u64, Arc<Run<V>>)>,
    /// The number of the next run; none is used twice while the directory is open.
    next: u64,
}

impl<const V: usize> Runs<V> {
    /// Opens the index in this directory, which is made if missing, for the log of this identity.
    ///
    /// What is damaged or of another log is thrown away: the index is then empty and [`Runs::until`] is `None`.
    /// Damage within blocks shows only when they are read.
    ///
    /// # Errors
    /// `Io` when the file system refuses.
    pub fn open(directory: &Path, identity: &str) -> Result<Runs<V>, Error> {
        std::fs::create_dir_all(directory).context(format!("creating index `{}`", directory.display()))?;
        let mut index = Runs {
            directory: directory.to_owned(),
            identity: identity.to_owned(),
            until: None,
            lacking: false,
            runs: Vec::new(),
            next: 1,
        };
        match index.load() {
            Err(Error::Corrupt(reason)) => {
                tracing::warn!(%reason, "threw an index away; it will be made again");
                index.clear()?;
            }
            loaded => loaded?,
        }
        let named: Vec<u64> = index.runs.iter().map(|(number, _)| *number).collect();
        manifest::remove_strays(directory, &named)?;
        Ok(index)
    }

    fn load(&mut self) -> Result<(), Error> {
        let Some(manifest) = Manifest::read(&self.directory, &self.identity, V)? else {
            return Ok(());
        };
        let open = |number: &u64| {
            Run::open(&manifest::run_path(&self.directory, *number), &self.identity).map(|run| (*number, Arc::new(run)))
        };
        self.runs = manifest.runs.iter().map(open).collect::<Result<_, _>>()?;
        self.next = manifest.runs.iter().max().map_or(1, |number| number + 1);
        self.until = manifest.until;
        Ok(())
    }

    /// The last offset of the log whose entries are in the index; `None` when it must be made again.
    pub fn until(&self) -> Option<Offset> {
        self.until
    }

    /// The index as it is now, for any thread.
    pub fn view(&self) -> View<V> {
        View { runs: self.runs.iter().map(|(_, run)| Arc::clone(run)).collect() }
    }

    /// Adds entries, in any order, and states that the index is valid up to and including `until`, unless it lacks
    /// older ones. `stamp` is the highest receive time of the entries. Durable when it returns; nothing has changed when
    /// it fails.
    ///
    /// A key may have many values. An entry that is added again counts once or more, as merges happen.
    ///
    /// # Errors
    /// `Conflict` when `until` would go back; `Corrupt` when a run that is merged is damaged: [`Runs::clear`] and make
    /// the index again; `Io`.
    pub fn add(&mut self, entries: Vec<(u128, [u8; V])>, until: Offset, stamp: Micros) -> Result<(), Error> {
        if self.until.is_some_and(|before| until < before) {
            let directory = self.directory.display();
            return Err(Error::Conflict(format!("index `{directory}` would go back to offset {until}")));
        }
        let valid = (!self.lacking).then_some(until);
        self.put(entries, until, stamp, valid)
    }

    /// Adds entries of an index that is being made again: it is not valid, and a restart throws it away, until
    /// [`Runs::complete`]. `highest` is the highest offset of the entries.
    ///
    /// # Errors
    /// `Conflict` when the index is valid ([`Runs::clear`] it first), and as [`Runs::add`].
    pub fn fill(&mut self, entries: Vec<(u128, [u8; V])>, highest: Offset, stamp: Micros) -> Result<(), Error> {
        if self.until.is_some() {
            let directory = self.directory.display();
            return Err(Error::Conflict(format!("index `{directory}` is not being made again")));
        }
        self.put(entries, highest, stamp, None)
    }

    /// States that the index has everything up to and including `until`.
    ///
    /// # Errors
    /// `Io`; nothing has changed then.
    pub fn complete(&mut self, until: Offset) -> Result<(), Error> {
        self.commit(self.runs.clone(), Some(until))?;
        self.lacking = false;
        Ok(())
    }

    fn put(
        &mut self,
        mut entries: Vec<(u128, [u8; V])>,
        highest: Offset,
        stamp: Micros,
        until: Option<Offset>,
    ) -> Result<(), Error> {
        let mut runs = self.runs.clone();
        if entries.is_empty() {
            return if until == self.until { Ok(()) } else { self.commit(runs, until) };
        }
        entries.sort_unstable();
        let sizes: Vec<u64> = runs.iter().map(|(_, run)| run.header.entries).collect();
        let merged: Vec<Arc<Run<V>>> =
            runs.drain(merge::first_to_merge(&sizes, entries.len() as u64)..).map(|(_, run)| run).collect();
        let number = self.next;
        self.next += 1;
        let path = manifest::run_path(&self.directory, number);
        let made = write_run(&path, &self.identity, entries, &merged, (highest, stamp)).and_then(|run| {
            runs.push((number, Arc::new(run)));
            self.commit(runs, until)
        });
        if made.is_err() {
            // It may be what fills the disk.
            let _ = std::fs::remove_file(&path);
        }
        made
    }

    /// Forgets whole runs: those of which the rule, given the highest offset and the highest stamp in it, says so.
    ///
    /// # Errors
    /// `Io`; nothing has changed then.
    pub fn forget(&mut self, is_gone: impl Fn(Offset, Micros) -> bool) -> Result<(), Error> {
        let mut runs = self.runs.clone();
        runs.retain(|(_, run)| !is_gone(run.header.until, run.header.stamp));
        if runs.len() == self.runs.len() {
            return Ok(());
        }
        self.commit(runs, self.until)
    }

    /// Forgets everything: the index is empty and must be made again.
    ///
    /// # Errors
    /// `Io`; nothing has changed then.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.commit(Vec::new(), None)?;
        self.lacking = true;
        Ok(())
    }

    /// Forgets everything: there is nothing yet that the index should have.
    ///
    /// # Errors
    /// `Io`; nothing has changed then.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.commit(Vec::new(), None)?;
        self.lacking = false;
        Ok(())
    }

    /// Bytes of memory that filters and fences take.
    pub fn memory_bytes(&self) -> u64 {
        self.runs.iter().map(|(_, run)| run.memory_bytes()).sum()
    }

    /// Entries in all runs.
    pub fn entries(&self) -> u64 {
        self.runs.iter().map(|(_, run)| run.header.entries).sum()
    }

    /// Makes these runs the index, then unlinks the others.
    fn commit(&mut self, runs: Vec<(u64, Arc<Run<V>>)>, until: Option<Offset>) -> Result<(), Error> {
        let numbers: Vec<u64> = runs.iter().map(|(number, _)| *number).collect();
        Manifest::new(&self.identity, V, until, numbers.clone()).write(&self.directory)?;
        let before = std::mem::replace(&mut self.runs, runs);
        self.until = until;
        for (_, run) in before.iter().filter(|(number, _)| !numbers.contains(number)) {
            // What cannot be removed now is removed when the index is opened.
            let _ = std::fs::remove_file(&run.path);
        }
        Ok(())
    }
}

/// Writes the entries, sorted before, and those of the runs as one run.
fn write_run<const V: usize>(
    path: &Path,
    identity: &str,
    entries: Vec<(u128, [u8; V])>,
    merged: &[Arc<Run<V>>],
    (highest, stamp): (Offset, Micros),
) -> Result<Run<V>, Error> {
    let headers = || merged.iter().map(|run| run.header);
    let at_most = entries.len() as u64 + headers().map(|header| header.entries).sum::<u64>();
    let until = headers().map(|header| header.until).fold(highest, Offset::max);
    let stamp = headers().map(|header| header.stamp).fold(stamp, Micros::max);
    let mut builder = Builder::begin(path, at_most)?;
    merge::merge(entries, merged, &mut builder)?;
    builder.finish(identity, until, stamp)
}

/// An index as it was at one moment: it never changes, and its files stay readable when they are merged away.
#[derive(Clone, Debug)]
pub(crate) struct View<const V: usize> {
    runs: Arc<[Arc<Run<V>>]>,
}

impl<const V: usize> View<V> {
    /// A view of no entries.
    pub fn empty() -> Self {
        View { runs: Arc::new([]) }
    }

    /// Looks at every filter's line of this key: so they come from memory side by side, not one after the other. What is
    /// given says nothing.
    pub fn fetch(&self, key: u128) -> usize {
        self.runs.iter().fold(0, |all, run| all ^ run.fetch(key) as usize)
    }

    /// Gives the values of the key until it is enough: runs oldest first, ascending within a run. So they come in the
    /// order of the log if values begin with the offset, big endian.
    ///
    /// # Errors
    /// `Corrupt` when a block that may have the key is damaged, never a wrong answer; `Io`.
    pub fn each(&self, key: u128, mut found: impl FnMut(&[u8; V]) -> ControlFlow<()>) -> Result<(), Error> {
        for run in self.runs.iter() {
            if run.search(key, &mut found)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The first of the values that [`View::each`] gives.
    ///
    /// # Errors
    /// As [`View::each`].
    pub fn first(&self, key: u128) -> Result<Option<[u8; V]>, Error> {
        let mut first = None;
        self.each(key, |value| {
            first = Some(*value);
            ControlFlow::Break(())
        })?;
        Ok(first)
    }
}
