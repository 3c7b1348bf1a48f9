//! VirtualPBX: a Kazoo, and the debug documents that make up for a pivot request that was missed.

#[test]
fn its_calls_are_as_the_protocol_says() {
    super::hold("virtualpbx", &["old_spellings", "debug_fills_a_missed_pivot", "call_by_hooks"]);
}
