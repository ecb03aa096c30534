//! `cargo xtask bench`: builds what measures, runs it as root or in guests, and shows what it found: a table on stdout,
//! the figures as JSON, a picture. The measuring itself is in tests/src/bin/bench; docs/performance.md says how it is done.

mod chart;
mod forward;
mod scale;
mod table;

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
    setup,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask bench
  cargo xtask bench forward --json forward.json --svg forward.svg
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
    /// A few packets each, to see that it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The forwarding stage on this kernel: relay's program beside the stack with and without rules
    Forward,
    /// 2 to 10,000 peers, 1 to 256 LANs: a packet's cost, and the daemon's, here and in guests with kernel WireGuard
    Scale,
    /// Memory of the daemon and the maps, at rest and with 10,000 peers
    Memory,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Scale => "scale",
            Self::Memory => "memory",
        }
    }

    fn table(self, result: &Value) -> Result<String> {
        match self {
            Self::Forward => forward::table(result),
            Self::Scale | Self::Memory => scale::table(result),
        }
    }

    fn panels(self, result: &Value) -> Result<Vec<Panel>> {
        match self {
            Self::Forward => forward::panels(result),
            Self::Scale | Self::Memory => scale::panels(result),
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
        let result = measure(env, &bench, &relay, what, args.quick)?;
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

/// Runs the program that measures, and takes what it prints.
fn measure(env: &Env, bench: &Path, relay: &Path, what: What, quick: bool) -> Result<Value> {
    let sets = [("RELAY_BPF_DIR", env.bpf.as_os_str()), ("RELAY_BIN", relay.as_os_str())];
    let mut command = as_root(bench, &sets)?;
    command.arg(what.name()).args(quick.then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("starting {}", shown(&command)))?;
    ensure!(output.status.success(), "{} ended with {}", shown(&command), output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading what {} prints", shown(&command)))
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
