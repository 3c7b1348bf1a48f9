//! What the tables and indexes know when an archive opens, and the messages behind them.
//!
//! Indexes and checkpoint are written after the tables, so after a crash they may know less: the messages between are
//! read again. What is lost or damaged of them is made again from the tables.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionContext, col, lit};
use futures::TryStreamExt;

use super::duplicates::{Aside, Duplicates, KEPT_MESSAGES, stored as stored_delivery};
use super::keyer::{Keyer, MADE_KEY, Stored};
use super::projection::{HOME_BYTES, Lane, Projected, Projection, home_entry};
use super::sequencer::Sequencer;
use super::snapshot::arrival;
use super::store::Tables;
use super::{ArchiveConfig, Message};
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Offset, Source, now};
use crate::fact::{DUPLICATE_WINDOW, Decoder};
use crate::index::{Runs, View};
use crate::lake::{self, Version};
use crate::log::{Log, codec};
use crate::recording::RecordingState;
use crate::rows::{PART, State};

/// Stored messages that are looked through for the last one of each call without an id.
const RECENT_MESSAGES: u64 = 20_000;
/// Read back from the log at once.
pub(super) const READ_BYTES: usize = 2 << 20;
/// Entries that are added to an index at once when it is made again.
const INDEXED_AT_ONCE: usize = if cfg!(test) { 8 } else { 500_000 };

/// A sequencer, and the offset after which messages must be read again for it.
pub(super) struct Restored {
    pub sequencer: Sequencer,
    pub after: Option<Offset>,
}

/// Versions of tables that a process knows already and need not read again: one by one, there may be very many.
pub(super) struct Known {
    pub calls: Vec<Version>,
    pub recordings: Vec<Version>,
}

/// The sequencer as it was when the last fold had landed, as far as that is known.
pub(super) async fn restore(
    session: &SessionContext,
    tables: &mut Tables,
    decoder: &dyn Decoder,
    config: &ArchiveConfig,
    known: Option<Known>,
) -> Result<Restored, Error> {
    let (calls, recordings) = (tables.calls.table.watermark, tables.recordings.table.watermark);
    let folded = tables.events.watermark.min(calls).min(recordings);
    // One that is ahead of a table is of another time.
    let checkpoint = tables.checkpoint.read().filter(|checkpoint| checkpoint.until <= folded);
    let checkpoint = checkpoint.filter(|checkpoint| checkpoint.until.is_some() && !config.ignore_projections);
    let since = checkpoint.as_ref().and_then(|checkpoint| checkpoint.until);
    let events = tables.events.provider().await?;
    let aside = checkpoint.as_ref().map(|checkpoint| checkpoint.aside.clone());
    let aside = match aside.filter(|_| tables.fingerprints.until() >= since) {
        Some(aside) => aside,
        None => index_fingerprints(session, &mut tables.fingerprints, &events, tables.events.watermark).await?,
    };
    let (of_calls, of_recordings) = known.map(|known| (known.calls, known.recordings)).unzip();
    let calls = restore_projection::<CallState>(session, &mut tables.calls, config, since, of_calls).await?;
    let recordings =
        restore_projection::<RecordingState>(session, &mut tables.recordings, config, since, of_recordings).await?;
    let (keyer, keyed) = match checkpoint {
        Some(checkpoint) => (checkpoint.keyer, checkpoint.until),
        None if config.ignore_projections => (Keyer::default(), calls.watermark),
        None => {
            let keyer = restore_keyer(session, &calls.table, &events, calls.watermark, decoder).await?;
            (keyer, calls.watermark)
        }
    };
    let mut duplicates = Duplicates::new(tables.fingerprints.view(), tables.fingerprints.until(), aside);
    duplicates.records_twice = config.kafka.is_some();
    let after = keyed.min(calls.watermark).min(recordings.watermark);
    // Of projections that are about to be made again nothing counts.
    let projected = calls.watermark.max(recordings.watermark).filter(|_| !config.ignore_projections);
    let last = tables.events.watermark.max(projected);
    let mut sequencer = Sequencer::new(events, tables.events.watermark, calls, recordings, duplicates);
    (sequencer.keyer, sequencer.keyed, sequencer.last) = (keyer, keyed, last);
    sequencer.partition = config.kafka.as_ref().map_or(0, |kafka| kafka.partition);
    Ok(Restored { sequencer, after })
}

/// What the table knows: where everything lives, and the parts.
async fn restore_projection<S: Projected>(
    session: &SessionContext,
    lane: &mut Lane,
    config: &ArchiveConfig,
    since: Option<Offset>,
    history: Option<Vec<Version>>,
) -> Result<Projection<S>, Error> {
    let kept = i64::try_from(config.keep_superseded.as_micros()).unwrap_or(i64::MAX);
    let table = &lane.table;
    let history = match history {
        Some(history) => history,
        None => table.history(now().saturating_sub(kept)).await?,
    };
    let provider = table.provider().await?;
    if config.ignore_projections {
        return Ok(Projection { history, ..Projection::new(provider, table.watermark, View::empty()) });
    }
    let damaged = |error: Error| {
        let away = if config.bucket.is_some() { ", unless the bucket is only away," } else { "" };
        tracing::error!("the table `{}` cannot be read;{away} `trunklog rebuild` makes it again", table.name());
        error
    };
    // What the index lacks must be in the messages that are read again.
    let is_known = lane.homes.until() == table.watermark || since.is_some() && lane.homes.until() >= since;
    if !is_known {
        index_homes::<S>(session, &mut lane.homes, &provider, table.watermark).await.map_err(damaged)?;
    }
    let mut projection = Projection::new(provider, table.watermark, lane.homes.view());
    projection.history = history;
    load_parts(session, &mut projection).await.map_err(damaged)?;
    Ok(projection)
}

/// Makes the index of home days again from the rows of the table.
pub(super) async fn index_homes<S: State>(
    session: &SessionContext,
    homes: &mut Runs<HOME_BYTES>,
    table: &Arc<dyn TableProvider>,
    watermark: Option<Offset>,
) -> Result<(), Error> {
    let Some(watermark) = watermark else { return homes.begin() };
    homes.clear()?;
    let is_final = lake::read::is_whole();
    let mut stream = std::pin::pin!(lake::read::homes::<S>(session, table, Some(is_final)).await?);
    let mut entries = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        entries.extend(batch.iter().map(|(id, day)| home_entry(id, *day)));
        if entries.len() >= INDEXED_AT_ONCE {
            homes.fill(std::mem::take(&mut entries), watermark, 0)?;
        }
    }
    homes.fill(entries, watermark, 0)?;
    homes.complete(watermark)
}

/// Reads the parts of the pinned table.
pub(super) async fn load_parts<S: State>(
    session: &SessionContext,
    projection: &mut Projection<S>,
) -> Result<(), Error> {
    for part in lake::read::states(session, &projection.table, col("tier").eq(lit(PART))).await? {
        projection.take_part(part)?;
    }
    Ok(())
}

/// Makes the index of recent fingerprints again from `events`.
async fn index_fingerprints(
    session: &SessionContext,
    runs: &mut Runs<{ super::duplicates::DELIVERY_BYTES }>,
    events: &Arc<dyn TableProvider>,
    watermark: Option<Offset>,
) -> Result<Aside, Error> {
    let mut aside = Aside::default();
    let Some(watermark) = watermark else {
        runs.begin()?;
        return Ok(aside);
    };
    runs.clear()?;
    aside.latest = lake::read::latest_receipt(session, events).await?;
    let since = aside.latest.saturating_sub(DUPLICATE_WINDOW);
    let from = Offset(watermark.0.saturating_sub(KEPT_MESSAGES));
    let (mut entries, mut stamp) = (Vec::new(), 0);
    let take = |tenant: &str, source, print, message: (Offset, _, &str)| {
        stamp = stamp.max(message.1);
        entries.push(stored_delivery(tenant, source, &print, message, &mut aside));
        if entries.len() < INDEXED_AT_ONCE {
            return Ok(());
        }
        runs.fill(std::mem::take(&mut entries), watermark, stamp)
    };
    lake::read::fingerprints(session, events, since, from, take).await?;
    runs.fill(entries, watermark, stamp)?;
    runs.complete(watermark)?;
    Ok(aside)
}

/// The calls whose keys were made here, in log order.
pub(super) async fn restore_keyer(
    session: &SessionContext,
    calls: &Arc<dyn TableProvider>,
    events: &Arc<dyn TableProvider>,
    watermark: Option<Offset>,
    decoder: &dyn Decoder,
) -> Result<Keyer, Error> {
    let made = col("source").eq(lit(Source::Voispeed.as_str())).and(col("call_key").like(lit(format!("{MADE_KEY}%"))));
    // A call may have a final row and parts.
    let stored = super::fold::merge(lake::read::states::<CallState>(session, calls, made).await?);
    let stored = stored.into_iter().map(|call| Stored {
        tenant: call.tenant.to_string(),
        source: call.source,
        key: call.key.to_string(),
        ended_at: call.state.legs.values().filter_map(|leg| leg.end.map(|end| end.1)).max(),
        began: call.state.seen.map(|seen| seen.first_offset),
        heard: call.state.seen.map(|seen| seen.last_offset),
    });
    let mut keyer = Keyer::default();
    keyer.restore(stored.collect());
    let Some(watermark) = watermark.filter(|_| !keyer.is_empty()) else { return Ok(keyer) };
    let recent = Offset(watermark.0.saturating_sub(RECENT_MESSAGES));
    let mut stream = std::pin::pin!(lake::read::messages(session, events, Some(recent), watermark));
    let mut last = Vec::new();
    while let Some(messages) = stream.try_next().await? {
        let of_source = messages.into_iter().filter(|stored| stored.event.source == Source::Voispeed);
        last.extend(of_source.map(|stored| Message::new(stored.event, decoder)));
    }
    keyer.remember(last.iter().map(|message| (&*message.event, &message.decoded)));
    Ok(keyer)
}

/// Takes in again what some table has and something else lacks: from `events` what the log no longer has, the rest from
/// the log. What came from brokers is all taken from `events`, which has each record once. Then the indexes have all
/// home days.
pub(super) async fn catch_up(
    session: &SessionContext,
    restored: &mut Restored,
    tables: &mut Tables,
    log: &dyn Log,
    decoder: &dyn Decoder,
) -> Result<(), Error> {
    let Restored { sequencer, after } = restored;
    let Some(last) = sequencer.last else { return Ok(()) };
    let in_events = sequencer.events_watermark.filter(|_| sequencer.duplicates.records_twice);
    let first = log.bounds().first.max(Offset(in_events.map_or(0, |offset| offset.0 + 1)));
    let mut next = Offset(after.map_or(0, |offset| offset.0 + 1));
    if next < first {
        let events = Arc::clone(&sequencer.events);
        let until = Offset(first.0 - 1).min(last);
        let mut stream = std::pin::pin!(lake::read::messages(session, &events, *after, until));
        while let Some(messages) = stream.try_next().await? {
            for stored in messages {
                sequencer.take(arrival(stored.offset, Message::new(stored.event, decoder)));
            }
        }
        next = first;
    }
    while next <= last {
        let records = log.read(next, READ_BYTES)?;
        for (offset, record) in records.into_iter().take_while(|(offset, _)| *offset <= last) {
            sequencer.take(arrival(offset, Message::new(codec::decode(&record)?, decoder)));
            next = Offset(offset.0 + 1);
        }
    }
    sequencer.check()?;
    complete_homes(&mut tables.calls, &mut sequencer.calls)?;
    complete_homes(&mut tables.recordings, &mut sequencer.recordings)
}

/// The index of home days gets those that were found while messages were read again.
pub(super) fn complete_homes<S: State>(lane: &mut Lane, projection: &mut Projection<S>) -> Result<(), Error> {
    let placed: HashMap<u128, i32> = std::mem::take(&mut projection.placed);
    let Some(watermark) = projection.watermark else { return Ok(()) };
    if placed.is_empty() && lane.homes.until() >= Some(watermark) {
        return Ok(());
    }
    lane.homes.add(placed.into_iter().map(|(key, day)| (key, day.to_be_bytes())).collect(), watermark, 0)?;
    projection.homes = lane.homes.view();
    Ok(())
}
