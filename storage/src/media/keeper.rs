//! What happens to a recording after its upload, off the request's way: a look at its bytes, its waveform, and taking
//! away what no message names. All of it at lower priority, and found again after a restart.

use std::time::{Duration, SystemTime};

use datafusion::prelude::{Expr, col, lit};
use tokio::task::AbortHandle;

use super::{Media, audio, linker};
use crate::archive::Archive;
use crate::error::Error;
use crate::partitions::Partitions;
use crate::recording::Probe;
use crate::recording::message::{self, Probed};
use crate::rows::KeyedRecording;

/// Files that no message names are left alone for so long: their message may be on its way.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// How often they are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Between two looks for recordings that were missed because too many came at once.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts probing and linking what is in one partition, until it is closed or this is aborted.
///
/// # Errors
/// `Closed` when the archive is closing.
pub fn start(archive: &Archive, media: &Media) -> Result<Vec<AbortHandle>, Error> {
    let background = archive.background()?;
    Ok(vec![
        background.spawn(probe_all(archive.clone(), media.clone())).abort_handle(),
        background.spawn(linker::run(archive.clone())).abort_handle(),
    ])
}

/// Starts taking away what no message of any partition names, until they are closed or this is aborted.
///
/// # Errors
/// `Closed` when the archive is closing.
pub fn sweep(partitions: &Partitions, media: &Media) -> Result<AbortHandle, Error> {
    let background = partitions.each()[0].background()?;
    Ok(background.spawn(sweep_often(partitions.clone(), media.clone())).abort_handle())
}

async fn probe_all(archive: Archive, media: Media) {
    let mut arrivals = archive.subscribe_recordings();
    loop {
        // At the start, and whenever more came than the queue holds.
        match archive.find_recordings(unread(), is_unread).await {
            Ok(unread) => {
                for recording in unread {
                    probe_one(&archive, &media, &recording).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for recordings that were not read yet"),
        }
        while let Some(recording) = arrivals.next().await {
            if archive.is_probed(&recording.id) != Some(true) {
                probe_one(&archive, &media, &recording).await;
            }
            if arrivals.take_missed() {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A look that finds no container says that the recording is damaged.
fn unread() -> Expr {
    col("status").eq(lit("received")).and(col("container").is_null())
}

fn is_unread(recording: &KeyedRecording) -> bool {
    recording.state.probed().is_none() && recording.state.object().is_some()
}

/// Reads one recording's bytes and writes what they are into the log.
async fn probe_one(archive: &Archive, media: &Media, recording: &KeyedRecording) {
    let Some(object) = recording.state.object() else { return };
    let probe = match read(media, object).await {
        Ok(probe) => probe,
        Err(error) => {
            tracing::error!(%error, recording = %recording.id, "cannot read a recording; it will be tried again at the next start");
            return;
        }
    };
    let is_audio = probe.container.is_some();
    let probed = Probed { source: recording.source, recording_id: recording.id.to_string(), probe };
    let event = message::event(&recording.tenant, "trunklog.probe", None, &probed);
    if let Err(error) = archive.append_patiently(&[event], None).await {
        tracing::warn!(%error, recording = %recording.id, "cannot write down what a recording is");
        return;
    }
    if is_audio && let Err(error) = media.waveform(object, &recording.id).await {
        tracing::debug!(%error, recording = %recording.id, "a recording has no waveform");
    }
}

async fn read(media: &Media, object: &str) -> Result<Probe, Error> {
    let stored = media.open_object(object).await?;
    let reader = stored.reader().await?;
    super::blocking(move || Ok(audio::probe(reader, stored.bytes()))).await
}

async fn sweep_often(partitions: Partitions, media: Media) {
    loop {
        match sweep_once(&partitions, &media).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "took away files of uploads that were never acknowledged"),
            Err(error) => tracing::warn!(%error, "cannot take away files of uploads that were never acknowledged"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn sweep_once(partitions: &Partitions, media: &Media) -> Result<u64, Error> {
    // Before the keys are gathered: what is stored from now on is too young, however long this takes.
    let before = SystemTime::now() - ORPHAN_AGE;
    let named = partitions.objects().await?;
    media.sweep(before, move |object| named.contains(object)).await
}
