//! What happens to a recording after its upload, off the request's way: a look at its bytes, its waveform, and taking
//! away what no message names. All of it at lower priority, and found again after a restart.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use datafusion::prelude::{Expr, col, lit};
use futures::stream::{self, FuturesUnordered, StreamExt};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::{Media, audio, linker};
use crate::archive::{Archive, Arrivals};
use crate::error::Error;
use crate::event::Id;
use crate::partitions::Partitions;
use crate::recording::message::{self, Probed};
use crate::recording::{Probe, RecordingState};
use crate::rows::KeyedRecording;

/// Files that no message names are left alone for so long: their message may be on its way.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// How often they are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Before the next look for recordings that were missed, because too many came at once or the storage was away; longer
/// while that lasts.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// So many are looked at side by side: most of a look is waiting, for the storage and for the log. Each may hold one of
/// the background's few threads for files.
const AT_ONCE: usize = 4;

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
    let mut pause = PAUSE;
    loop {
        // At the start, and whenever some were missed.
        let next = if probe_unread(&archive, &media).await {
            pause = PAUSE;
            None
        } else {
            let next = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            Some(next)
        };
        if probe_arriving(&archive, &media, &mut arrivals, next).await.is_break() {
            return;
        }
    }
}

/// Looks at all that were not looked at yet; `false` if some are left.
async fn probe_unread(archive: &Archive, media: &Media) -> bool {
    let unread = match archive.find_recordings(unread(), is_unread).await {
        Ok(unread) => unread,
        Err(error) => {
            tracing::warn!(%error, "cannot look for recordings that were not read yet");
            return false;
        }
    };
    let probes = stream::iter(unread).map(|recording| probe_one(archive, media, recording));
    probes.buffer_unordered(AT_ONCE).fold(true, async |all, probed| all & probed).await
}

/// Looks at those that arrive, until it is time to look for others that were left; they may have been from the start,
/// or because of what arrived meanwhile. Breaks when the archive is gone.
async fn probe_arriving(
    archive: &Archive,
    media: &Media,
    arrivals: &mut Arrivals<RecordingState>,
    mut next: Option<Instant>,
) -> ControlFlow<()> {
    let (mut probes, mut under_way) = (FuturesUnordered::new(), HashSet::new());
    let probe = async |recording: KeyedRecording| (recording.id.clone(), probe_one(archive, media, recording).await);
    loop {
        let time = next.unwrap_or_else(|| Instant::now() + LONGEST_PAUSE);
        let is_missed = tokio::select! {
            () = sleep_until(time), if next.is_some() => break,
            Some(ended) = probes.next() => {
                let (id, probed): (Id, bool) = ended;
                under_way.remove(&id);
                !probed
            }
            arrived = arrivals.next(), if probes.len() < AT_ONCE => {
                let Some(recording) = arrived else { return ControlFlow::Break(()) };
                if archive.is_probed(&recording.id) != Some(true) && under_way.insert(recording.id.clone()) {
                    probes.push(probe(recording));
                }
                false
            }
        };
        if is_missed | arrivals.take_missed() {
            next.get_or_insert(Instant::now() + PAUSE);
        }
    }
    while probes.next().await.is_some() {}
    ControlFlow::Continue(())
}

/// A look that finds no container says that the recording is damaged.
fn unread() -> Expr {
    col("status").eq(lit("received")).and(col("container").is_null())
}

fn is_unread(recording: &KeyedRecording) -> bool {
    recording.state.probed().is_none() && recording.state.object().is_some()
}

/// Reads one recording's bytes and writes what they are into the log; `false` if that is to be tried again.
async fn probe_one(archive: &Archive, media: &Media, recording: KeyedRecording) -> bool {
    let Some(object) = recording.state.object() else { return true };
    let probe = match read(media, object).await {
        Ok(probe) => probe,
        Err(error) => {
            tracing::error!(%error, recording = %recording.id, "cannot read a recording; it will be tried again");
            return false;
        }
    };
    let is_audio = probe.container.is_some();
    let probed = Probed { source: recording.source, recording_id: recording.id.to_string(), probe };
    let event = message::event(&recording.tenant, "trunklog.probe", None, &probed);
    if let Err(error) = archive.append_patiently(&[event], None).await {
        tracing::warn!(%error, recording = %recording.id, "cannot write down what a recording is; it will be tried again");
        return false;
    }
    if is_audio && let Err(error) = media.waveform(object, &recording.id).await {
        tracing::debug!(%error, recording = %recording.id, "a recording has no waveform");
    }
    true
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::toy::Toy;
    use crate::archive::{ArchiveConfig, Message};
    use crate::event::Source;
    use crate::media::MediaConfig;
    use crate::recording::message::{Fetch, FetchOutcome, Upload};

    const AUDIO: &[u8] = b"no audio, which is found out by reading it";

    async fn unread_ones(archive: &Archive) -> usize {
        archive.find_recordings(lit(true), is_unread).await.expect("readable").len()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_could_not_be_read_is_read_when_it_can_be() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let media = Media::open(MediaConfig {
            data_dir: directory.path().to_owned(),
            limit_bytes: 1 << 20,
            small_bytes: 0,
            min_free_bytes: 0,
            bucket: None,
            presign: None,
        });
        let media = media.expect("opens");
        let config = ArchiveConfig { min_free_bytes: 0, ..ArchiveConfig::new(directory.path()) };
        let archive = Archive::open(config, Arc::new(Toy)).await.expect("opens");
        let mut receiver = media.receive(None).expect("there is room");
        receiver.write(AUDIO.into()).await.expect("written");
        let object = receiver.finish().await.expect("received").keep("acme", "2026-01-31", "one").await.expect("kept");
        let upload = Upload { object, sha256: "0".repeat(64), bytes: AUDIO.len() as u64, ..Upload::default() };
        let fetch = Fetch {
            source: Source::Planfix,
            call_key: "call".into(),
            url: "https://example.com".into(),
            outcome: FetchOutcome::Stored,
            attempts: 1,
            error: None,
            upload: Some(upload),
        };
        let event = message::event("acme", "trunklog.fetch", None, &fetch);
        archive.append(vec![Message::new(event, &Toy)]).await.expect("acknowledged");
        archive.flush().await.expect("folded");

        let [there, away] = ["objects", "away"].map(|name| directory.path().join(name));
        std::fs::rename(&there, &away).expect("taken away");
        let working = start(&archive, &media).expect("started");
        tokio::time::sleep(PAUSE * 5).await;
        assert_eq!(unread_ones(&archive).await, 1, "its bytes cannot be read");
        std::fs::rename(&away, &there).expect("brought back");
        let mut looks = 0;
        while unread_ones(&archive).await > 0 {
            looks += 1;
            assert!(looks < 200, "it is not looked at again");
            tokio::time::sleep(PAUSE / 2).await;
        }
        working.iter().for_each(AbortHandle::abort);
        archive.close().await.expect("closed");
    }
}
