//! `cargo xtask lab`: builds relay and the laboratory's driver, and runs it as root. The laboratory itself is in
//! `tests/src/lab`, where the tests use it too.

use std::{ffi::OsStr, path::Path};

use anyhow::Result;

use crate::{
    build,
    env::{Env, Profile},
    process::{as_root, run as run_command},
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
    /// Leave it up and say how to enter it; Enter or Ctrl-C takes it down
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
    let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
    tell(env, &relay, &flags)
}

/// Runs the driver with a relay that is built already.
pub(crate) fn tell(env: &Env, relay: &Path, flags: &[&str]) -> Result<()> {
    let lab = build::lab(env)?;
    let mut command = as_root(&lab, &[])?;
    command.args([OsStr::new("--relay"), relay.as_os_str()]).args(flags);
    run_command("the laboratory", &mut command)
}
