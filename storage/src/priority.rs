//! Priorities of threads for what may wait.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Niceness of threads that give way to others, and get their share.
pub const NICENESS: i32 = 10;

/// The calling thread gives way to others. A priority that cannot be lowered costs latency, nothing else.
pub fn be_nice() {
    // Absolute, not relative: threads of a blocking pool inherit the niceness of the worker that made them.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread keeps normal priority");
    }
}

/// The calling thread runs when no others want the processor (`SCHED_IDLE`, sched(7)); it is at least nice.
pub fn be_idle() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        tracing::debug!(?error, "a thread is not idle, but nice");
        be_nice();
    }
}
