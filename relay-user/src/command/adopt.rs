//! `relay adopt`: the fast path for an interface that somebody else keeps, in the foreground.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::adopt::{self, Options};

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// See [`adopt::run`].
pub async fn run(options: Options) -> anyhow::Result<()> {
    super::need_root("attach the fast path")?;
    // WireGuard tells its keys with its peers: no core file, and no other process of this user may look.
    nix::sys::prctl::set_dumpable(false).context("forbid core dumps")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    adopt::run(options, shutdown).await
}
