//! An adopted interface as a person at the hub has it: `relay adopt` in one terminal, other commands in another.

use std::{
    fs,
    io::{BufRead as _, BufReader, pipe},
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_tests::{
    lab::{Stats, relay},
    netns::{Netns, checked, wait_for},
};
use relay_user::{
    kernel::datapath::{PinnedMaps, Pins},
    maps::DatapathState,
};
use serde_json::Value;

use crate::DEADLINE;

/// Where an interface is.
pub(crate) struct Hub<'a> {
    /// The machine whose mounts, commands and files are used.
    pub(crate) vps: &'a Netns,
    /// The interface.
    pub(crate) interface: &'static str,
    /// Its file on the machine.
    pub(crate) file: &'static str,
    /// A process of the container that it is in, unless it is in the machine's own namespace.
    pub(crate) container: Option<u32>,
}

impl Hub<'_> {
    /// A command of the machine's, in the interface's namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        match self.container {
            None => self.vps.command(program),
            Some(pid) => {
                let mut command = self.vps.command("nsenter");
                command.args([&format!("--net=/proc/{pid}/ns/net"), "--", program]);
                command
            }
        }
    }

    /// Runs a command line there.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        checked(self.command(program).args(words)).with_context(|| line.to_owned())
    }

    /// `wg-quick up` or `down`.
    pub(crate) fn wg_quick(&self, verb: &str) -> Result<()> {
        let mut command = self.command("wg-quick");
        command.args([verb, self.file]).env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go");
        checked(&mut command).with_context(|| format!("wg-quick {verb} {}", self.file)).map(drop)
    }

    /// Writes its file anew, and gives it to the running interface as wg-easy does.
    pub(crate) fn sync(&self, text: &str) -> Result<()> {
        let bare = format!("{}.bare", self.file);
        self.vps.inside(|| Ok(fs::write(self.file, text)?))?;
        let stripped = self.run(&format!("wg-quick strip {}", self.file))?;
        self.vps.inside(|| Ok(fs::write(&bare, stripped)?))?;
        self.run(&format!("wg syncconf {} {bare}", self.interface)).map(drop)
    }

    /// A command of relay's about it: the words come in front of those that say which.
    fn relay(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.vps.command(relay::binary()?);
        command.args(args).arg(self.interface);
        if let Some(pid) = self.container {
            command.args(["--netns", &pid.to_string()]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn log(&self) -> String {
        format!("{}.log", self.file)
    }

    /// What `relay adopt` said so far.
    pub(crate) fn said(&self) -> String {
        self.vps.run(&format!("cat {}", self.log())).unwrap_or_default()
    }

    /// Starts `relay adopt` and waits until it answers.
    pub(crate) fn adopt(&self) -> Result<u32> {
        let log =
            self.vps.inside(|| Ok(fs::File::options().create(true).append(true).open(self.log())?))?;
        let mut command = self.relay(&["adopt"])?;
        let keeper = self.vps.spawn(command.stdout(log.try_clone()?).stderr(log))?;
        wait_for("relay adopt to answer", DEADLINE, || {
            if let Some(status) = self.vps.ended(keeper)? {
                bail!("relay adopt ended ({status}): {}", self.said());
            }
            self.status()
        })?;
        Ok(keeper)
    }

    /// `relay release`.
    pub(crate) fn release(&self) -> Result<()> {
        checked(&mut self.relay(&["release"])?).context("relay release").map(drop)
    }

    /// `relay status --json`.
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&checked(&mut self.relay(&["status", "--json", "--adopted"])?)?)?)
    }

    /// `relay stats --json`.
    pub(crate) fn stats(&self) -> Result<Stats> {
        Ok(Stats(serde_json::from_str(&checked(&mut self.relay(&["stats", "--json", "--adopted"])?)?)?))
    }

    /// The first line of `relay trace`, while packets take the fast path.
    pub(crate) fn traced(&self) -> Result<String> {
        let mut command = self.relay(&["trace", "--verdict", "redirected", "--adopted"])?;
        let (reader, writer) = pipe()?;
        let tracer = self.vps.spawn(command.stdout(writer).stderr(Stdio::null()))?;
        // It holds the other end of the pipe as long as it lives.
        drop(command);
        let line = BufReader::new(reader).lines().next().context("relay trace ended before a line")??;
        let ended = || self.vps.ended(tracer)?.context("it runs");
        let status = wait_for("relay trace to notice that nobody reads", DEADLINE, ended)?;
        ensure!(status.success(), "relay trace ended ({status})");
        Ok(line)
    }

    /// Waits until the fast path is on, or off for that reason.
    pub(crate) fn wait_for_fast_path(&self, state: &str, reason: &str) -> Result<()> {
        wait_for(&format!("the fast path to be {state}"), DEADLINE, || {
            let status = self.status()?;
            let told = status["fast_path"]["reason"].as_str().unwrap_or_default();
            ensure!(status["fast_path"]["state"] == state && told.contains(reason), "{status}");
            Ok(())
        })
    }

    /// Where its fast path is pinned.
    pub(crate) fn pins(&self) -> Result<Pins> {
        let inode = |pid| Ok::<_, anyhow::Error>(fs::metadata(format!("/proc/{pid}/ns/net"))?.ino());
        Ok(Pins::in_namespace(self.interface.parse()?, self.container.map(inode).transpose()?))
    }

    /// What its maps hold.
    pub(crate) fn maps(&self) -> Result<DatapathState> {
        let pins = self.pins()?;
        self.vps.inside(|| Ok(PinnedMaps::open(&pins)?.read()?))
    }

    /// Everything that an adoption could leave behind or change.
    pub(crate) fn traces(&self) -> Result<String> {
        let name = self.interface;
        let mut all = String::new();
        for question in [
            format!("ip -d link show dev {name}"),
            format!("ip address show dev {name}"),
            "ip -4 route show table all".to_owned(),
            format!("ip -6 route show table all dev {name}"),
            "ip rule".to_owned(),
            "ip -6 rule".to_owned(),
            "nft -s list ruleset".to_owned(),
            format!("wg showconf {name}"),
            format!(
                "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.send_redirects \
                 net.ipv4.conf.{name}.rp_filter net.ipv4.conf.{name}.forwarding"
            ),
            format!("tc qdisc show dev {name}"),
            format!("tc filter show dev {name} ingress"),
            "find /sys/fs/bpf -mindepth 1 -not -name *.debug".to_owned(),
            "find /run/relay".to_owned(),
            format!("cat {}", self.file),
        ] {
            let answer = self.run(&question).unwrap_or_default();
            // An interface that its keeper made anew has another number.
            let unnumbered = |line: &str| match line.split_once(": ") {
                Some((number, rest)) if number.parse::<u32>().is_ok() => format!("{rest}\n"),
                _ => format!("{line}\n"),
            };
            // And another address of the link, where it is a TUN device.
            let lines = answer.lines().filter(|line| !line.contains("fe80::"));
            let mut lines: Vec<String> = lines.map(unnumbered).collect();
            if question.starts_with("wg ") {
                // wireguard-go lists its peers in any order.
                lines.sort();
            }
            let answer = lines.concat();
            all.push_str(&format!("# {question}\n{answer}"));
        }
        let pins = self.pins()?;
        all.push_str(&format!("pins: {}\n", self.vps.inside(|| Ok(pins.exist()))?));
        Ok(all)
    }
}
