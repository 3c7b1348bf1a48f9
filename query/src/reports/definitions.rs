//! The definitions of all reports, as data. One that changes gets a new version, and the old one stays.

use super::calendar::BUCKETS;
use super::definition::{Counts, Definition, Groups, Only, Report, Shows};
use super::dimension::Dimension;
use super::options::{Kind, Parameter};
use super::part::Part;
use crate::error::QueryError;

const fn whole(name: &'static str, least: i64, most: i64, default: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Whole(least, most), default, text }
}

const fn choice(
    name: &'static str,
    names: &'static [&'static str],
    default: &'static str,
    text: &'static str,
) -> Parameter {
    Parameter { name, kind: Kind::Choice(names), default, text }
}

const fn flag(name: &'static str, default: &'static str, text: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Flag, default, text }
}

const ATTRIBUTION: Parameter =
    choice("attribution", &["start", "answer", "end"], "start", "the time that says to which interval a call belongs");
const BUCKET_DAY: Parameter = choice("bucket", BUCKETS, "day", "the intervals");
const BUCKET_HOUR: Parameter = choice("bucket", BUCKETS, "hour", "the intervals");
const LIMIT_100: Parameter = whole("limit", 1, 10_000, "100", "rows at most");
const LIMIT_20: Parameter = whole("limit", 1, 1000, "20", "rows at most, of each group");
const PLAIN: &[Parameter] = &[ATTRIBUTION];

const fn counts(parts: &'static [Part], only: Only, shows: Shows) -> Counts {
    Counts { parts, only, shows }
}

static TOTAL: Counts = counts(&[], Only::All, Shows::Common);
static VOLUME: Counts = counts(&[Part::Bucket], Only::All, Shows::Common);
static HEATMAP: Counts = counts(&[Part::WeekdayAndHour], Only::All, Shows::Common);
static ENDPOINTS: Counts = counts(&[Part::Of(Dimension::Endpoint)], Only::All, Shows::Common);
static QUEUES: Counts = counts(&[Part::Of(Dimension::Queue)], Only::All, Shows::Common);
static OWN_NUMBERS: Counts = counts(&[Part::Of(Dimension::OwnNumber)], Only::All, Shows::Common);
static SOURCES: Counts = counts(&[Part::Of(Dimension::Source)], Only::All, Shows::Common);
static DIRECTIONS: Counts = counts(&[Part::Of(Dimension::Direction)], Only::All, Shows::Common);
static DISPOSITIONS: Counts = counts(&[Part::Of(Dimension::Disposition)], Only::All, Shows::Common);
static PREFIXES: Counts = counts(&[Part::Prefix], Only::All, Shows::Common);
static TRANSFERS: Counts = counts(&[Part::Transfers], Only::All, Shows::Common);
static UNANSWERED: Counts =
    counts(&[Part::Of(Dimension::Direction), Part::Of(Dimension::Disposition)], Only::Unanswered, Shows::Common);
static CAUSES: Counts = counts(&[Part::Of(Dimension::Disposition), Part::Raw, Part::Cause], Only::All, Shows::Calls);
static CALLERS: Counts = counts(&[Part::Caller], Only::Inbound, Shows::Number);
static DESTINATIONS: Counts = counts(&[Part::Destination], Only::Outbound, Shows::Number);

const fn report(
    name: &'static str,
    title: &'static str,
    text: &'static str,
    parameters: &'static [Parameter],
    kind: Report,
) -> Definition {
    let groups = match kind {
        Report::IngestHealth => Groups::SourceOnly,
        _ => Groups::All,
    };
    Definition { name, version: 1, title, text, parameters, groups, kind }
}

/// All definitions; of a name the newest version first.
pub(crate) static REPORTS: &[Definition] = &[
    report("summary", "Summary", "the common measures, and those of the period before", PLAIN, Report::Summary(&TOTAL)),
    report("volume", "Volume", "the common measures by time", &[BUCKET_DAY, ATTRIBUTION], Report::Counts(&VOLUME)),
    report("heatmap", "Heat map", "the common measures by weekday and hour", PLAIN, Report::Counts(&HEATMAP)),
    report("endpoints", "Extensions", "the common measures by extension or user", PLAIN, Report::Counts(&ENDPOINTS)),
    report("queues", "Queues", "the common measures by queue or ring group", PLAIN, Report::Counts(&QUEUES)),
    report("own_numbers", "Own numbers", "the common measures by own number", PLAIN, Report::Counts(&OWN_NUMBERS)),
    report("sources", "Sources", "the common measures by telephone system", PLAIN, Report::Counts(&SOURCES)),
    report("directions", "Directions", "the common measures by direction", PLAIN, Report::Counts(&DIRECTIONS)),
    report("dispositions", "Outcomes", "the common measures by outcome", PLAIN, Report::Counts(&DISPOSITIONS)),
    report(
        "prefixes",
        "Prefixes",
        "the common measures by the first digits of the other party's number",
        &[whole("digits", 1, 15, "4", "digits of the prefix"), ATTRIBUTION],
        Report::Counts(&PREFIXES),
    ),
    report(
        "network",
        "Network",
        "how well the network did its part, by seizure",
        &[
            choice(
                "address_errors",
                &["exclude", "failure"],
                "exclude",
                "what wrong numbers (cause 1, 22, 28) are for NER",
            ),
            ATTRIBUTION,
        ],
        Report::Network,
    ),
    report(
        "distribution",
        "Distribution",
        "how long callers wait, telephones ring or people talk",
        &[
            choice("of", &["wait", "ring", "talk"], "wait", "which duration"),
            whole("width_s", 1, 86_400, "1", "seconds of a bin"),
            ATTRIBUTION,
        ],
        Report::Distribution,
    ),
    report(
        "service_level",
        "Service level",
        "how soon queues were answered, and what was abandoned",
        &[
            whole("x_s", 0, 86_400, "20", "seconds within which an answer is in time"),
            flag("inclusive", "true", "whether an answer after exactly x_s is in time"),
            whole("short_abandon_s", 0, 3600, "5", "an abandoned visit shorter than this is short; 0 for none"),
            choice(
                "abandon_mode",
                &["exclude_short", "exclude_all", "count_as_failure", "count_as_success_within_x"],
                "exclude_short",
                "what abandoned visits are for the service level",
            ),
            flag("flowouts", "false", "whether visits that overflow, time out or go to voicemail are failures"),
        ],
        Report::ServiceLevel,
    ),
    report("unanswered", "Unanswered", "calls that ended without an answer", PLAIN, Report::Counts(&UNANSWERED)),
    report(
        "callbacks",
        "Callbacks",
        "who was missed, and what came of it",
        &[whole("within_h", 1, 8760, "24", "hours after the last missed call in which something may come of it")],
        Report::Callbacks,
    ),
    report("top_callers", "Top callers", "who calls most", &[LIMIT_100, ATTRIBUTION], Report::Counts(&CALLERS)),
    report(
        "top_destinations",
        "Top destinations",
        "who is called most",
        &[LIMIT_100, ATTRIBUTION],
        Report::Counts(&DESTINATIONS),
    ),
    report(
        "repeat_callers",
        "Repeat callers",
        "who calls again and again",
        &[LIMIT_100, whole("min_calls", 1, 1_000_000, "2", "calls of a repeat caller"), ATTRIBUTION],
        Report::Counts(&CALLERS),
    ),
    report("longest", "Longest calls", "answered calls by talk time", &[LIMIT_20, ATTRIBUTION], Report::Extremes),
    report("shortest", "Shortest calls", "answered calls by talk time", &[LIMIT_20, ATTRIBUTION], Report::Extremes),
    report(
        "concurrency",
        "Concurrency",
        "the highest number of calls at one time",
        &[BUCKET_HOUR],
        Report::Concurrency,
    ),
    report("erlang", "Traffic", "traffic intensity", &[BUCKET_HOUR], Report::Erlang),
    report(
        "busy_hour",
        "Busy hour",
        "the hour with the most traffic, and the lines that it needs",
        &[
            choice("method", &["clock", "sliding15"], "clock", "clock hours, or hours in steps of 15 minutes"),
            choice(
                "scope",
                &["daily_peak", "time_consistent"],
                "daily_peak",
                "of each date, or on average over all dates",
            ),
            Parameter {
                name: "blocking",
                kind: Kind::Fraction(0.0, 1.0),
                default: "0.01",
                text: "share of calls that may find no line (Erlang B)",
            },
        ],
        Report::BusyHour,
    ),
    report("transfers", "Transfers", "the common measures by number of transfers", PLAIN, Report::Counts(&TRANSFERS)),
    report("causes", "Causes", "why calls ended", PLAIN, Report::Counts(&CAUSES)),
    report("recordings", "Recordings", "which calls are recorded", PLAIN, Report::Recordings),
    report("ingest_health", "Ingest health", "what came from each source, and how late", &[], Report::IngestHealth),
];

/// The definition of this name, in this version or the newest.
pub(crate) fn find(name: &str, version: Option<&str>) -> Result<&'static Definition, QueryError> {
    let mut named = REPORTS.iter().filter(|report| report.name == name);
    let Some(version) = version else {
        return named.next().ok_or_else(|| QueryError::NotFound(format!("report `{name}`")));
    };
    if named.clone().next().is_none() {
        return Err(QueryError::NotFound(format!("report `{name}`")));
    }
    let found = named.find(|report| version.parse() == Ok(report.version));
    found.ok_or_else(|| QueryError::parameter("version", format!("`{name}` has no version `{version}`")))
}
