//! Kazoo: one message per leg and stage, pivot requests without an end, recordings before and after everything.

#[test]
fn its_calls_are_as_the_protocol_says() {
    super::hold(
        "kazoo",
        &[
            "group_answered_elsewhere",
            "group_still_talking",
            "transfer",
            "pivot_visited_again",
            "pivot_and_hooks",
            "answer_hook_missing",
            "end_without_a_start",
            "only_the_b_leg",
            "recording_alone",
            "recording_before_all_else",
            "voicemail",
        ],
    );
}
