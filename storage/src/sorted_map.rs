//! A map for the few entries that a message or a call has: a sorted vector.
//!
//! Nearly all maps here have one to five entries, and there are millions of them. A node of a `BTreeMap` has room for
//! eleven; this takes one allocation of the right size. What is written is the same.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of an entry that is not to be made room for in advance.
const LARGE: usize = 48;

/// For more entries that a length announces, no room is made before they come.
const MOST_RESERVED: usize = 64;

/// Entries in ascending order of their keys, each key once.
#[derive(Clone, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// Without entries; allocates nothing.
    pub const fn new() -> Self {
        SortedMap(Vec::new())
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By key, ascending.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// By key, ascending.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// By key, ascending.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// The value of this key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Whether it has this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Makes room for so many entries of a map that will not get more, or for fewer.
    pub fn reserve(&mut self, entries: usize) {
        self.0.reserve_exact(entries.min(MOST_RESERVED));
    }

    /// Sets the value of a key; gives the one of before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.0.last().is_none_or(|(last, _)| *last < key) {
            self.insert_at(self.0.len(), (key, value));
            return None;
        }
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.insert_at(at, (key, value));
                None
            }
        }
    }

    /// The value of a key, made if it is new.
    pub fn slot(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.insert_at(at, (key, V::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Adds a value, or joins it with the one that the key has.
    pub fn join(&mut self, key: K, value: V, join: impl FnOnce(&mut V, V)) {
        match self.find(&key) {
            Ok(at) => join(&mut self.0[at].1, value),
            Err(at) => self.insert_at(at, (key, value)),
        }
    }

    /// Room grows with the entries, from one: a vector begins with room for four, of which most maps of large entries
    /// would use one.
    fn insert_at(&mut self, at: usize, entry: (K, V)) {
        if size_of::<(K, V)>() >= LARGE && self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len().max(1));
        }
        self.0.insert(at, entry);
    }

    /// Adds all values of another map, joined with those of the same key.
    pub fn join_all(&mut self, other: Self, join: impl Fn(&mut V, V)) {
        if self.is_empty() {
            self.0 = other.0;
            return;
        }
        for (key, value) in other.0 {
            self.join(key, value, &join);
        }
    }
}

/// Entries by key, ascending.
pub type Iter<'a, K, V> = std::iter::Map<std::slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Of entries with the same key the last counts.
impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SortedMap::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SortedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SortedMap<K, V> {
    type Output = V;

    /// # Panics
    /// If there is no such key.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry of this key")
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SortedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for SortedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = SortedMap<K, V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = SortedMap(Vec::with_capacity(entries.size_hint().unwrap_or_default().min(MOST_RESERVED)));
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_a_tree_would_be(entries: Vec<(u8, u16)>, more: Vec<(u8, u16)>) {
            let (tree, map): (BTreeMap<u8, u16>, SortedMap<u8, u16>) =
                (entries.iter().copied().collect(), entries.iter().copied().collect());
            prop_assert!(map.iter().eq(tree.iter()) && map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
            prop_assert!((0..=u8::MAX).all(|key| map.get(&key) == tree.get(&key)));
            let written = rmp_serde::to_vec_named(&map).expect("written");
            prop_assert_eq!(&written, &rmp_serde::to_vec_named(&tree).expect("written"));
            prop_assert_eq!(&rmp_serde::from_slice::<SortedMap<u8, u16>>(&written).expect("read"), &map);
            let (mut tree, mut map) = (tree, map);
            map.join_all(more.iter().copied().collect(), |known, new| *known = (*known).max(new));
            for (key, value) in more.iter().copied().collect::<BTreeMap<u8, u16>>() {
                let known = tree.entry(key).or_insert(value);
                *known = (*known).max(value);
            }
            prop_assert!(map.iter().eq(tree.iter()));
        }
    }
}
