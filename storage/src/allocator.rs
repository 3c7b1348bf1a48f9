//! How mimalloc, the allocator of our programs, holds memory.

use libmimalloc_sys::{mi_option_large_os_pages, mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`; the bindings do not name it.
const PURGE_DELAY: mi_option_t = 15;
/// Freed pages go back to the system after so many milliseconds.
const KEPT_MS: std::ffi::c_long = 2_000;

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
