//! `/metrics`: what the crates count, and gauges that are read from the archive at each scrape.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use trunklog_storage::event::Source;

use super::AppState;

/// Seconds; an append is one sync of the disk, from a fast SSD to a slow network disk.
const APPEND_BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 5.0];
/// Seconds, of work that takes longer.
const WORK_BUCKETS: [f64; 11] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];
const GROUP_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 4096.0];

/// Starts collecting; must come before the archive opens. `None` if something else collects already.
pub fn start() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &WORK_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("trunklog_log_append_seconds".into()), &APPEND_BUCKETS)
        })
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("trunklog_log_group_appends".into()), &GROUP_BUCKETS)
        });
    let installed = builder.and_then(PrometheusBuilder::install_recorder);
    let handle = installed.inspect_err(|error| tracing::warn!(%error, "metrics are not collected")).ok()?;
    describe();
    begin();
    Some(handle)
}

fn describe() {
    describe_counter!(
        "trunklog_messages_total",
        "Messages by source and result: stored, duplicate, quarantined, refused"
    );
    describe_counter!("trunklog_recording_bytes_total", Unit::Bytes, "Bytes of new recordings by source");
    describe_counter!("trunklog_links_total", "Recordings linked to a call by decision, by rule");
    describe_counter!("trunklog_call_links_total", "Calls linked to each other by decision, by rule");
    describe_counter!("trunklog_call_unlinks_total", "Links between calls taken back, by rule");
    describe_counter!("trunklog_report_requests_total", "Requests of reports over HTTP");
    describe_counter!("trunklog_report_computations_total", "Computations of reports, by report: not by who asks");
    describe_counter!("trunklog_report_files_read_total", "Files read for reports, others being remembered");
    describe_histogram!("trunklog_report_seconds", Unit::Seconds, "Time that a report took to compute");
    describe_counter!("trunklog_log_foreign_records_total", "Records of the topic that trunklog did not write");
    describe_gauge!("trunklog_report_memory_bytes", Unit::Bytes, "Memory of what files contribute to reports");
    describe_gauge!("trunklog_linker_calls", "Calls that the linker watches");
    describe_gauge!("trunklog_index_bytes", Unit::Bytes, "Memory of the indexes of home days and fingerprints");
    describe_gauge!("trunklog_index_entries", "Entries of an index");
    describe_counter!("trunklog_fold_written_bytes_total", Unit::Bytes, "Bytes that folds wrote, by table");
    describe_counter!(
        "trunklog_fold_replaced_bytes_total",
        Unit::Bytes,
        "Bytes of files with rows of calls under way that the next fold replaced"
    );
    describe_counter!("trunklog_compaction_errors_total", "Compactions that failed; they are tried again");
    describe_counter!(
        "trunklog_compaction_removed_bytes_total",
        Unit::Bytes,
        "Bytes of files that compaction replaced"
    );
    describe_counter!("trunklog_compaction_written_bytes_total", Unit::Bytes, "Bytes that compaction wrote, by table");
    describe_counter!("trunklog_fetches_total", "Linked files by result: stored, failed, retried");
    describe_gauge!("trunklog_fetch_queue", "Links that wait to be fetched or are being fetched");
    describe_counter!("trunklog_fold_errors_total", "Folds that failed and are tried again");
    describe_histogram!("trunklog_log_append_seconds", Unit::Seconds, "From append to durable");
    describe_histogram!("trunklog_log_group_appends", "Messages that one sync made durable");
    describe_histogram!("trunklog_fold_seconds", Unit::Seconds, "One fold of the log into the tables");
    describe_histogram!("trunklog_compaction_seconds", Unit::Seconds, "One compaction");
    describe_histogram!(
        "trunklog_receipt_to_visible_seconds",
        Unit::Seconds,
        "From the receipt of a message, on whatever node, until queries on this one see it"
    );
    describe_gauge!("trunklog_leads", "1 while this node folds this partition");
    describe_gauge!("trunklog_fold_lag_messages", "Acknowledged messages that are not yet in every table");
    describe_gauge!("trunklog_compaction_lag_seconds", Unit::Seconds, "Age of the oldest part that is not compacted");
    describe_gauge!("trunklog_tail_bytes", Unit::Bytes, "Memory taken by messages that are not yet in `events`");
    describe_gauge!("trunklog_overlay_calls", "Calls merged in memory");
    describe_gauge!("trunklog_log_bytes", Unit::Bytes, "Size of the log on disk");
    describe_gauge!("trunklog_poisoned", "1 when the log failed and only a restart helps");
    describe_gauge!("trunklog_build_info", "1, with the version as label");
}

/// Shows everything from the start, for an alarm on a counter that is not there yet sees its first step as none.
fn begin() {
    for source in Source::PBX {
        for result in ["stored", "duplicate", "quarantined", "refused"] {
            counter!("trunklog_messages_total", "source" => source.as_str(), "result" => result).absolute(0);
        }
    }
    for source in [Source::Kazoo, Source::Virtualpbx, Source::Planfix] {
        counter!("trunklog_recording_bytes_total", "source" => source.as_str()).absolute(0);
    }
    for rule in ["name", "numbers"] {
        counter!("trunklog_links_total", "rule" => rule).absolute(0);
    }
    for rule in ["other_leg", "a_leg", "dial_call_sid", "id", "numbers", "refer", "better"] {
        counter!("trunklog_call_unlinks_total", "rule" => rule).absolute(0);
        if rule != "better" {
            counter!("trunklog_call_links_total", "rule" => rule).absolute(0);
        }
    }
    for table in ["events", "calls", "recordings"] {
        counter!("trunklog_fold_written_bytes_total", "table" => table).absolute(0);
        counter!("trunklog_compaction_removed_bytes_total", "table" => table).absolute(0);
        counter!("trunklog_compaction_written_bytes_total", "table" => table).absolute(0);
    }
    counter!("trunklog_messages_total", "source" => "bulk", "result" => "refused").absolute(0);
    for result in ["stored", "failed", "retried"] {
        counter!("trunklog_fetches_total", "result" => result).absolute(0);
    }
    gauge!("trunklog_fetch_queue").set(0.0);
    counter!("trunklog_fold_errors_total").absolute(0);
    counter!("trunklog_folded_messages_total").absolute(0);
    counter!("trunklog_compacted_calls_total").absolute(0);
    // A histogram that is asked for is shown, empty as it is.
    let _append = histogram!("trunklog_log_append_seconds");
    let _group = histogram!("trunklog_log_group_appends");
    let _fold = histogram!("trunklog_fold_seconds");
    let _compaction = histogram!("trunklog_compaction_seconds");
    let _query = histogram!("trunklog_query_seconds");
}

/// `GET /metrics`
pub async fn scrape(State(state): State<AppState>) -> ([(HeaderName, &'static str); 1], String) {
    let status = state.archive.status();
    gauge!("trunklog_fold_lag_messages").set(status.lag_messages as f64);
    for (partition, archive) in state.archive.each().iter().enumerate() {
        let leads = if archive.status().leads { 1.0 } else { 0.0 };
        gauge!("trunklog_leads", "partition" => partition.to_string()).set(leads);
    }
    gauge!("trunklog_compaction_lag_seconds").set(status.compaction_lag_seconds as f64);
    gauge!("trunklog_tail_bytes").set(status.tail_bytes as f64);
    gauge!("trunklog_overlay_calls").set(status.overlay_calls as f64);
    gauge!("trunklog_log_bytes").set(status.log_bytes as f64);
    gauge!("trunklog_poisoned").set(if status.poisoned.is_some() { 1.0 } else { 0.0 });
    gauge!("trunklog_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let text = state.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Folds what histograms collected, so that they stay small even if nobody scrapes.
pub async fn keep_small(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(Duration::from_secs(5));
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}
