//! A map with a limit: what was touched longest ago goes first.

use std::collections::{BTreeMap, HashMap};

use crate::event::Id;

/// Values by id, at most `limit` of them after [`Recent::evict`].
#[derive(Debug)]
pub(super) struct Recent<T> {
    entries: HashMap<Id, (u64, T)>,
    order: BTreeMap<u64, Id>,
    next: u64,
    limit: usize,
}

impl<T> Recent<T> {
    /// An empty one.
    pub fn new(limit: usize) -> Recent<T> {
        Recent { entries: HashMap::new(), order: BTreeMap::new(), next: 0, limit }
    }

    /// The value of this id, made if it is new; it is now the one touched last.
    pub fn touch(&mut self, id: &Id, make: impl FnOnce() -> T) -> &mut T {
        let position = self.next;
        self.next += 1;
        let entry = self.entries.entry(id.clone()).or_insert_with(|| (position, make()));
        self.order.remove(&entry.0);
        entry.0 = position;
        self.order.insert(position, id.clone());
        &mut entry.1
    }

    /// Takes out the one that was touched longest ago, if there are too many.
    pub fn evict(&mut self) -> Option<(Id, T)> {
        if self.entries.len() <= self.limit {
            return None;
        }
        let (_, id) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&id)?;
        Some((id, value))
    }

    /// The value of this id.
    pub fn get(&self, id: &str) -> Option<&T> {
        self.entries.get(id).map(|(_, value)| value)
    }

    /// The value of this id, to change it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.entries.get_mut(id).map(|(_, value)| value)
    }

    /// Everything, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Id, &mut T)> {
        self.entries.iter_mut().map(|(id, (_, value))| (id, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_longest_ago_goes_first() {
        let mut recent = Recent::new(2);
        let id = |name: &str| -> Id { name.into() };
        for name in ["a", "b", "a", "c"] {
            *recent.touch(&id(name), || 0) += 1;
        }
        assert_eq!((recent.len(), recent.get("a")), (3, Some(&2)));
        assert_eq!(recent.evict().map(|(id, value)| (id.to_string(), value)), Some(("b".to_owned(), 1)));
        assert_eq!((recent.evict(), recent.get("b")), (None, None));
    }
}
