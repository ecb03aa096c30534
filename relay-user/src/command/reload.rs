//! `relay reload`: the daemon reads its file again and applies it.

use std::path::Path;

use crate::control::client;

/// Waits until it is applied, and prints what changed.
///
/// # Errors
/// The file is bad (the old state stays in force), a change could not be made, or no daemon runs.
pub async fn run(socket: &Path) -> anyhow::Result<()> {
    let reloaded = client::reload(socket).await?;
    for change in &reloaded.changes {
        eprintln!("{change}");
    }
    if reloaded.changes.is_empty() {
        eprintln!("nothing had to change");
    }
    match reloaded.problems.as_slice() {
        [] => Ok(()),
        problems => anyhow::bail!("reloaded, and not everything could be done: {}", problems.join("; ")),
    }
}
