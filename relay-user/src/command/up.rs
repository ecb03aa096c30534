//! `relay up`: the daemon, in the foreground.

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    cli::Files,
    daemon::{self, Options},
};

/// Runs until SIGINT or SIGTERM; SIGHUP reloads.
///
/// # Errors
/// See [`daemon::run`].
pub async fn run(files: Files, down_on_exit: bool) -> anyhow::Result<()> {
    super::need_root("configure interfaces")?;
    // Keys are in memory: no core file, and no other process of this user may look.
    nix::sys::prctl::set_dumpable(false).context("forbid core dumps")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, hangups) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // One that waits covers this one too.
            let _ = sender.try_send(());
        }
    });
    let shutdown = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    // As other commands, started elsewhere, can find it.
    let config = std::path::absolute(files.config).context("find the current folder")?;
    daemon::run(Options { config, socket: files.socket, state: files.state, down_on_exit }, hangups, shutdown)
        .await
}
