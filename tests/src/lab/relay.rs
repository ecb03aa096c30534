//! The real `relay` on the VPS or at home, driven by its command line like a person would.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use relay_common::Verdict;
use serde_json::Value;

use super::world::VPS;
use crate::netns::{Netns, checked, wait_for};

/// In the machine's own /run, and gone with it.
pub const CONFIG_FOLDER: &str = "/run/lab";
/// The file that it is started with.
pub const CONFIG: &str = "/run/lab/relay.toml";
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

/// A relay that tests upgrade to, as `next-program`: the one of that name beside [`binary`].
pub fn next(feature: &str) -> Result<PathBuf> {
    let path = binary()?.with_file_name(format!("relay-{feature}"));
    ensure!(path.is_file(), "there is no {}: `cargo xtask test netns` builds it", path.display());
    Ok(path)
}

/// How many programs sit on the interface's ingress hook, by either way of attaching.
pub fn programs_on(machine: &Netns, interface: &str) -> Result<usize> {
    let filters = machine.run(&format!("tc filter show dev {interface} ingress")).unwrap_or_default();
    let links = machine.inside(|| {
        // A kernel before 6.6 does not know the question.
        Ok(SchedClassifier::query_tcx(interface, TcAttachType::Ingress).map_or(0, |(_, links)| links.len()))
    })?;
    Ok(links + filters.matches("handle").count())
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
        Self::init_with(machine, binary, &[])
    }

    /// As [`Relay::init`], with more arguments.
    pub fn init_with(machine: &'a Netns, binary: &Path, args: &[&str]) -> Result<Self> {
        machine.run("mkdir -m 0700 /run/lab")?;
        let relay = Self { machine, binary: binary.to_path_buf(), daemon: None };
        relay.run(&[&["init", "--endpoint", &format!("{VPS}:51820")], args].concat())?;
        Ok(relay)
    }

    /// Makes the machine a home with `relay join`, from what `relay peer invite` printed on the hub; returns the command
    /// that the hub needs too.
    pub fn join(machine: &'a Netns, binary: &Path, invited: &str, args: &[&str]) -> Result<(Self, String)> {
        machine.run("mkdir -p -m 0700 /run/lab")?;
        let relay = Self { machine, binary: binary.to_path_buf(), daemon: None };
        let joined = relay.run(&[&["join", word(invited)?], args].concat())?;
        Ok((relay, joined))
    }

    /// Lets a home in, by what `relay join` printed there.
    pub fn approve(&self, joined: &str) -> Result<()> {
        self.run(&["peer", "approve", word(joined)?]).map(drop)
    }

    /// From the next command on it is another binary.
    pub fn upgrade(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Takes over another hub with `relay import SOURCE --apply`; returns what that printed too.
    pub fn import(machine: &'a Netns, binary: &Path, source: &str) -> Result<(Self, String)> {
        machine.run("mkdir -m 0700 /run/lab")?;
        let relay = Self { machine, binary: binary.to_path_buf(), daemon: None };
        let said = relay.run(&["import", source, "--apply"])?;
        Ok((relay, said))
    }

    /// Starts `relay up` and waits until it answers.
    pub fn up(&mut self) -> Result<()> {
        let daemon = self.spawn(&["up"])?;
        self.daemon = Some(daemon);
        wait_for("relay up to answer", DEADLINE, || {
            if let Some(status) = self.machine.ended(daemon)? {
                bail!("relay up ended ({status})");
            }
            self.run(&["status"])
        })
        .map(drop)
    }

    /// Kills the daemon as nothing can survive it.
    pub fn kill(&mut self) -> Result<()> {
        self.machine.kill(self.daemon.take().context("no daemon was started")?)
    }

    /// Does something while the daemon stands still: it looks before that or after it. What it still does by a look from
    /// before may fail, and is tried again.
    pub fn while_halted<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.machine.while_halted(self.daemon.context("no daemon was started")?, act)
    }

    /// Ends the daemon as Ctrl-C does, and waits for its end.
    pub fn stop(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("no daemon was started")?;
        self.machine.interrupt(daemon)?;
        let ended = || self.machine.ended(daemon)?.context("it runs");
        let status = wait_for("relay up to end", DEADLINE, ended)?;
        ensure!(status.success(), "relay up ended ({status})");
        Ok(())
    }

    /// Starts one of its commands, which goes on running and says what it says into [`Relay::log`].
    pub fn spawn(&self, args: &[&str]) -> Result<u32> {
        self.start(self.machine.command(&self.binary), args)
    }

    /// As [`Relay::spawn`], logging all it can.
    pub fn spawn_traced(&self, args: &[&str]) -> Result<u32> {
        let mut command = self.machine.command(&self.binary);
        command.env("RELAY_LOG", "trace");
        self.start(command, args)
    }

    /// As [`Relay::spawn`], under another program, which gets the command as its last arguments.
    pub fn spawn_under(&self, program: &[&str], args: &[&str]) -> Result<u32> {
        let (name, own) = program.split_first().context("no program to start relay under")?;
        let mut command = self.machine.command(name);
        command.args(own).arg(&self.binary);
        self.start(command, args)
    }

    /// As [`Relay::spawn`], without some of root's capabilities.
    pub fn spawn_without(&self, capabilities: &[&str], args: &[&str]) -> Result<u32> {
        let mut command = self.machine.command("setpriv");
        let without: Vec<String> = capabilities.iter().map(|name| format!("-{name}")).collect();
        command.args(["--bounding-set", &without.join(","), "--"]).arg(&self.binary);
        self.start(command, args)
    }

    /// As [`Relay::spawn`], with these of root's capabilities and no others.
    pub fn spawn_with_only(&self, capabilities: &[String], args: &[&str]) -> Result<u32> {
        let mut command = self.machine.command("setpriv");
        let only: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        command.args(["--bounding-set", &format!("-all{only}"), "--"]).arg(&self.binary);
        self.start(command, args)
    }

    fn start(&self, mut command: Command, args: &[&str]) -> Result<u32> {
        let log = self.machine.inside(|| {
            fs::File::options().create(true).append(true).open(LOG).context("opening relay's log")
        })?;
        command.args(args).args(["--config", CONFIG]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.machine.spawn(&mut command)
    }

    /// Everything that one of its commands says, stdout and stderr, when it logs all it can; also when it fails.
    pub fn run_traced(&self, args: &[&str]) -> Result<String> {
        let mut command = self.machine.command(&self.binary);
        command.env("RELAY_LOG", "trace").args(args).args(["--config", CONFIG]).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("starting relay {}", args.join(" ")))?;
        Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
    }

    /// As [`Relay::run`], by a user without rights.
    pub fn run_as_nobody(&self, args: &[&str]) -> Result<String> {
        let mut command = self.machine.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&self.binary);
        checked(command.args(args).args(["--config", CONFIG]))
            .with_context(|| format!("relay {}", args.join(" ")))
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

    /// Edits relay.toml by hand: replaces text that must be there. Returns the file as it was.
    pub fn edit(&self, from: &str, to: &str) -> Result<String> {
        self.rewrite(|text| {
            ensure!(text.contains(from), "relay.toml has no {from:?}");
            Ok(text.replace(from, to))
        })
    }

    /// Adds lines behind the first place where `mark` stands.
    pub fn insert_after(&self, mark: &str, lines: &str) -> Result<String> {
        self.rewrite(|text| {
            ensure!(text.contains(mark), "relay.toml has no {mark:?}");
            Ok(text.replacen(mark, &format!("{mark}{lines}"), 1))
        })
    }

    /// Writes relay.toml whole.
    pub fn write(&self, text: &str) -> Result<()> {
        self.rewrite(|_| Ok(text.to_owned())).map(drop)
    }

    fn rewrite(&self, edit: impl FnOnce(&str) -> Result<String> + Send) -> Result<String> {
        self.machine.inside(|| {
            let before = fs::read_to_string(CONFIG)?;
            fs::write(CONFIG, edit(&before)?)?;
            Ok(before)
        })
    }
}

/// The line at the end of a command that relay printed.
fn word(command: &str) -> Result<&str> {
    command.split_whitespace().last().context("relay printed no line")
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

    /// Packets that `tunnel` redirected since its counters began.
    pub fn redirected(&self) -> Result<u64> {
        self.verdict(Verdict::Redirected.name())
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
