//! VOIspeed: what extensions see, what the system sees, and reports, which know better than both.

#[test]
fn its_calls_are_as_the_protocol_says() {
    super::hold(
        "voispeed",
        &[
            "report_overrides_events",
            "report_ends_an_open_call",
            "user_report_overrides_events",
            "group_of_users_answered_elsewhere",
            "user_transfer",
            "system_transfer",
            "system_divert",
            "codes_overlap",
            "failed_command",
            "users_without_ids",
            "ivr_then_call",
        ],
    );
}
