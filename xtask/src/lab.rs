//! `cargo xtask lab`: builds relay and the laboratory's driver, and runs it as root. The laboratory itself is in
//! `tests/src/lab`, where the tests use it too.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build,
    env::{Env, Profile},
    process::{as_root, run as run_command, say},
    setup,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask lab
  cargo xtask lab --json
  cargo xtask lab --keep";

/// What `lab` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave it up and say how to enter it; Ctrl-C takes it down
    #[arg(long)]
    keep: bool,
    /// Print the results as data on stdout
    #[arg(long)]
    json: bool,
}

/// The verb.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    setup::netns()?;
    let relay = build::relay(env, Profile::Dev)?;
    let flags = [(args.keep, "--keep"), (args.json, "--json")];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag);
    say("==> the laboratory");
    // In our place, so that whoever pressed Ctrl-C gets the prompt back when all is cleaned up.
    Err(driver(env, &relay)?.args(flags).exec()).context("starting the laboratory")
}

/// Tells the story with a relay that is built already.
pub(crate) fn tell(env: &Env, relay: &Path) -> Result<()> {
    run_command("the laboratory", &mut driver(env, relay)?)
}

fn driver(env: &Env, relay: &Path) -> Result<Command> {
    let mut command = as_root(&build::lab(env)?, &[])?;
    command.args([OsStr::new("--relay"), relay.as_os_str()]);
    Ok(command)
}
