//! `relay adopt`: the fast path for an interface that somebody else keeps, in the foreground.

use tokio::signal::unix::{SignalKind, signal};

use crate::adopt::{self, Options};

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// See [`adopt::run`].
pub async fn run(options: Options) -> anyhow::Result<()> {
    super::need_root("attach the fast path")?;
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
