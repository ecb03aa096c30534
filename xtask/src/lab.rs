//! `cargo xtask lab`: builds relay and the laboratory's driver, and runs it as root. The laboratory itself is in
//! `tests/src/lab`, where the tests use it too.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    bpf, build,
    env::{Env, Profile},
    process::{as_root, root_is_possible, run as run_command, say},
    setup, vm,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask lab
  cargo xtask lab --json
  cargo xtask lab --keep
  cargo xtask lab --kernel 6.12";

/// What `lab` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave it up and say how to enter it; Ctrl-C takes it down
    #[arg(long)]
    keep: bool,
    /// Print the results as data on stdout
    #[arg(long)]
    json: bool,
    /// Run it in a guest with this kernel of Debian, which has WireGuard, under QEMU
    #[arg(long, value_name = "LINE", conflicts_with = "keep")]
    kernel: Option<String>,
}

/// The verb.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    if let Some(kernel) = &args.kernel {
        return in_guest(env, kernel, args.json);
    }
    root_is_possible("the laboratory")?;
    setup::laboratory()?;
    let relay = build::relay(env, Profile::Dev)?;
    let flags = [(args.keep, "--keep"), (args.json, "--json")];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag);
    say("==> the laboratory");
    // In our place, so that whoever pressed Ctrl-C gets the prompt back when all is cleaned up.
    Err(driver(env, &relay)?.args(flags).exec()).context("starting the laboratory")
}

fn in_guest(env: &Env, kernel: &str, json: bool) -> Result<()> {
    setup::guests(env)?;
    bpf::object(env)?;
    let mut arguments = vec!["--relay", vm::RELAY];
    arguments.extend(json.then_some("--json"));
    let programs = vm::Programs::build(env, |_| true)?.alone("lab", &arguments)?;
    let options = vm::Options { kernels: vec![kernel.to_owned()], show: true, ..vm::Options::default() };
    let outcome = vm::run(env, &options, &programs)?;
    outcome.verdict().map(drop).with_context(|| format!("the laboratory in a guest\n{outcome}"))
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
