//! What a report is, as data.

use super::options::Parameter;
use super::part::Part;

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

/// Which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    All,
    /// Inbound ones, unless a filter says which directions.
    Inbound,
    /// Outbound ones, unless a filter says which directions.
    Outbound,
    /// Those that ended unanswered.
    Unanswered,
}

/// A report of this kind, as data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub parts: &'static [Part],
    pub only: Only,
    pub shows: Shows,
}

/// The columns after the group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// The common ones.
    Common,
    /// `calls` alone.
    Calls,
    /// What is told of numbers.
    Number,
}
