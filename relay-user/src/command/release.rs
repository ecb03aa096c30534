//! `relay release`: an adopted interface is as it was before, whether its keeper runs or was killed.

use crate::{
    adopt::{AdoptError, Foreign, Options},
    control::client::{self, ControlError},
    report::Reloaded,
};

/// Asks the process that keeps it, or does it itself where none runs. Prints what was taken off.
///
/// # Errors
/// Something could not be taken off; the interface is relay's own.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    super::keeps(options).await?;
    let done = match client::down(&options.socket).await {
        Err(ControlError::NotRunning(_)) => without_keeper(options).await?,
        answer => {
            let done = answer?;
            // Whoever types the next command finds nothing of the keeper's any more. One that does not end is told by its
            // own log.
            if let Some(lock) = super::once_ended(|| options.place.lock().ok()).await {
                options.place.tidy(lock);
            }
            done
        }
    };
    for change in &done.changes {
        eprintln!("{change}");
    }
    if done.changes.is_empty() && done.problems.is_empty() {
        eprintln!("nothing of relay's was on {}", options.place.interface);
    }
    match done.problems.as_slice() {
        [] => Ok(()),
        problems => anyhow::bail!("not everything is off: {}", problems.join("; ")),
    }
}

async fn without_keeper(options: &Options) -> anyhow::Result<Reloaded> {
    super::need_root("take the fast path off")?;
    let lock = options.place.lock()?;
    let mut foreign = Foreign::open(options.place.clone())?;
    if let Err(error @ AdoptError::Ours(_)) = foreign.see().await {
        return Err(error.into());
    }
    let _ = std::fs::remove_file(&options.socket);
    let done = foreign.release().await;
    options.place.tidy(lock);
    Ok(done)
}
