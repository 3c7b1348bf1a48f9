//! Which links are being fetched, and which were a moment ago: one link of one call is fetched once, however many
//! messages name it.

use std::collections::{HashSet, VecDeque};

use super::LinkKey;

/// Links that may wait.
const MOST_PENDING: usize = 10_000;
/// Links that are remembered after their end.
const MOST_ENDED: usize = 20_000;

/// What became of a link that was to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is pending now.
    New,
    /// It is pending already, or was fetched.
    Known,
    /// Too many are pending.
    Full,
}

/// The links by their keys, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Book {
    pending: HashSet<LinkKey>,
    ended: HashSet<LinkKey>,
    /// Keys of `ended`, oldest first.
    order: VecDeque<LinkKey>,
}

impl Book {
    /// Takes a link in.
    pub fn enter(&mut self, key: LinkKey) -> Entered {
        if self.ended.contains(&key) || self.pending.contains(&key) {
            Entered::Known
        } else if self.is_full() {
            Entered::Full
        } else {
            self.pending.insert(key);
            Entered::New
        }
    }

    /// Takes a link out, whatever became of it.
    pub fn leave(&mut self, key: &LinkKey) {
        self.pending.remove(key);
    }

    /// Remembers that a link need not, or must not, be used again.
    pub fn end(&mut self, key: LinkKey) {
        if self.ended.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// Whether no more links are taken in.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= MOST_PENDING
    }

    /// Links that are pending.
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> LinkKey {
        let mut key = LinkKey::default();
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn a_link_is_taken_once() {
        let mut book = Book::default();
        assert_eq!(book.enter(key(1)), Entered::New);
        assert_eq!(book.enter(key(1)), Entered::Known);
        book.leave(&key(1));
        assert_eq!(book.enter(key(1)), Entered::New, "it failed, and another message names it");
        book.end(key(1));
        book.leave(&key(1));
        assert_eq!(book.enter(key(1)), Entered::Known, "it is fetched");
    }

    #[test]
    fn memory_is_bounded() {
        let mut book = Book::default();
        assert!((0..MOST_PENDING).all(|number| book.enter(key(number)) == Entered::New));
        assert_eq!(book.enter(key(MOST_PENDING)), Entered::Full);
        (0..2 * MOST_ENDED).for_each(|number| book.end(key(number)));
        assert_eq!((book.ended.len(), book.order.len()), (MOST_ENDED, MOST_ENDED));
        assert!(book.ended.contains(&key(2 * MOST_ENDED - 1)));
    }
}
