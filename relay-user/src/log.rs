//! Where the log goes: stderr, for people or for the journal; stdout stays data.
//!
//! One line a change, in words; who is where (endpoints) is nobody's business and never in it above the level `debug`.

mod journal;
mod stderr;

use std::{env, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::writer::BoxMakeWriter};

/// Who logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// What runs for months: tells each change, and goes on when nobody reads.
    Daemon,
    /// What a person has just typed: tells what is wrong.
    Command,
}

/// Logs from here on. `RELAY_LOG` chooses what is told, as `RUST_LOG` does elsewhere.
///
/// # Panics
/// The second time.
pub fn start(speaker: Speaker) {
    let (level, writer) = match speaker {
        Speaker::Daemon => (LevelFilter::INFO, BoxMakeWriter::new(stderr::Patient::default())),
        Speaker::Command => (LevelFilter::WARN, BoxMakeWriter::new(std::io::stderr)),
    };
    // What matters of gotatun's, the daemon tells in its own words.
    let default = || EnvFilter::new(format!("{level},gotatun=off"));
    let chosen = EnvFilter::try_from_env("RELAY_LOG");
    // Which part of relay speaks is for those who have chosen to look closer.
    let target = chosen.is_ok();
    let filter = chosen.unwrap_or_else(|_| default());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(target);
    if journal::is_stderr() {
        return builder.with_ansi(false).event_format(journal::Entry).init();
    }
    let no_colour = env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    builder.with_ansi(std::io::stderr().is_terminal() && !no_colour).init();
}

/// What goes in front of a line on stderr that tells an error, so that the journal knows it for one.
#[must_use]
pub fn error_mark() -> &'static str {
    if journal::is_stderr() { "<3>" } else { "" }
}
