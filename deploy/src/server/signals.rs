//! Signals: SIGTERM and SIGINT drain (a second one ends at once), SIGHUP reads the configuration again, and so does a
//! change of the settings that nodes share.

use std::sync::atomic::Ordering;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::AppState;
use super::shared_settings::Shared;
use crate::config::{Checked, Overrides};
use crate::error::Error;

/// Starts watching.
pub fn watch(
    state: AppState,
    config: Checked,
    (overrides, shared): (Overrides, Shared),
    stop: CancellationToken,
) -> Result<(), Error> {
    let listen = |kind| signal(kind).map_err(Error::io("watching for signals"));
    let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let hang_up = listen(SignalKind::hangup())?;
    tokio::spawn(end(state.clone(), terminate, interrupt, stop));
    tokio::spawn(reload(state, config, (overrides, shared), hang_up));
    Ok(())
}

async fn end(state: AppState, mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping");
    state.draining.store(true, Ordering::Relaxed);
    stop.cancel();
    either(&mut terminate, &mut interrupt).await;
    // Whatever was acknowledged is durable, so an abrupt end loses nothing.
    std::process::exit(130);
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Tenants and limits change at once; everything else is named, so that nobody believes it did.
async fn reload(
    state: AppState,
    mut config: Checked,
    (mut overrides, mut shared): (Overrides, Shared),
    mut hang_up: Signal,
) {
    loop {
        tokio::select! {
            signal = hang_up.recv() => if signal.is_none() { return },
            text = shared.changed() => overrides.shared = text,
        }
        match overrides.load() {
            Ok(newer) => {
                let unchanged = config.needs_restart(&newer);
                if !unchanged.is_empty() {
                    tracing::warn!(keys = unchanged.join(", "), "these settings change only at a restart");
                }
                state.settings.store(newer.settings.clone());
                config.settings = newer.settings;
                tracing::info!("configuration read again");
            }
            Err(error) => tracing::error!(%error, "the configuration is wrong; the old one stays in force"),
        }
    }
}
