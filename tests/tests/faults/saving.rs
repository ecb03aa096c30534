//! Killed, or refused by the disk, at each system call of a save: the file is the old one or the new one, whole and
//! private, and the exit code says which.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::lab::relay::binary;

/// A folder with a relay.toml, and no daemon.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        let made = folder.relay(Command::new(binary()?), &["init", "--endpoint", "vps.example.net"])?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(folder)
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("relay/relay.toml")
    }

    fn relay(&self, mut command: Command, args: &[&str]) -> Result<Output> {
        command.args(args).arg("--config").arg(self.config());
        command.arg("--socket").arg(self.0.path().join("socket"));
        command.stdin(Stdio::null()).output().context("starting relay")
    }

    /// `relay peer add NAME` under strace, which looks at the first thread alone: that one saves, and what the others
    /// call would count as well.
    fn add_traced(&self, name: &str, strace: &[&str]) -> Result<Output> {
        let mut command = Command::new("strace");
        command.args(["-qq", "-y", "-o"]).arg(self.trace()).args(strace).arg("--").arg(binary()?);
        self.relay(command, &["peer", "add", name])
    }

    fn trace(&self) -> PathBuf {
        self.0.path().join("trace")
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.0.path().join("relay"))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

/// A system call from the first of a save on, by its number among those of its name.
#[derive(Debug)]
struct Call {
    name: String,
    number: usize,
    /// Whether it is the save's own, as opposed to what is said afterwards, and surely has that number again: how often
    /// a runtime's threads write to wake one another differs from run to run.
    can_fail: bool,
}

/// From a trace of a good one.
fn calls(trace: &str) -> Vec<Call> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let count = counts.entry(name).or_default();
        *count += 1;
        let temporary = line.contains("/.relay.");
        if temporary || !calls.is_empty() {
            let can_fail = (temporary && name != "write") || name == "fsync";
            calls.push(Call { name: name.to_owned(), number: *count, can_fail });
        }
    }
    calls
}

const TRACED: &str = "trace=openat,write,fchown,fchmod,fsync,rename,renameat,renameat2,close,unlink,unlinkat";

fn is_private(path: &Path) -> Result<()> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
    Ok(())
}

#[test]
fn a_save_that_is_cut_short() -> Result<()> {
    let folder = Folder::new()?;
    let traced = folder.add_traced("first", &["-e", TRACED])?;
    ensure!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let calls = calls(&fs::read_to_string(folder.trace())?);
    for name in ["openat", "fsync", "rename"] {
        let found = calls.iter().any(|call| call.can_fail && call.name.starts_with(name));
        ensure!(found, "no {name}: {calls:?}");
    }

    let files = folder.names()?;
    let (mut old, mut new) = (0, 0);
    for (number, call) in calls.iter().enumerate() {
        for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
            if fault != "signal=KILL" && !call.can_fail {
                continue;
            }
            let case = format!("{fault} at {} number {}", call.name, call.number);
            let before = fs::read_to_string(folder.config())?;
            let name =
                format!("peer-{number}-{}", fault.split('=').next_back().unwrap_or_default().to_lowercase());
            let inject = format!("inject={}:{fault}:when={}", call.name, call.number);
            let done = folder.add_traced(&name, &["-e", TRACED, "-e", &inject])?;
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let after = fs::read_to_string(folder.config())?;
            let listed = folder.relay(Command::new(binary()?), &["peer", "list"])?;
            ensure!(listed.status.success(), "{case}: the file is torn:\n{after}");
            let added = after.contains(&format!("name = \"{name}\""));
            ensure!(added || after == before, "{case}: neither the old file nor the new:\n{after}");
            ensure!(!added || after.starts_with(&before), "{case}: the new file lost something:\n{after}");
            match done.status.code() {
                Some(code) => {
                    ensure!((code == 0) == added, "{case}: exit code {code}, added: {added}: {said}")
                }
                None => ensure!(fault == "signal=KILL", "{case}: {}: {said}", done.status),
            }
            if fault != "signal=KILL" {
                ensure!(folder.names()? == files, "{case}: left behind: {:?}", folder.names()?);
            }
            for name in folder.names()? {
                is_private(&folder.config().with_file_name(name)).context(case.clone())?;
            }
            *(if added { &mut new } else { &mut old }) += 1;
        }
    }
    ensure!(old > 0 && new > 0, "{old} old files, {new} new ones: the cuts prove nothing");
    let last = folder.relay(Command::new(binary()?), &["peer", "add", "last"])?;
    ensure!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    ensure!(folder.names()? == files, "a killed save's leftovers stay: {:?}", folder.names()?);
    relay_tests::guest::fact(&serde_json::json!({ "save": "cut short", "old": old, "new": new }));
    Ok(())
}
