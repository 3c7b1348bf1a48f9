//! The reports by name and version: definitions are data, and an old version stays callable.

use serde_json::{Value, json};

use super::calendar::BUCKETS;
use super::counts::{Counts, Only, Part, Shows};
use super::dimension::{DIMENSIONS, Dimension};
use super::distribution::OF;
use super::formulas::FORMULAS;
use super::options::{Kind, Parameter};
use super::request::Request;
use super::table::Column;
use crate::error::QueryError;

/// One report, in one version.
#[derive(Debug)]
pub(crate) struct Definition {
    pub name: &'static str,
    pub version: u32,
    pub title: &'static str,
    pub text: &'static str,
    pub parameters: &'static [Parameter],
    pub groups: Groups,
    pub kind: Report,
}

/// What a report can be grouped and filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Everything.
    All,
    /// It is about messages.
    SourceOnly,
}

/// What computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Counts(&'static Counts),
    Summary(&'static Counts),
    Network,
    Distribution,
    ServiceLevel,
    Callbacks,
    Extremes,
    Concurrency,
    Erlang,
    BusyHour,
    Recordings,
    IngestHealth,
}

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
            choice("of", OF, "wait", "which duration"),
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

/// A column as answers and the catalogue describe it.
pub(crate) fn column_json(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind.name(),
        "unit": column.unit,
        "formula_id": column.formula,
    })
}

/// The whole catalogue.
pub(crate) fn to_json() -> Value {
    let reports: Vec<Value> = REPORTS.iter().map(definition_json).collect();
    let formulas: Vec<Value> = FORMULAS
        .iter()
        .map(
            |formula| json!({ "id": formula.id, "unit": formula.unit, "text": formula.text, "source": formula.source }),
        )
        .collect();
    json!({ "items": reports, "formulas": formulas })
}

fn definition_json(report: &'static Definition) -> Value {
    let request = Request::any(report);
    let columns = super::columns(&request).into_iter().map(|column| {
        let mut described = column_json(&column);
        described["description"] = column.text.into();
        described
    });
    let mut parameters = vec![
        json!({ "name": "from", "type": "timestamp", "required": true, "description": "start of the interval" }),
        json!({ "name": "until", "type": "timestamp", "required": true, "description": "end of the interval, not part of it" }),
        json!({ "name": "tz", "type": "string", "default": "UTC", "description": "IANA time zone of days and hours" }),
        json!({ "name": "version", "type": "int64", "default": report.version, "description": "version of the definition" }),
    ];
    let known = |dimension: &Dimension| report.groups != Groups::SourceOnly || *dimension == Dimension::Source;
    let dimensions: Vec<Dimension> = DIMENSIONS.into_iter().filter(known).collect();
    let names: Vec<&str> = dimensions.iter().map(|dimension| dimension.name()).collect();
    parameters.push(json!({
        "name": "group_by", "type": "string", "default": [], "values": names, "description": "groups, separated by commas",
    }));
    parameters.extend(dimensions.iter().map(|dimension| {
        json!({ "name": dimension.name(), "type": "string", "default": null, "repeatable": true,
            "description": format!("only calls with this value: {}", dimension.text()) })
    }));
    parameters.extend(report.parameters.iter().map(|parameter| parameter.to_json()));
    json!({
        "name": report.name,
        "version": report.version,
        "title": report.title,
        "description": report.text,
        "columns": columns.collect::<Vec<_>>(),
        "parameters": parameters,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_column_has_a_formula_and_every_formula_a_column() {
        let known: HashSet<&str> = FORMULAS.iter().map(|formula| formula.id).collect();
        assert_eq!(known.len(), FORMULAS.len(), "no id stands twice");
        let columns = REPORTS.iter().flat_map(|report| super::super::columns(&Request::any(report)));
        let used: HashSet<&str> = columns.map(|column| column.formula).collect();
        assert_eq!(used, known);
    }

    #[test]
    fn defaults_are_values_that_are_taken() {
        for report in REPORTS {
            let parameters = definition_json(report)["parameters"].clone();
            let own = report.parameters.iter().map(|parameter| parameter.name);
            for name in own {
                let parameters = parameters.as_array().expect("a list");
                let found = parameters.iter().find(|parameter| parameter["name"] == name).expect("it is described");
                assert!(!found["default"].is_null(), "{}.{name}", report.name);
            }
        }
    }
}
