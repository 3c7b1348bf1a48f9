//! Placetel: receipts are the only clock, and most of what can be missing is.

#[test]
fn its_calls_are_as_the_protocol_says() {
    super::hold(
        "placetel",
        &[
            "retry_overtaken_by_acceptance",
            "start_overtaken_by_acceptance",
            "outgoing_answered",
            "accepted_with_duration_0",
            "contact_centre",
            "end_without_a_start",
            "hung_up_twice",
        ],
    );
}
