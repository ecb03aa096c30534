//! `cargo xtask test`: the heights of test, each with what it needs, what it ran and what it took.
//!
//! A height is a function of [`Env`] and nothing else; another one is a row in [`Height`] and an arm in `run_height`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    bpf, build, dist,
    env::{Env, Profile},
    lab, next,
    process::{as_root, root_is_possible, run as run_command, say, time},
    setup, vm,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask test
  cargo xtask test unit program
  cargo xtask test vm --kernel 6.12 --program datapath";

/// What `test` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Heights to run; all when none is named
    heights: Vec<Height>,
    /// Kernels of Debian to boot for the height `vm`; `boot` has its Debian's own
    #[arg(long = "kernel", value_name = "LINE", default_values = vm::KERNELS)]
    kernels: Vec<String>,
    /// In guests, only this test program
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// In guests, only tests with this in their names
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// What QEMU runs guests with: kvm is faster where it can boot a stock kernel, icount counts instructions
    #[arg(long, value_name = "ACCEL", default_value = "tcg")]
    accelerator: String,
}

impl Args {
    /// Whether a height is to run.
    fn chooses(&self, height: Height) -> bool {
        self.heights.is_empty() || self.heights.contains(&height)
    }
}

/// Where a test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Height {
    /// Pure functions; needs no root and no eBPF
    Unit,
    /// The eBPF programs, packet by packet, with BPF_PROG_TEST_RUN; needs root
    Program,
    /// The real path of packets in network namespaces, and the laboratory; needs root
    Netns,
    /// Debian packages for amd64 and arm64: what is in them, and relay for arm64 under QEMU
    Packages,
    /// Seeded faults in the eBPF programs, each caught by a named test; needs root
    Mutants,
    /// All test programs on Debian's kernels, with kernel WireGuard, under QEMU
    Vm,
    /// The package's life on a Debian that boots from a disk, with systemd as PID 1, under QEMU; root to make the disk
    Boot,
}

impl Height {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Program => "program",
            Self::Netns => "netns",
            Self::Packages => "packages",
            Self::Mutants => "mutants",
            Self::Vm => "vm",
            Self::Boot => "boot",
        }
    }

    fn needs_root(self) -> bool {
        !matches!(self, Self::Unit | Self::Packages | Self::Vm | Self::Boot)
    }
}

/// Runs the heights one after the other, all of them also when one fails, and ends with a table.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    let begun = Instant::now();
    let all = Height::value_variants();
    let heights: Vec<Height> = all.iter().copied().filter(|height| args.chooses(*height)).collect();
    let mut rows = Vec::new();
    for &height in &heights {
        say(format_args!("\n=== {}", height.name()));
        let begun = Instant::now();
        let result = run_height(env, args, height);
        if let Err(error) = &result {
            say(format_args!("{} failed: {error:#}", height.name()));
        }
        rows.push(Row { height, result, took: begun.elapsed() });
    }
    say(format_args!("\n{}", table(&rows, begun.elapsed())));
    let failed: Vec<_> = rows.iter().filter(|row| row.result.is_err()).map(|row| row.height.name()).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

struct Row {
    height: Height,
    /// What ran, in one line.
    result: Result<String>,
    took: Duration,
}

fn table(rows: &[Row], overall: Duration) -> String {
    let mut text = String::new();
    for row in rows {
        let (word, what) = match &row.result {
            Ok(what) => ("passed", what.clone()),
            Err(error) => ("FAILED", error.to_string().lines().next().unwrap_or_default().to_owned()),
        };
        text.push_str(&format!("{:<8}  {word}  {:>12}  {what}\n", row.height.name(), time(row.took)));
    }
    text.push_str(&format!("{:<8}  {:>20}", "overall", time(overall)));
    text
}

fn run_height(env: &Env, args: &Args, height: Height) -> Result<String> {
    if height.needs_root() {
        root_is_possible(height.name())?;
    }
    match height {
        Height::Unit => unit(env),
        Height::Program => program(env),
        Height::Netns => netns(env),
        Height::Packages => packages(env),
        Height::Mutants => mutants(env),
        Height::Vm => guests(env, args),
        Height::Boot => boot(env, args),
    }
}

/// The crates whose tests are pure functions.
const PURE: [&str; 3] = ["relay-common", "relay-user", "xtask"];

fn unit(env: &Env) -> Result<String> {
    let mut command = env.cargo();
    command.arg("test");
    for package in PURE {
        command.args(["--package", package]);
    }
    run_command("testing without root (building may take a few minutes the first time)", &mut command)?;
    Ok(PURE.join(", "))
}

/// The test program that runs the eBPF programs packet by packet.
const PROGRAM: &str = "program";
/// The test program that expects each seeded fault to be caught.
const MUTANTS: &str = "mutants";
/// The test program that looks into packages.
const PACKAGES: &str = "packages";
/// The test program that a Debian runs which boots from a disk.
const BOOT: &str = "boot";

fn program(env: &Env) -> Result<String> {
    setup::running()?;
    bpf::object(env)?;
    test_binaries(env, |name| name == PROGRAM, None, &[])
}

/// Every test program that is not another height's, so that a new one is not forgotten.
fn netns(env: &Env) -> Result<String> {
    setup::netns(env)?;
    let relay = build::relay(env, Profile::Dev)?;
    bpf::bench(env)?;
    next::relays(env)?;
    let packages = dist::for_tests(env)?;
    let sets = [("RELAY_PACKAGES", packages.as_os_str())];
    let chosen = |name: &str| ![PROGRAM, MUTANTS, PACKAGES, BOOT].contains(&name);
    let tests = test_binaries(env, chosen, Some(&relay), &sets);
    let told = lab::tell(env, &relay).context("the laboratory");
    Ok(format!("{}, the laboratory", tests.and_then(|names| told.map(|()| names))?))
}

/// What is in the packages of both architectures.
fn packages(env: &Env) -> Result<String> {
    let folder = dist::for_tests(env)?;
    let mut sets = vec![("RELAY_PACKAGES", folder.as_os_str())];
    // Where nothing can be built or run for the other architecture, its test says so.
    let emulator = setup::arm64(env).and_then(|()| setup::unpacked::qemu_arm64(env));
    let emulator = emulator.inspect_err(|error| say(format_args!("    no arm64: {error:#}"))).ok();
    if let Some(emulator) = &emulator {
        dist::foreign_for_tests(env)?;
        sets.push(("RELAY_QEMU_ARM64", emulator.as_os_str()));
    }
    test_binaries(env, |name| name == PACKAGES, None, &sets)
}

fn mutants(env: &Env) -> Result<String> {
    setup::running()?;
    bpf::object(env)?;
    let faults = bpf::mutants(env)?;
    let ran = test_binaries(env, |name| name == MUTANTS, None, &[])?;
    Ok(format!("{ran}: {} seeded faults", faults.len()))
}

/// In place of an accelerator: QEMU emulates one processor whose clock counts its instructions.
const ICOUNT: &str = "icount";

/// Every test program but the seeded faults and the contents of packages, which say the same on any kernel, and the one
/// that needs more of a machine.
fn guests(env: &Env, args: &Args) -> Result<String> {
    setup::guests(env)?;
    bpf::object(env)?;
    let mut programs = vm::Programs::build(env, |name| ![MUTANTS, PACKAGES, BOOT].contains(&name))?;
    if args.program.as_deref().is_none_or(|program| program == next::TESTS) {
        programs.along.extend(next::relays(env)?);
    }
    let options = vm::Options {
        kernels: args.kernels.clone(),
        program: args.program.clone(),
        filter: args.filter.clone(),
        counting: args.accelerator == ICOUNT,
        accelerator: if args.accelerator == ICOUNT { "tcg".into() } else { args.accelerator.clone() },
        ..vm::Options::default()
    };
    let outcome = vm::run(env, &options, &programs)?;
    say(format_args!("\n{outcome}"));
    outcome.verdict()
}

/// The package's life on a VPS of its own.
fn boot(env: &Env, args: &Args) -> Result<String> {
    setup::booting()?;
    bpf::object(env)?;
    let programs = vm::Programs::build(env, |name| name == BOOT)?;
    let packages = dist::for_tests(env)?;
    let outcome = vm::run_booted(env, &args.accelerator, &programs, &packages)?;
    say(format_args!("\n{outcome}"));
    outcome.verdict()
}

/// Builds the tests as who we are and runs the chosen ones as root: all of them, also when one fails. `more` are variables
/// that they get beside the usual ones.
fn test_binaries(
    env: &Env,
    chosen: impl Fn(&str) -> bool,
    relay: Option<&Path>,
    more: &[(&'static str, &OsStr)],
) -> Result<String> {
    let programs: Vec<_> = build::test_programs(env)?.into_iter().filter(|(name, _)| chosen(name)).collect();
    ensure!(!programs.is_empty(), "relay-tests has no such test program");
    // Who cannot be had is told by the test that would need him.
    let network_manager = relay.and_then(|_| {
        let found = setup::unpacked::network_manager(env);
        found.inspect_err(|error| say(format_args!("    no NetworkManager: {error:#}"))).ok()
    });
    let promtool = relay.and_then(|_| {
        let found = setup::unpacked::promtool(env);
        found.inspect_err(|error| say(format_args!("    no promtool: {error:#}"))).ok()
    });
    let firewalls = relay.map_or_else(Vec::new, |_| firewalls(env));
    let gotatun = env.gotatun();
    let mut sets = vec![("RELAY_BPF_DIR", env.bpf.as_os_str()), ("GOTATUN_BIN", gotatun.as_os_str())];
    sets.extend(network_manager.as_ref().map(|root| ("RELAY_NETWORK_MANAGER", root.as_os_str())));
    sets.extend(promtool.as_ref().map(|program| ("RELAY_PROMTOOL", program.as_os_str())));
    sets.extend(firewalls.iter().map(|(name, root)| (*name, root.as_os_str())));
    sets.extend(relay.map(|relay| ("RELAY_BIN", relay.as_os_str())));
    sets.extend(more);
    let mut failed = Vec::new();
    for (name, program) in &programs {
        let mut command = as_root(program, &sets)?;
        let what = format!("running the {name} tests");
        if let Err(error) = run_command(&what, command.current_dir(env.root.join("tests"))) {
            say(format_args!("    {error:#}"));
            failed.push(name.as_str());
        }
    }
    ensure!(failed.is_empty(), "failing test programs: {}", failed.join(", "));
    let names: Vec<_> = programs.iter().map(|(name, _)| name.as_str()).collect();
    Ok(names.join(", "))
}

/// The variables by which tests find other people's firewalls.
fn firewalls(env: &Env) -> Vec<(&'static str, PathBuf)> {
    let variables = ["RELAY_UFW", "RELAY_FIREWALLD", "RELAY_DOCKER"];
    let unpacked = |(variable, package)| {
        let found = setup::unpacked::firewall(env, package);
        let found = found.inspect_err(|error| say(format_args!("    no {package}: {error:#}"))).ok();
        found.map(|root| (variable, root))
    };
    variables.into_iter().zip(setup::unpacked::FIREWALLS).filter_map(unpacked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_failures() {
        let rows = [
            Row { height: Height::Unit, result: Ok("all".into()), took: Duration::from_secs(3) },
            Row {
                height: Height::Netns,
                result: Err(anyhow::anyhow!("no\nmore")),
                took: Duration::from_secs(200),
            },
        ];
        let text = table(&rows, Duration::from_secs(203));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "unit      passed         3.0 s  all");
        assert_eq!(lines[1], "netns     FAILED    3 min 20 s  no");
        assert_eq!(lines[2], "overall             3 min 23 s");
    }
}
