//! Runs the planned programs of a test guest one after the other, says what came of each, and ends the guest.
//!
//! As PID 1 it first makes a small system of the initramfs. In a Debian that systemd has booted it is a unit's program
//! and is told where its plan is.
//!
//! What it prints is the whole protocol, read by xtask/src/vm/console.rs: `relay-vm: result {…}` for each program and
//! `relay-vm: ok 3/3` or `relay-vm: failed 2/3` at the end. Every other line starts with `|`, also those of
//! programs, so none of them can say these. If anything here fails, the last line is missing and the run has failed.

mod leftovers;
mod libtest;
mod program;
mod system;

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use relay_tests::guest;
use serde_json::{Value, json};

fn main() -> Result<()> {
    if std::process::id() == 1 {
        system::prepare()?;
        let at_start = leftovers::Snapshot::take()?;
        run_all(&read_plan("/etc/relay-vm/plan.json")?, || at_start.leftovers())?;
        return system::power_off();
    }
    ensure!(
        guest::line().is_some(),
        "guest-init ends the machine it runs on, and does so in test guests only"
    );
    let plan = std::env::args().nth(1).context("where is the plan?")?;
    let plan = read_plan(&plan)?;
    let down = plan["down"].as_str().context("a plan that does not say how the machine goes down")?;
    // What programs leave there outlives this boot, or is the next one's to judge.
    run_all(&plan, || Ok(Vec::new()))?;
    system::run("systemctl", &[down])
}

fn read_plan(path: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("reading {path}"))
}

/// Runs the plan's programs and says what came of them. `leftovers` tells what the last one left behind.
fn run_all(plan: &Value, leftovers: impl Fn() -> Result<Vec<String>>) -> Result<()> {
    let programs = plan["programs"].as_array().context("a plan without programs")?;
    let mut passed = 0;
    for entry in programs {
        let planned = program::Planned::read(entry, plan)?;
        let mut done = program::run(&planned)?;
        done.failures.extend(leftovers()?.into_iter().map(|what| format!("left behind: {what}")));
        passed += usize::from(done.failures.is_empty());
        say(&format!("result {}", done.to_json(&planned.name)))?;
    }
    let word = if passed == programs.len() { "ok" } else { "failed" };
    say(&format!("{word} {passed}/{}", programs.len()))
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
