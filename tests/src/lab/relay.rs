//! The real `relay` on the VPS, driven by its command line like a person would.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_common::Verdict;
use serde_json::Value;

use super::world::VPS;
use crate::netns::{Netns, checked, wait_for};

/// In the machine's own /run, and gone with it.
const CONFIG: &str = "/run/lab/relay.toml";
const LOG: &str = "/run/lab/relay.log";
/// How long the daemon may take to be up; it takes 1 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// The `relay` to test: `RELAY_BIN`, which `cargo xtask` sets, or the one beside the tests.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("RELAY_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    let found = own.ancestors().map(|folder| folder.join("relay")).find(|path| path.is_file());
    found.context("no relay beside the tests: run them with `cargo xtask test netns`")
}

/// A relay on a machine. Its daemon is killed with the machine.
pub struct Relay<'a> {
    machine: &'a Netns,
    binary: PathBuf,
    daemon: Option<u32>,
}

impl<'a> Relay<'a> {
    /// Makes its configuration with `relay init`.
    pub fn init(machine: &'a Netns, binary: &Path) -> Result<Self> {
        machine.run("mkdir -m 0700 /run/lab")?;
        let relay = Self { machine, binary: binary.to_path_buf(), daemon: None };
        relay.run(&["init", "--endpoint", &format!("{VPS}:51820")])?;
        Ok(relay)
    }

    /// Starts `relay up` and waits until it answers.
    pub fn up(&mut self) -> Result<()> {
        let log = self.machine.inside(|| {
            fs::File::options().create(true).append(true).open(LOG).context("opening relay's log")
        })?;
        let mut command = self.machine.command(&self.binary);
        command.args(["up", "--config", CONFIG]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let daemon = self.machine.spawn(&mut command)?;
        self.daemon = Some(daemon);
        wait_for("relay up to answer", DEADLINE, || {
            if let Some(status) = self.machine.ended(daemon)? {
                bail!("relay up ended ({status})");
            }
            self.run(&["status"])
        })
        .map(drop)
    }

    /// The daemon's process id, once it was started.
    #[must_use]
    pub fn daemon(&self) -> Option<u32> {
        self.daemon
    }

    /// What one of its commands prints; its stderr is in the error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = self.machine.command(&self.binary);
        checked(command.args(args).args(["--config", CONFIG]))
            .with_context(|| format!("relay {}", args.join(" ")))
    }

    /// `relay stats --json`.
    pub fn stats(&self) -> Result<Stats> {
        let text = self.run(&["stats", "--json"])?;
        Ok(Stats(serde_json::from_str(&text).context("reading relay stats --json")?))
    }

    /// What the daemon said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.machine.run(&format!("cat {LOG}")).unwrap_or_default()
    }

    /// Edits relay.toml by hand: replaces text that must be there.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        self.machine.inside(|| {
            let text = fs::read_to_string(CONFIG)?;
            ensure!(text.contains(from), "relay.toml has no {from:?}");
            Ok(fs::write(CONFIG, text.replace(from, to))?)
        })
    }
}

/// `relay stats --json`, as data.
#[derive(Clone, Debug)]
pub struct Stats(pub Value);

impl Stats {
    /// The part of that peer.
    pub fn peer(&self, name: &str) -> Result<&Value> {
        let peers = self.0["peers"].as_array().context("stats have no peers")?;
        peers.iter().find(|peer| peer["name"] == name).with_context(|| format!("stats know no peer {name}"))
    }

    /// When the peer last shook hands, in Unix seconds.
    pub fn handshake(&self, name: &str) -> Result<u64> {
        self.peer(name)?["latest_handshake"].as_u64().with_context(|| format!("{name} never shook hands"))
    }

    /// Whether the fast path is on.
    #[must_use]
    pub fn fast_path_is_on(&self) -> bool {
        self.0["fast_path"]["state"] == "on"
    }

    fn verdict(&self, name: &str) -> Result<u64> {
        self.0["verdicts"][name].as_u64().with_context(|| format!("stats have no verdict {name}"))
    }

    /// Packets that `tunnel` redirected, and all that it saw, since `before`.
    pub fn since(&self, before: &Self) -> Result<(u64, u64)> {
        let mut total = 0;
        for verdict in Verdict::ALL {
            total += self.verdict(verdict.name())?.saturating_sub(before.verdict(verdict.name())?);
        }
        let name = Verdict::Redirected.name();
        Ok((self.verdict(name)?.saturating_sub(before.verdict(name)?), total))
    }
}
