//! The commands, a file each.

pub mod adopt;
pub mod doctor;
pub mod down;
mod first;
pub mod import;
pub mod init;
pub mod install;
pub mod join;
pub mod metrics;
pub mod peer;
pub mod release;
pub mod reload;
pub mod stats;
pub mod status;
mod surroundings;
mod systemd;
pub mod trace;
pub mod uninstall;
pub mod up;
mod watch;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    adopt::{Options, Place},
    cli::{DEFAULT_SOCKET, Files},
    config::{Config, ConfigErrors},
    control::client::{self, ControlError},
    desired::InterfaceName,
    failure::Failure,
    kernel::namespace::Namespace,
    report::Status,
};

/// How long a daemon may take to end after it has answered: it writes the last of its history. A keeper takes 1 ms.
const ENDS: Duration = Duration::from_secs(5);

/// What there is once a process that has answered has ended; nothing where that takes too long.
async fn once_ended<T>(mut ended: impl FnMut() -> Option<T>) -> Option<T> {
    let answered = Instant::now();
    while answered.elapsed() < ENDS {
        match ended() {
            Some(there) => return Some(there),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    None
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

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
    let followed = PathBuf::from(client::status(socket).await.ok()?.config?);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    (real(&followed) != real(config)).then_some(followed)
}

/// Which adoption is meant, and where its keeper answers: in a place of its own, unless `--socket` names another.
#[must_use]
pub fn adoption(files: &Files, interface: InterfaceName, namespace: Option<Namespace>) -> Options {
    let place = Place { interface, namespace };
    let socket =
        if files.socket == Path::new(DEFAULT_SOCKET) { place.socket() } else { files.socket.clone() };
    Options { place, socket }
}

/// Refuses where another relay answers than the keeper of this adoption.
async fn keeps(options: &Options) -> Result<(), Failure> {
    match client::status(&options.socket).await {
        Ok(status) => is_of(&status, options),
        // Who has no answer is told so by what is asked next.
        Err(_) => Ok(()),
    }
}

/// Refuses what is not said by the keeper of this adoption: `--socket` may name a hub's.
fn is_of(status: &Status, options: &Options) -> Result<(), Failure> {
    if status.config.is_none() && status.interface == options.place.interface.as_str() {
        return Ok(());
    }
    let (socket, interface) = (options.socket.display(), &status.interface);
    let message = format!("on {socket} another relay answers, which keeps {interface}");
    Err(Failure::refused(message)
        .hint("leave out `--socket`, and RELAY_SOCKET: an adoption has a socket of its own"))
}

/// Says who starts what does not run.
fn not_adopted(error: ControlError, place: &Place) -> anyhow::Error {
    let absent = matches!(error, ControlError::NotRunning(_));
    let error = anyhow::Error::new(error);
    if !absent {
        return error;
    }
    let hint = format!("`relay adopt {}` does, with the same `--netns` if it needs one", place.interface);
    error.context(Failure::new(format!("nobody keeps {} adopted", place.interface)).hint(hint))
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
