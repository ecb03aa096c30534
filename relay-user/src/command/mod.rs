//! The commands, a file each.

pub mod doctor;
pub mod down;
pub mod import;
pub mod init;
pub mod peer;
pub mod reload;
pub mod stats;
pub mod status;
mod surroundings;
pub mod up;
mod watch;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    config::{Config, ConfigErrors},
    control::client,
    failure::Failure,
};

/// Fails early and in one line where root is needed.
///
/// # Errors
/// We are not root.
fn need_root(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "only root may {what}; run this with sudo");
    Ok(())
}

/// The configuration that the daemon at `socket` follows, if one answers and it is another than `config`.
async fn follows_another(config: &Path, socket: &Path) -> Option<PathBuf> {
    let followed = PathBuf::from(client::status(socket).await.ok()?.config);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    (real(&followed) != real(config)).then_some(followed)
}

/// Says on stderr what is allowed and yet unwise.
fn warn(config: &Config) {
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
}

/// Why text that is in no file yet would be refused: without places, which nobody could look up.
fn refused(act: &str, errors: &ConfigErrors) -> Failure {
    let reasons: Vec<String> = errors.as_slice().iter().map(|error| error.text()).collect();
    Failure::refused(format!("{act}: {}", reasons.join("\n")))
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// To stdout; a reader who went away (`| head`) has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
