//! `relay doctor`: silent on a hub where all is well, and each fault, once injected, is named.

mod hub;
mod peers;

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use relay_tests::{
    lab::relay::{self, CONFIG_FOLDER},
    netns::{Netns, wait_for},
};
use serde_json::Value;

/// For what the daemon does within seconds, and doctor after it: five times what the slowest took.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the doctor says.
struct Said {
    code: i32,
    report: Value,
}

/// `relay doctor … --json` on the hub's machine.
fn doctor(machine: &Netns, args: &[&str]) -> Result<Said> {
    let mut command = machine.command(relay::binary()?);
    command.args(["doctor", "--json", "--config", &format!("{CONFIG_FOLDER}/relay.toml")]).args(args);
    let output = command.stdin(Stdio::null()).output().context("starting relay doctor")?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok(Said { code: output.status.code().context("a signal")?, report })
}

impl Said {
    /// The findings that are amiss.
    fn amiss(&self) -> Result<Vec<&Value>> {
        let findings = self.report["findings"].as_array().context("no findings")?;
        Ok(findings.iter().filter(|finding| finding["level"] != "ok").collect())
    }

    /// There is one of this check, amiss, whose text has the words, with a remedy.
    fn names(&self, check: &str, words: &str) -> Result<()> {
        let amiss = self.amiss()?;
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let whole = |finding: &Value| ["peer", "seen", "remedy"].map(|key| text(finding, key)).join(" ");
        let found = amiss.iter().any(|finding| finding["check"] == check && whole(finding).contains(words));
        ensure!(found, "nothing of {check} with {words:?} in {amiss:#?}");
        ensure!(self.code == 1 || self.code == 3, "exit code {}", self.code);
        Ok(())
    }

    /// Nothing is amiss.
    fn is_silent(&self) -> Result<()> {
        let amiss = self.amiss()?;
        ensure!(amiss.is_empty() && self.code == 0, "exit code {}: {amiss:#?}", self.code);
        Ok(())
    }
}

/// Waits until the doctor has nothing to say.
fn silent(machine: &Netns, args: &[&str]) -> Result<()> {
    wait_for("the doctor to be silent", DEADLINE, || doctor(machine, args)?.is_silent())
}

/// One fault: a shell's lines that make it, what the doctor must say, and lines that undo it.
struct Fault {
    name: &'static str,
    inject: &'static str,
    check: &'static str,
    words: &'static str,
    undo: &'static str,
}

/// Injects each on `at`, and asks the doctor on the hub.
fn named(hub: &Netns, at: &Netns, args: &[&str], faults: &[Fault]) -> Result<()> {
    for Fault { name, inject, check, words, undo } in faults {
        shell(at, inject).with_context(|| format!("{name}: injecting"))?;
        let said = wait_for(name, DEADLINE, || doctor(hub, args)?.names(check, words));
        shell(at, undo).with_context(|| format!("{name}: undoing"))?;
        said.with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

fn shell(machine: &Netns, script: &str) -> Result<()> {
    let output = machine.command("sh").args(["-ec", script]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
