//! When a fetch that failed is tried again. A link that works only once is used again only if nothing was answered.

use std::time::Duration;

use super::failure::{Failure, Retry};

/// Pauses between the tries of a permanent link, in seconds: 5 s, 30 s, 2 min, 10 min, 1 h, 6 h, 24 h.
const PAUSES: [u64; 7] = [5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600];
/// How many of them a file gets that is not there.
const FEW: usize = 4;
/// Tries of a link that works only once …
const TRIES_AT_ONCE: u32 = 3;
/// … and the pause between them.
const PAUSE_AT_ONCE: Duration = Duration::from_millis(300);

/// How long to wait for the next try after so many requests; `None` if there is none.
pub(super) fn pause(is_temp: bool, requests: u32, failure: &Failure) -> Option<Duration> {
    if failure.retry == Retry::Never {
        return None;
    }
    if is_temp {
        let unused = !failure.bytes_received && requests < TRIES_AT_ONCE;
        return unused.then_some(PAUSE_AT_ONCE);
    }
    let pauses = if failure.retry == Retry::Few { &PAUSES[..FEW] } else { &PAUSES[..] };
    let index = usize::try_from(requests).ok()?.checked_sub(1)?;
    pauses.get(index).copied().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(is_temp: bool, retry: Retry, bytes_received: bool) -> Vec<u128> {
        let failure = Failure { retry, bytes_received, reason: String::new() };
        (1..20).map_while(|requests| pause(is_temp, requests, &failure)).map(|pause| pause.as_millis()).collect()
    }

    #[test]
    fn permanent_links_have_a_day_and_more() {
        let many = [5_000, 30_000, 120_000, 600_000, 3_600_000, 21_600_000, 86_400_000];
        for bytes_received in [false, true] {
            assert_eq!(pauses(false, Retry::Many, bytes_received), many);
            assert_eq!(pauses(false, Retry::Few, bytes_received), many[..4]);
            assert!(pauses(false, Retry::Never, bytes_received).is_empty());
        }
    }

    #[test]
    fn links_that_work_once_are_tried_again_only_when_nothing_was_answered() {
        assert_eq!(pauses(true, Retry::Many, false), [300, 300]);
        assert!(pauses(true, Retry::Many, true).is_empty());
        assert!(pauses(true, Retry::Few, true).is_empty());
        assert!(pauses(true, Retry::Never, false).is_empty());
    }
}
