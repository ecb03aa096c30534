//! PID 1 of a test guest: makes a small system of the initramfs, runs the planned programs one after the other, says
//! what came of each, and powers off.
//!
//! What it prints is the whole protocol, read by xtask/src/vm/console.rs: `relay-vm: result {…}` for each program and
//! `relay-vm: ok 3/3` or `relay-vm: failed 2/3` at the end. Every other line starts with `|`, also those of
//! programs, so none of them can say these. If anything here fails, PID 1 ends, the kernel panics and the run has
//! failed.

mod leftovers;
mod libtest;
mod program;
mod system;

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

fn main() -> Result<()> {
    ensure!(std::process::id() == 1, "guest-init is PID 1 of a test guest and does nothing anywhere else");
    system::prepare()?;
    let plan = "/etc/relay-vm/plan.json";
    let text = std::fs::read_to_string(plan).with_context(|| format!("reading {plan}"))?;
    let plan: Value = serde_json::from_str(&text).with_context(|| format!("reading {plan}"))?;
    let programs = plan["programs"].as_array().context("a plan without programs")?;

    let at_start = leftovers::Snapshot::take()?;
    let mut passed = 0;
    for entry in programs {
        let planned = program::Planned::read(entry, &plan)?;
        let mut done = program::run(&planned)?;
        done.failures.extend(at_start.leftovers()?.into_iter().map(|what| format!("left behind: {what}")));
        passed += usize::from(done.failures.is_empty());
        say(&format!("result {}", done.to_json(&planned.name)))?;
    }
    let word = if passed == programs.len() { "ok" } else { "failed" };
    say(&format!("{word} {passed}/{}", programs.len()))?;
    system::power_off()
}

/// One line of the protocol. The kernel is kept from writing into the middle of it.
fn say(line: &str) -> Result<()> {
    let console = "/proc/sys/kernel/printk";
    let levels = std::fs::read_to_string(console).with_context(|| format!("reading {console}"))?;
    std::fs::write(console, "1").with_context(|| format!("writing {console}"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "relay-vm: {line}").context("writing to the console")?;
    out.flush().context("writing to the console")?;
    nix::sys::termios::tcdrain(&out).context("waiting for the console")?;
    std::fs::write(console, levels.trim()).with_context(|| format!("writing {console}"))
}

/// One line of anything else: what a program or a test prints, after the seconds since boot.
fn tell(who: &str, line: &str) {
    let up = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up = up.split(' ').next().unwrap_or_default();
    println!("| {up:>8} {who} {}", line.trim_end());
}

impl program::Done {
    /// As xtask/src/vm/console.rs reads it.
    fn to_json(&self, name: &str) -> Value {
        json!({
            "program": name,
            "passed": self.failures.is_empty(),
            "tests": self.tests,
            "failures": self.failures,
            "skipped": self.skipped,
            "facts": self.facts,
            "seconds": self.seconds,
        })
    }
}
