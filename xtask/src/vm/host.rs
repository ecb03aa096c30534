//! Processes and files of the host that building a guest needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs a command to its end and returns what it printed; its words on failure are in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}: {}", output.status, words.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed what is not UTF-8"))
}

/// Where an ordinary PATH and the system's own folders have a program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
}
