//! Packages from apt: looked for by their files, installed only when missing, with root asked for that alone.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Voice, packages::Package};
use crate::process::{self, capture, find_program, is_root, run_quiet};

/// Installs those of `packages` that are missing.
pub(super) fn ensure(voice: Voice, packages: &[Package]) -> Result<()> {
    let (there, missing): (Vec<_>, Vec<_>) = packages.iter().partition(|package| present(package.proof));
    for package in there {
        voice.have(package.name, package.why);
    }
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Whether a program (by name) or a file (by absolute path) is there.
pub(super) fn present(proof: &str) -> bool {
    if Path::new(proof).is_absolute() { Path::new(proof).exists() } else { find_program(proof).is_some() }
}

/// The version that apt would install, its package lists brought up to date when they do not know the package.
/// `None` when there is no such package, or no apt.
pub(super) fn candidate(name: &str) -> Option<String> {
    find_program("apt-get")?;
    known(name).or_else(|| {
        update().ok()?;
        known(name)
    })
}

fn known(name: &str) -> Option<String> {
    let text = capture(Command::new("apt-cache").args(["show", "--no-all-versions", name])).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
}

fn install(missing: &[&Package]) -> Result<()> {
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if find_program("apt-get").is_none() {
        let wanted: Vec<_> =
            missing.iter().map(|p| format!("  {} ({}): {}", p.proof, p.name, p.why)).collect();
        bail!(
            "missing, and this is no Debian (there is no apt-get); install with your own package manager:\n{}",
            wanted.join("\n")
        );
    }
    for package in missing {
        process::say(format_args!("    need {}: {}", package.name, package.why));
    }
    if names.iter().any(|name| known(name).is_none()) {
        update()?;
    }
    let what = format!("installing {} with apt", names.join(" "));
    let attempt = || run_quiet(&what, apt_get()?.args(ARGS).args(&names));
    if let Err(error) = attempt() {
        // Lists older than the archive name files that it does not hold any more.
        if !error.to_string().contains("404") {
            return Err(error);
        }
        update()?;
        attempt()?;
    }
    match missing.iter().find(|package| !present(package.proof)) {
        Some(package) => bail!("apt installed {}, yet {} is not there", package.name, package.proof),
        None => Ok(()),
    }
}

/// `--no-remove`: rather fail than take away a package that somebody chose.
const ARGS: [&str; 5] = ["install", "-y", "-q", "--no-install-recommends", "--no-remove"];

fn update() -> Result<()> {
    run_quiet("bringing apt's package lists up to date", apt_get()?.args(["update", "-q"]))
}

/// `apt-get` as root, never asking anything.
fn apt_get() -> Result<Command> {
    if is_root() {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        return Ok(command);
    }
    let Some(sudo) = find_program("sudo") else {
        bail!("installing packages needs root, and there is no sudo: run `cargo xtask setup` as root once");
    };
    let status = Command::new(&sudo)
        .args(["-p", "relay's setup installs packages with apt; password for %u: ", "-v"])
        .status()
        .context("asking sudo for root")?;
    if !status.success() {
        bail!("installing packages needs root, which sudo refused: run `cargo xtask setup` as root once");
    }
    let mut command = Command::new(sudo);
    command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}
