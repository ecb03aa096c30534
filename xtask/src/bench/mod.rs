//! `cargo xtask bench`: builds what measures, runs it as root or in guests, and shows what it found: a table on stdout,
//! the figures as JSON, a picture. The measuring itself is in tests/src/bin/bench; docs/performance.md says how it is done.

mod chart;
mod forward;
mod hub;
mod scale;
mod table;
mod uplink;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value};

use self::chart::Panel;
use crate::{
    bpf, build,
    env::{Env, Profile},
    process::{as_root, root_is_possible, say, shown, time},
    setup, vm,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask bench
  cargo xtask bench forward --json forward.json --svg forward.svg
  cargo xtask bench hub --kernel 6.12
  cargo xtask bench forward --quick

Figures of one run are comparable with each other. Those of two runs are not, unless the machine was idle.";

/// What `bench` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything when nothing is named
    what: Vec<What>,
    /// Write the figures there, as data
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw them there
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Kernels of Debian to boot for what is measured in guests
    #[arg(long = "kernel", value_name = "LINE", default_values = vm::KERNELS)]
    kernels: Vec<String>,
    /// A few packets each, to see that it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The forwarding stage on this kernel, and in guests in instructions: relay's program beside the stack with and
    /// without rules
    Forward,
    /// A whole hub with kernel WireGuard in guests, in instructions: the stack beside relay's program
    Hub,
    /// 2 to 10,000 peers, 1 to 256 LANs: a packet's cost, and the daemon's, here and in guests with kernel WireGuard
    Scale,
    /// The guard in front of the port: a packet's cost here, and that of floods in guests, in instructions
    Uplink,
    /// Memory of the daemon and the maps, at rest and with 10,000 peers
    Memory,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Hub => "hub",
            Self::Scale => "scale",
            Self::Uplink => "uplink",
            Self::Memory => "memory",
        }
    }

    /// The arguments for what of it is measured in guests; nothing where none is.
    const fn part_in_guests(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Forward => Some(&["--instructions"]),
            Self::Hub => Some(&[]),
            Self::Scale => Some(&["--daemon"]),
            Self::Uplink => Some(&["--floods"]),
            Self::Memory => None,
        }
    }

    fn table(self, result: &Value) -> Result<String> {
        match self {
            Self::Forward => forward::table(result),
            Self::Hub => hub::table(result),
            Self::Scale | Self::Memory => scale::table(result),
            Self::Uplink => uplink::table(result),
        }
    }

    fn panels(self, result: &Value) -> Result<Vec<Panel>> {
        match self {
            Self::Forward => forward::panels(result),
            Self::Hub => hub::panels(result),
            Self::Scale | Self::Memory => scale::panels(result),
            Self::Uplink => uplink::panels(result),
        }
    }
}

/// The verb.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    root_is_possible("measuring")?;
    setup::laboratory()?;
    bpf::bench(env)?;
    let relay = build::relay(env, Profile::Release)?;
    let bench = build::bench(env)?;
    let chosen: Vec<What> = What::value_variants()
        .iter()
        .copied()
        .filter(|what| args.what.is_empty() || args.what.contains(what))
        .collect();
    let (mut results, mut panels) = (Map::new(), Vec::new());
    for what in chosen {
        let begun = Instant::now();
        say(format_args!("==> measuring {}", what.name()));
        let result = measure(env, &Built { bench: &bench, relay: &relay }, what, args)?;
        println!("{}", what.table(&result)?);
        say(format_args!("    done in {}", time(begun.elapsed())));
        panels.extend(what.panels(&result)?);
        results.insert(what.name().to_owned(), result);
    }
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", Value::Object(results)))?;
    }
    if let Some(path) = &args.svg {
        write(path, &chart::svg(&panels))?;
    }
    Ok(())
}

/// What is built.
struct Built<'a> {
    bench: &'a Path,
    relay: &'a Path,
}

/// Measures here, in guests, or in both.
fn measure(env: &Env, built: &Built<'_>, what: What, args: &Args) -> Result<Value> {
    let mut result = match what {
        What::Hub => serde_json::json!({ "bench": what.name() }),
        _ => here(env, built, what, args)?,
    };
    if let Some(part) = what.part_in_guests() {
        result["guests"] = in_guests(env, built, what, args, part)?;
    }
    Ok(result)
}

/// Runs the program that measures, as root, and takes what it prints.
fn here(env: &Env, built: &Built<'_>, what: What, args: &Args) -> Result<Value> {
    let sets = [("RELAY_BPF_DIR", env.bpf.as_os_str()), ("RELAY_BIN", built.relay.as_os_str())];
    let mut command = as_root(built.bench, &sets)?;
    command.arg(what.name()).args(args.quick.then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("starting {}", shown(&command)))?;
    ensure!(output.status.success(), "{} ended with {}", shown(&command), output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading what {} prints", shown(&command)))
}

/// Runs it in a guest of each kernel, and takes what it tells as a fact.
fn in_guests(env: &Env, built: &Built<'_>, what: What, args: &Args, more: &[&str]) -> Result<Value> {
    setup::guests(env)?;
    let objects = env.bpf.to_str().context("a path that is no text")?;
    let mut arguments = vec![what.name(), "--fact", "--relay", vm::RELAY, "--objects", objects];
    arguments.extend(args.quick.then_some("--quick"));
    arguments.extend(more);
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    let programs = vm::Programs::measuring(env, built.bench.to_owned(), built.relay.to_owned(), arguments)?;
    let options = vm::Options {
        kernels: args.kernels.clone(),
        counting: true,
        at_a_time: 1,
        show: true,
        ..vm::Options::default()
    };
    let outcome = vm::run(env, &options, &programs)?;
    outcome.verdict().with_context(|| format!("measuring {} in guests\n{outcome}", what.name()))?;
    let guest = |report: &vm::Report| -> Result<Value> {
        let fact = report.facts.iter().find(|fact| fact["bench"] == what.name());
        let mut fact =
            fact.with_context(|| format!("the guest with {} tells nothing", report.kernel))?.clone();
        fact["kernel"] = report.kernel.clone().into();
        Ok(fact)
    };
    outcome.reports.iter().map(guest).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// A figure with its quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// As the program that measures writes it; nothing where there is none.
    fn read(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_f64();
        Some(Self { median: number("median")?, low: number("low")?, high: number("high")? })
    }
}
