//! What is asked of every data set: each report with its parameters, and the groups and filters that go around.

use super::brute::{Expected, Question};
use super::{brute_counts as counts, brute_lists as lists, brute_load as load, brute_service as service};

pub type Brute = fn(&Question<'_>) -> Expected;
pub type Further = &'static [(&'static str, &'static str)];

/// Reports that depend on the zone.
pub const BY_ZONE: [(&str, Brute, Further); 10] = [
    ("summary", counts::summary, &[]),
    ("volume", counts::volume, &[]),
    ("volume", counts::volume, &[("bucket", "15m")]),
    ("volume", counts::volume, &[("bucket", "30m")]),
    ("volume", counts::volume, &[("bucket", "hour")]),
    ("concurrency", load::concurrency, &[]),
    ("concurrency", load::concurrency, &[("bucket", "15m")]),
    ("erlang", load::erlang, &[]),
    ("erlang", load::erlang, &[("bucket", "15m")]),
    ("erlang", load::erlang, &[("bucket", "day")]),
];

/// Reports that do not, and the column that falls, if one does.
pub const ANYWHERE: [(&str, Brute, Further, Option<&str>); 25] = [
    ("endpoints", counts::endpoints, &[], Some("calls")),
    ("queues", counts::queues, &[], Some("calls")),
    ("own_numbers", counts::own_numbers, &[], Some("calls")),
    ("sources", counts::sources, &[], Some("calls")),
    ("directions", counts::directions, &[], Some("calls")),
    ("dispositions", counts::dispositions, &[], Some("calls")),
    ("unanswered", counts::unanswered, &[], None),
    ("transfers", counts::transfers, &[], None),
    ("network", lists::network, &[], None),
    ("network", lists::network, &[("address_errors", "failure")], None),
    ("distribution", service::distribution, &[], None),
    ("distribution", service::distribution, &[("of", "ring")], None),
    ("distribution", service::distribution, &[("of", "talk"), ("width_s", "60")], None),
    ("service_level", service::service_level, &[], None),
    ("callbacks", service::callbacks, &[], Some("last_missed_at")),
    ("callbacks", service::callbacks, &[("within_h", "2")], Some("last_missed_at")),
    ("callbacks", service::callbacks, &[("within_h", "48")], Some("last_missed_at")),
    ("top_callers", counts::top_callers, &[], Some("calls")),
    ("top_destinations", counts::top_destinations, &[], Some("calls")),
    ("repeat_callers", counts::repeat_callers, &[], Some("calls")),
    ("repeat_callers", counts::repeat_callers, &[("min_calls", "4")], Some("calls")),
    ("causes", lists::causes, &[], Some("calls")),
    ("recordings", lists::recordings, &[], None),
    ("ingest_health", lists::ingest_health, &[], None),
    ("service_level", service::service_level, &[("x_s", "10"), ("short_abandon_s", "0")], None),
];

/// Ways to see a service level; each data set is seen in one of them.
pub const SERVICE_LEVELS: [Further; 6] = [
    &[("abandon_mode", "exclude_all")],
    &[("abandon_mode", "count_as_failure"), ("inclusive", "false")],
    &[("abandon_mode", "count_as_success_within_x"), ("x_s", "30")],
    &[("flowouts", "true")],
    &[("inclusive", "false"), ("x_s", "15"), ("short_abandon_s", "8")],
    &[("abandon_mode", "exclude_short"), ("flowouts", "true"), ("short_abandon_s", "0")],
];

/// Each data set is grouped in one of these ways.
pub const GROUPS: [&[&str]; 8] = [
    &["source"],
    &["direction"],
    &["disposition"],
    &["endpoint"],
    &["queue"],
    &["own_number"],
    &["number"],
    &["source", "direction"],
];

/// Reports that are asked in groups.
pub const GROUPED: [(&str, Brute, Further); 7] = [
    ("summary", counts::summary, &[]),
    ("volume", counts::volume, &[]),
    ("volume", counts::volume, &[("bucket", "hour")]),
    ("heatmap", counts::heatmap, &[]),
    ("endpoints", counts::endpoints, &[]),
    ("network", lists::network, &[]),
    ("recordings", lists::recordings, &[]),
];

/// Each data set is filtered in one of these ways.
pub const FILTERS: [&[(&str, &str)]; 9] = [
    &[("direction", "in")],
    &[("direction", "out"), ("direction", "internal")],
    &[("disposition", "answered")],
    &[("endpoint", "101"), ("endpoint", "102")],
    &[("queue", "Sales")],
    &[("own_number", "+493020000001")],
    &[("number", "+493010000001")],
    &[("source", "voispeed"), ("direction", "in")],
    &[("source", "kazoo"), ("source", "placetel"), ("disposition", "no_answer"), ("disposition", "missed")],
];

/// Reports that are asked with a filter.
pub const FILTERED: [(&str, Brute, Further); 11] = [
    ("summary", counts::summary, &[]),
    ("volume", counts::volume, &[("bucket", "hour")]),
    ("heatmap", counts::heatmap, &[]),
    ("dispositions", counts::dispositions, &[]),
    ("network", lists::network, &[]),
    ("distribution", service::distribution, &[]),
    ("service_level", service::service_level, &[]),
    ("callbacks", service::callbacks, &[]),
    ("concurrency", load::concurrency, &[]),
    ("erlang", load::erlang, &[]),
    ("causes", lists::causes, &[]),
];
