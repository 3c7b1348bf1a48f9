//! How mimalloc, the allocator of our programs, holds memory.

use std::ffi::c_long;
use std::sync::OnceLock;

use libmimalloc_sys::{
    mi_collect, mi_option_get, mi_option_large_os_pages, mi_option_set, mi_option_set_default, mi_option_t,
};
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`; the bindings do not name it.
const PURGE_DELAY: mi_option_t = 15;
/// Freed pages go back to the system after so many milliseconds.
const KEPT_MS: c_long = 2_000;
/// The same in [`AllPages`]. Not for ever: what is not even noted as free could not be given back in the end.
const LONG_KEPT_MS: c_long = 600_000;

/// Keeps freed pages for two seconds, not one, and asks for large ones. Folds and queries take and free buffers of
/// megabytes all the time; to have each page mapped and zeroed anew took a sixth of the time of a fold. To be called
/// first thing. Who sets `MIMALLOC_PURGE_DELAY` or `MIMALLOC_ALLOW_LARGE_OS_PAGES` has it otherwise. In a program with
/// another allocator it does nothing.
pub fn keep_pages() {
    // SAFETY: both only store a number in a table of mimalloc's own, which needs no initialisation; the options are
    // those of the version that the bindings build.
    #[expect(unsafe_code, reason = "mimalloc takes its options from the environment or from this function")]
    unsafe {
        mi_option_set_default(PURGE_DELAY, KEPT_MS);
        mi_option_set_default(mi_option_large_os_pages, 1);
    }
}

/// While it lives, freed pages stay (for ten minutes): where memory is taken and freed in waves of a second or two, most
/// would be given back and asked for again in each. Pages are then small: of large ones much is never used, which
/// took 70 MiB of 900, and zeroing them no longer costs anything. In the end all that is free goes back.
///
/// Several may live at once, each for a log of its own: the first that ends ends it for all.
#[derive(Debug)]
pub(crate) struct AllPages {
    before: Usual,
}

/// How it is else: the delay of purging, and whether the kernel gives no large pages.
type Usual = (c_long, bool);

impl AllPages {
    pub fn keep() -> AllPages {
        // What another one has set is not how it was.
        static BEFORE: OnceLock<Usual> = OnceLock::new();
        let before = *BEFORE.get_or_init(|| {
            // SAFETY: as in `keep_pages`.
            #[expect(unsafe_code, reason = "as in `keep_pages`")]
            let purge_delay = unsafe { mi_option_get(PURGE_DELAY) };
            (purge_delay, transparent_huge_pages_are_disabled().unwrap_or(true))
        });
        // Who gives pages back at once, or never, wants it so.
        let kept = if before.0 > 0 { before.0.max(LONG_KEPT_MS) } else { before.0 };
        set((kept, true));
        AllPages { before }
    }
}

impl Drop for AllPages {
    fn drop(&mut self) {
        set(self.before);
        // SAFETY: it frees only what nobody has.
        #[expect(unsafe_code, reason = "there is no other way to ask mimalloc for it")]
        unsafe {
            mi_collect(true);
        }
    }
}

fn set((purge_delay, only_small): Usual) {
    // SAFETY: as in `keep_pages`.
    #[expect(unsafe_code, reason = "as in `keep_pages`")]
    unsafe {
        mi_option_set(PURGE_DELAY, purge_delay);
    }
    if let Err(error) = disable_transparent_huge_pages(only_small) {
        tracing::debug!(%error, "the kernel chooses the size of pages");
    }
}
