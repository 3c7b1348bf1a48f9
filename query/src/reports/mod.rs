//! Reports: figures with their definitions, that add up and cost nothing to ask again.
//!
//! A question ([`request`]) names a definition ([`catalogue`]), which names what computes it: a [`family`] of partial
//! results that add up over calls. [`collect`] adds them up over one snapshot; what files contribute is remembered in
//! [`partials`]. [`polled`] keeps whole answers for who asks again. docs/reports.md says what each report computes.

mod answer;
mod busy_hour;
mod calendar;
mod call;
mod callbacks;
mod catalogue;
mod cells;
mod collect;
mod common;
mod concurrency;
mod counts;
mod coverage;
mod definition;
mod definitions;
mod dimension;
mod distribution;
mod erlang;
mod extremes;
mod family;
mod formulas;
mod grouped;
mod health;
mod histogram;
mod kept;
mod network;
mod options;
mod part;
mod partials;
mod polled;
mod request;
mod scan;
mod service_level;
mod summary;
mod table;
mod visit;

use std::sync::Arc;

use trunklog_storage::event::format_time;
use trunklog_storage::fact::Decoder;

use crate::error::QueryError;
use callbacks::Callbacks;
use concurrency::Concurrency;
use counts::Counting;
use coverage::Coverage;
use definition::Report;
use distribution::Distribution;
use erlang::Erlang;
use extremes::Extremes;
use family::{CallFamily, Calls, Family, OfCalls};
use health::Ingest;
use kept::Stored;
use network::Network;
use service_level::ServiceLevel;
use summary::with_previous;
use table::Column;

pub(crate) use answer::Answer;
pub(crate) use catalogue::to_json as catalogue_json;
pub(crate) use collect::Collector;
pub(crate) use definitions::REPORTS;
pub(crate) use partials::Partials;
pub(crate) use polled::{Polled, Question, Served, once};
pub(crate) use request::Request;
pub(crate) use table::schema_of;

/// One computation: a question with what it is asked of.
struct Computation<'a> {
    request: &'a Request,
    collector: Collector,
    decoder: &'a Arc<dyn Decoder>,
    shape: Arc<str>,
}

/// The columns of the answer to a question, which do not depend on what is stored.
pub(crate) fn columns(request: &Request) -> Vec<Column> {
    match request.definition.kind {
        Report::Counts(counts) => Counting::of(counts, request).columns(),
        Report::Summary(counts) => with_previous(Counting::of(counts, request).columns(), request.group_by.len()),
        Report::Network => Network::columns(request),
        Report::Distribution => Distribution::columns(request),
        Report::ServiceLevel => ServiceLevel::columns(request),
        Report::Callbacks => Callbacks::columns(request),
        Report::Extremes => Extremes::columns(request),
        Report::Concurrency => Concurrency::columns(request),
        Report::Erlang => Erlang::columns(request),
        Report::BusyHour => Erlang::busy_columns(request),
        Report::Recordings => Coverage::columns(request),
        Report::IngestHealth => health::COLUMNS.map(Column::from).to_vec(),
    }
}

/// Computes the answer to a question at one snapshot.
///
/// # Errors
/// If a table cannot be read.
pub(crate) async fn compute(
    request: &Request,
    collector: Collector,
    decoder: &Arc<dyn Decoder>,
) -> Result<Answer, QueryError> {
    metrics::counter!("trunklog_report_computations_total", "report" => request.definition.name).increment(1);
    let started = std::time::Instant::now();
    let shape = Arc::from(request.shape());
    let answer = Computation { request, collector, decoder, shape }.answer().await;
    metrics::histogram!("trunklog_report_seconds").record(started.elapsed().as_secs_f64());
    answer
}

impl Computation<'_> {
    async fn answer(&self) -> Result<Answer, QueryError> {
        let request = self.request;
        match request.definition.kind {
            Report::Counts(counts) => {
                let answer = |family: &Counting, total| family.answer(request, total);
                self.over_calls(Counting::of(counts, request), answer).await
            }
            Report::Summary(counts) => self.summary(Counting::of(counts, request)).await,
            Report::Network => self.over_calls(Network::of(request), |_, total| Network::answer(request, total)).await,
            Report::Distribution => {
                self.over_calls(Distribution::of(request), |_, total| Distribution::answer(request, total)).await
            }
            Report::ServiceLevel => {
                self.over_calls(ServiceLevel::of(request), |_, total| ServiceLevel::answer(request, total)).await
            }
            Report::Callbacks => {
                let now = self.collector.now;
                self.over_calls(Callbacks::of(request), |_, total| Callbacks::answer(request, total, now)).await
            }
            Report::Extremes => {
                self.over_calls(Extremes::of(request), |_, total| Extremes::answer(request, total)).await
            }
            Report::Concurrency => {
                self.over_calls(Concurrency::of(request), |family, total| family.answer(request, total)).await
            }
            Report::Erlang => self.over_calls(Erlang::of(request), |family, total| family.answer(request, total)).await,
            Report::BusyHour => {
                self.over_calls(Erlang::of(request), |family, total| family.busy_answer(request, total)).await
            }
            Report::Recordings => {
                let totals = match Stored::of(request) {
                    Some(stored) => {
                        let shape = Arc::from(format!("{} totals", self.shape));
                        Some(self.collector.collect(&Arc::new(stored), &shape, request.interval).await?)
                    }
                    None => None,
                };
                self.over_calls(Coverage::of(request), |_, total| Coverage::answer(request, total, totals)).await
            }
            Report::IngestHealth => {
                let until = self.collector.snapshot.stored_until();
                let ingest = Arc::new(Ingest::of(request, until));
                // An older snapshot has the files of now, with fewer of their rows.
                let shape = Arc::from(format!("{} {until:?}", self.shape));
                let total = self.collector.collect(&ingest, &shape, request.interval).await?;
                Ok(Ingest::answer(request, &total))
            }
        }
    }

    fn family<F: CallFamily>(&self, family: F) -> Arc<Calls<F>> {
        let (filters, now) = (self.request.filters.clone(), self.collector.now);
        Arc::new(Calls { family, filters, decoder: Arc::clone(self.decoder), now })
    }

    /// The answer that the calls of the interval come to.
    async fn over_calls<F: CallFamily>(
        &self,
        family: F,
        answer: impl FnOnce(&F, OfCalls<F::Partial>) -> Answer,
    ) -> Result<Answer, QueryError> {
        let family = self.family(family);
        let total = self.collector.collect(&family, &self.shape, self.request.interval).await?;
        let changes_at = family.changes_at(&total);
        Ok(answer(&family.family, total).no_later_than(changes_at))
    }

    /// The totals beside those of the period before.
    async fn summary(&self, counting: Counting) -> Result<Answer, QueryError> {
        let request = self.request;
        let earlier = Request { interval: request.calendar.previous(request.interval), ..request.clone() };
        let family = self.family(counting);
        let total = self.collector.collect(&family, &self.shape, request.interval).await?;
        let before = self.collector.collect(&family, &self.shape, earlier.interval).await?;
        let changes = [family.changes_at(&total), family.changes_at(&before)];
        let mut answer = family.family.answer(request, total);
        answer.put_beside(&family.family.answer(&earlier, before), request.group_by.len());
        answer.params.insert("previous_from".into(), format_time(earlier.interval.from).into());
        answer.params.insert("previous_until".into(), format_time(earlier.interval.until).into());
        Ok(changes.into_iter().fold(answer, Answer::no_later_than))
    }
}
