//! The lock that ingest needs, for the state that everybody shares.
//!
//! Who waits for it sleeps until it is free. A lock whose waiters yield the processor in turn, as `parking_lot`'s do
//! before they sleep, makes them wait for milliseconds on a busy machine: since Linux 6.17 each `sched_yield` costs a
//! whole slice. And whoever takes it again and again, a little at a time, lets others in between.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// How long those who wait have to wake up and take it.
const WAY_GIVEN: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(crate) struct Lock<T> {
    shared: Mutex<T>,
    waiting: AtomicUsize,
}

impl<T> Lock<T> {
    pub fn new(shared: T) -> Lock<T> {
        Lock { shared: Mutex::new(shared), waiting: AtomicUsize::new(0) }
    }

    /// Takes it, whatever became of who had it before.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.shared.try_lock() {
            Ok(taken) => taken,
            Err(TryLockError::Poisoned(taken)) => taken.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let taken = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                taken
            }
        }
    }

    /// The same for one that had it a moment ago: those who wait come first.
    pub fn lock_again(&self) -> MutexGuard<'_, T> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(WAY_GIVEN);
        }
        self.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    /// Without `lock_again` the other thread gets it a few times in all that time, if at all.
    #[test]
    fn who_takes_it_again_and_again_lets_others_in() {
        let lock = Arc::new(Lock::new(false));
        let (other, mut turns) = (Arc::clone(&lock), 0);
        let repeating = std::thread::spawn(move || {
            while !*other.lock_again() {
                let held = other.lock_again();
                std::thread::sleep(Duration::from_millis(1));
                drop(held);
            }
        });
        let began = Instant::now();
        while turns < 200 {
            drop(lock.lock());
            std::thread::sleep(Duration::from_micros(200));
            turns += 1;
            assert!(began.elapsed() < Duration::from_secs(60), "{turns} turns in a minute");
        }
        *lock.lock() = true;
        assert!(repeating.join().is_ok());
    }

    #[test]
    fn a_panic_of_who_has_it_keeps_nobody_out() {
        let lock = Arc::new(Lock::new(1));
        let other = Arc::clone(&lock);
        let broken = std::thread::spawn(move || {
            let _held = other.lock();
            panic!("on purpose");
        });
        assert!(broken.join().is_err());
        assert_eq!(*lock.lock(), 1);
    }
}
