//! The formulas behind columns, with their sources: texts of the catalogue.

/// One formula.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formula {
    /// `name/version`, as columns refer to it.
    pub id: &'static str,
    pub unit: &'static str,
    pub text: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

const fn formula(id: &'static str, unit: &'static str, text: &'static str, source: &'static str) -> Formula {
    Formula { id, unit, text, source }
}

const OURS: &str = "trunklog";
const CENTRE: &str = "contact-centre practice; trunklog's default of parameters (docs/reports.md)";

/// All of them.
pub(crate) const FORMULAS: &[Formula] = &[
    formula("group/1", "", "the value by which calls are grouped; NULL where they have none", OURS),
    formula("column/1", "", "the column of `calls` of this name", OURS),
    formula(
        "bucket/1",
        "",
        "first instant of the interval of the time zone, with its offset from UTC",
        "RFC 3339; IANA time zones",
    ),
    formula("calls/1", "calls", "count(calls)", OURS),
    formula("answered/1", "calls", "count(calls where disposition = answered)", OURS),
    formula(
        "missed/1",
        "calls",
        "count(calls where direction = in and disposition in (missed, no_answer, busy, canceled, voicemail))",
        OURS,
    ),
    formula("answer_rate/1", "fraction", "answered / calls", CENTRE),
    formula("talk/1", "ms", "sum(talk_ms where disposition = answered)", "industry (TCD, total call duration)"),
    formula(
        "acd/1",
        "ms",
        "sum(talk_ms) / count(talk_ms), both where answered and talk_ms is known",
        "industry (ACD, ALOC: average length of call)",
    ),
    formula(
        "asr/1",
        "fraction",
        "count(legs where direction = out and answered_at is known) / count(legs where direction = out)",
        "ITU-T E.425 (03/2002) section 1.3, E.411: answer-seizure ratio",
    ),
    formula("ring_p50/1", "ms", "nearest-rank median of ring_ms of calls that are not open, to 100 ms", OURS),
    formula("occurrences/1", "hours", "count(clock hours of this weekday and hour that begin in the interval)", OURS),
    formula("per_occurrence/1", "calls", "calls / occurrences", OURS),
    formula("wait_avg/1", "ms", "sum(wait_ms) / count(wait_ms) of queue visits that ended", CENTRE),
    formula("seizures/1", "legs", "count(legs where direction = out)", "ITU-T E.425 (03/2002): seizure"),
    formula(
        "seizures_answered/1",
        "legs",
        "count(legs where direction = out and answered_at is known)",
        "ITU-T E.425 (03/2002)",
    ),
    formula(
        "abr/1",
        "fraction",
        "answered bids / bids; no source reports bids that seized nothing, so bids are seizures (abr_basis)",
        "ITU-T E.425 (03/2002) section 1.4, E.411: answer-bid ratio",
    ),
    formula(
        "ner/1",
        "fraction",
        "delivered / seizures whose cause is known. Delivered: answered, or Q.850 cause 16, 17, 18, 19, 20, 21, 31; \
         without a cause by disposition (busy, missed, no_answer, rejected, canceled, unavailable, dnd, voicemail are \
         delivered, congestion and no_line are not). Causes 1, 22, 28 are left out, or failures with \
         address_errors=failure. All other causes are failures of the network",
        "ITU-T E.425 (03/2002) section 1.5 and Annex A in our reading: network effectiveness ratio",
    ),
    formula(
        "pdd/1",
        "ms",
        "nearest-rank percentile of ringing_at - started_at of legs, to 100 ms",
        "RFC 6076 section 4.3 (post-dial delay)",
    ),
    formula(
        "distribution/1",
        "calls",
        "count(calls by duration); percentiles by nearest rank, ceil(p n), to 100 ms",
        OURS,
    ),
    formula("offered/1", "visits", "count(queue visits that ended)", CENTRE),
    formula("visits_answered/1", "visits", "count(visits where outcome = answered)", CENTRE),
    formula(
        "answered_in_x/1",
        "visits",
        "count(visits where outcome = answered and wait <= x_s; < unless inclusive)",
        CENTRE,
    ),
    formula("abandoned/1", "visits", "count(visits where outcome = abandoned)", CENTRE),
    formula(
        "short_abandoned/1",
        "visits",
        "count(visits where outcome = abandoned and wait < short_abandon_s)",
        CENTRE,
    ),
    formula(
        "service_level/1",
        "fraction",
        "answered_in_x / (answered + failures), failures by abandon_mode: exclude_short: abandoned - short_abandoned; \
         exclude_all: 0; count_as_failure: abandoned; count_as_success_within_x: abandoned, with those within x added \
         to the numerator; flowouts adds overflow, timeout and voicemail to the denominator",
        CENTRE,
    ),
    formula("abandonment_rate/1", "fraction", "(abandoned - short_abandoned) / (offered - short_abandoned)", CENTRE),
    formula("asa/1", "ms", "sum(wait) / count(wait) of answered visits: average speed of answer", CENTRE),
    formula("callbacks/1", "", "missed calls by the caller's E.164 number, and what came after the last of them", OURS),
    formula(
        "callback_state/1",
        "",
        "within within_h hours of last_missed_at: called_back (an answered call to the number), else caller_came_back \
         (an answered call from it), else attempted (a call to it), else still_open until the time is over, then never",
        OURS,
    ),
    formula(
        "time_to_callback/1",
        "ms",
        "first_attempt_at - last_missed_at; unresolved ones are counted, not dropped",
        OURS,
    ),
    formula(
        "peak/1",
        "calls",
        "max over t of count(calls where started_at <= t < ended_at)",
        "busy channels; ITU-T E.600",
    ),
    formula(
        "erlang/1",
        "E",
        "sum(time of calls inside the interval) / length of the interval",
        "ITU-T E.600: traffic intensity",
    ),
    formula(
        "busy_hour/1",
        "",
        "the hour with the most traffic: of each date (daily_peak) or on average over all dates (time_consistent); \
         clock hours, or hours in steps of 15 minutes (sliding15)",
        "ITU-T E.500, E.600",
    ),
    formula(
        "erlang_b/1",
        "lines",
        "smallest n with B(n) <= blocking; B(0) = 1, B(n) = A B(n-1) / (n + A B(n-1))",
        "Erlang B, textbook",
    ),
    formula("recorded/1", "calls", "count(calls by recording_state: available, expected, failed)", OURS),
    formula("coverage/1", "fraction", "count(answered calls with recording_state = available) / answered", OURS),
    formula("messages/1", "messages", "count(messages by receipt)", OURS),
    formula("duplicates/1", "messages", "count(messages where duplicate_of is known)", OURS),
    formula("quarantined/1", "messages", "count(messages where quarantined)", OURS),
    formula("delay/1", "ms", "nearest-rank percentile of received_at - occurred_at, to 100 ms, not below 0", OURS),
    formula("silent_hours/1", "hours", "UTC hours between the first and the last message that have none", OURS),
];
