//! Planfix: a leg per `ext`, groups, transfers, and records that come at any time.

#[test]
fn its_calls_are_as_the_protocol_says() {
    super::hold(
        "planfix",
        &[
            "group_answered_elsewhere",
            "group_still_talking",
            "group_cancelled_before_accepted",
            "group_success_without_accepted",
            "group_missed_by_all",
            "canceled_alone",
            "transfer_to_a_second_ext",
            "outgoing_answered_without_acceptance",
            "record_before_completed",
            "record_of_an_unknown_call",
        ],
    );
}
