//! Tests in a guest: Debian's kernels, which have what the host's may lack, under QEMU.
//!
//! [`run`] fetches the kernels, packs an initramfs, boots one machine a kernel and believes only the last line of
//! its PID 1 (tests/src/bin/guest-init). [`booted::run`] boots a Debian of its own from a disk. Everything it makes is below target/vm: `kernels` (fetched packages),
//! `cache` (parts of the initramfs), `run` (the initramfs as booted) and `logs` (the consoles).

mod booted;
mod console;
mod cpio;
mod disk;
mod files;
mod initramfs;
mod kernel;
mod machine;
mod outcome;
mod programs;
mod qemu;
mod table;

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use self::console::{ProgramResult, judge};
use self::kernel::Kernel;
use self::machine::{Boot, Patience};
pub(crate) use self::outcome::{Outcome, Report};
pub(crate) use self::programs::Programs;
use self::qemu::Qemu;
use crate::env::Env;
use crate::process::{say, time};

pub(crate) use self::booted::run as run_booted;

/// The kernels of Debian 12 and of Debian 13: the last without TCX, and one with it.
pub(crate) const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Where guests have `relay`.
pub(crate) const RELAY: &str = "/usr/bin/relay";

/// What to run, and where.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Kernel lines, as "6.1"; [`KERNELS`] for all that are promised.
    pub(crate) kernels: Vec<String>,
    /// Only this test program, as "datapath".
    pub(crate) program: Option<String>,
    /// Only tests whose name has this in it.
    pub(crate) filter: Option<String>,
    /// QEMU's accelerator. "tcg" works everywhere; "kvm" where the host can boot a stock kernel with it.
    pub(crate) accelerator: String,
    /// Whether the clock of the machine, which then has one processor, counts instructions, a nanosecond each.
    pub(crate) counting: bool,
    /// How many machines at a time, at least one.
    pub(crate) at_a_time: usize,
    /// How long one machine may take.
    pub(crate) overall: Duration,
    /// Whether to show what programs print as they print it.
    pub(crate) show: bool,
}

impl Default for Options {
    /// All kernels, all tests, emulated, side by side.
    fn default() -> Self {
        Self {
            kernels: KERNELS.map(str::to_owned).to_vec(),
            program: None,
            filter: None,
            accelerator: "tcg".into(),
            counting: false,
            at_a_time: 2,
            overall: Duration::from_secs(60 * 60),
            show: false,
        }
    }
}

/// Longest that a guest may print nothing. PID 1 prints something every half minute, whatever the tests do.
const SILENCE: Duration = Duration::from_secs(180);

/// Longest that a machine may take to go down; systemd takes 10 s for it.
const ENDING: Duration = Duration::from_secs(60);

/// Runs the programs on each kernel and reports what came of it. An error means that something could not be tried;
/// tests that failed are in the outcome.
pub(crate) fn run(env: &Env, options: &Options, programs: &Programs) -> Result<Outcome> {
    let chosen = programs.choose(options.program.as_deref())?;
    let cache = env.target.join("vm");
    let kernels: Vec<Kernel> = options
        .kernels
        .iter()
        .map(|line| Kernel::fetch(line, &cache.join("kernels")))
        .collect::<Result<_>>()?;
    for kernel in &kernels {
        say(format_args!("    kernel {}: {}", kernel.line, kernel.release));
    }
    let qemu = Qemu::find(&cache.join("qemu"))?;
    let guest = initramfs::Guest { env, options, programs: &chosen, cache: &cache };
    let parts = guest.common_parts()?;

    let waiting = Mutex::new(kernels.iter().enumerate());
    let reports = Mutex::new(Vec::new());
    let next = || waiting.lock().ok()?.next();
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..options.at_a_time.clamp(1, kernels.len().max(1)) {
            workers.push(scope.spawn(|| -> Result<()> {
                while let Some((order, kernel)) = next() {
                    let report =
                        guest.initrd(kernel, &parts).and_then(|initrd| boot(&qemu, &guest, kernel, &initrd));
                    let report = report.with_context(|| format!("kernel {}", kernel.line))?;
                    reports
                        .lock()
                        .map_err(|_| anyhow!("another kernel's thread died"))?
                        .push((order, report));
                }
                Ok(())
            }));
        }
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread died"))?)
    })?;
    let mut reports = reports.into_inner().map_err(|_| anyhow!("a kernel's thread died"))?;
    reports.sort_by_key(|(order, _)| *order);
    Ok(Outcome { reports: reports.into_iter().map(|(_, report)| report).collect() })
}

/// Boots one kernel and turns what it said into a report.
fn boot(
    qemu: &Qemu,
    guest: &initramfs::Guest<'_>,
    kernel: &Kernel,
    initrd: &std::path::Path,
) -> Result<Report> {
    let logs = guest.cache.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let log = logs.join(format!("{}.log", kernel.line));
    let patience = Patience { overall: guest.options.overall, silence: SILENCE, ending: ENDING };
    let show_line = |line: &str| {
        if guest.options.show {
            say(line);
        }
    };
    let options = guest.options;
    let machine = Boot {
        qemu,
        image: &kernel.image,
        initrd,
        disk: None,
        processors: if options.counting { 1 } else { 2 },
        accelerator: &options.accelerator,
        counting: options.counting,
    };
    let run = machine::run(&machine, &log, patience, show_line, |result| announce(&kernel.line, result))?;
    let judged = judge(guest.programs.jobs.len(), &run.results, run.end);
    let why = run.trouble.clone().or(judged.err());
    Ok(Report::new(&kernel.line, &kernel.release, &run, why, log))
}

/// A program of that guest has ended.
fn announce(guest: &str, result: &ProgramResult) {
    let word = if result.passed { "ok" } else { "FAILED" };
    let (ran, failed) = (result.tests.len(), result.failures.len());
    let took = time(Duration::from_secs_f64(result.seconds));
    say(format_args!("{guest:>8} {word} {}: {ran} passed, {failed} failed, {took}", result.program));
}
