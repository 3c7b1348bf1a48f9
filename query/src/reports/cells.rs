//! Measures by group: what most reports are, and what adds up over files.

use std::collections::HashMap;

use ahash::RandomState;
use compact_str::CompactString;

/// One value of a group. NULL comes after all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A number, or the first instant of a bucket.
    Whole(i64),
    /// A text.
    Text(CompactString),
    /// None.
    Null,
}

impl Key {
    /// The key of a text that may be missing.
    pub fn text(text: Option<&str>) -> Key {
        text.map_or(Key::Null, |text| Key::Text(text.into()))
    }

    /// The key of a number that may be missing.
    pub fn whole(number: Option<i64>) -> Key {
        number.map_or(Key::Null, Key::Whole)
    }
}

/// Something that adds up.
pub(crate) trait Measure: Clone + Default + Send + Sync + 'static {
    /// Adds what another one measured.
    fn merge(&mut self, other: &Self);

    /// Bytes of memory beside its own size, about.
    fn more_bytes(&self) -> usize {
        0
    }
}

/// A measure for each group.
#[derive(Clone, Debug)]
pub(crate) struct Cells<M>(HashMap<Vec<Key>, M, RandomState>);

impl<M> Default for Cells<M> {
    fn default() -> Self {
        Cells(HashMap::default())
    }
}

impl<M: Measure> Cells<M> {
    /// The measure of a group.
    pub fn at(&mut self, group: &[Key]) -> &mut M {
        // Two look-ups, but no copy of the group for all rows but its first.
        if !self.0.contains_key(group) {
            self.0.insert(group.to_vec(), M::default());
        }
        self.0.get_mut(group).expect("it was just put there")
    }

    /// Adds other cells.
    pub fn merge(&mut self, other: &Cells<M>) {
        for (group, measure) in &other.0 {
            match self.0.get_mut(group) {
                Some(found) => found.merge(measure),
                None => drop(self.0.insert(group.clone(), measure.clone())),
            }
        }
    }

    /// All of them.
    pub fn into_rows(self) -> Vec<(Vec<Key>, M)> {
        self.0.into_iter().collect()
    }

    /// The measure of one group, if it has one.
    pub fn get(&self, group: &[Key]) -> Option<&M> {
        self.0.get(group)
    }

    /// All groups with their measures.
    pub fn iter(&self) -> impl Iterator<Item = (&Vec<Key>, &M)> {
        self.0.iter()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let each = |(group, measure): (&Vec<Key>, &M)| {
            size_of::<M>() + 48 + group.len() * size_of::<Key>() + measure.more_bytes()
        };
        self.0.iter().map(each).sum()
    }
}
