//! A machine of the laboratory whose PID 1 is systemd, with a disk of its own: the host's files, and what was written
//! since. It may boot again with the same disk; the disk goes with the machine.
//!
//! It starts the journal and what is enabled in it, and nothing of the host's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cgroup,
    netns::{Netns, checked, wait_for},
};

/// It takes 1 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// A control group for it alone, so that its own tree of groups ends there; then the namespaces of a machine.
const OUTER: &str = r#"mkdir -p /run/disk
mountpoint -q /run/disk || mount -t tmpfs tmpfs /run/disk
exec unshare --mount --propagation private --uts --ipc --cgroup --pid --fork sh -c "$INNER""#;

/// What a boot loader and an initramfs do, with as little to start as systemd can do with. Its console is not the test's,
/// and of the kernel's settings it may change those of the network alone, which are the machine's. In a read-only
/// /sys there is nobody to wait for who would name devices.
const INNER: &str = r#"set -e
cd /run/disk
mkdir -p up work root
mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
cd root
if [ ! -e etc/relay-laboratory ]; then
    rm -rf usr/lib/systemd/system/*.wants usr/lib/systemd/system-generators etc/systemd/system etc/relay
    mkdir -p etc/systemd/system/sysinit.target.wants usr/local/bin
    ln -s /usr/lib/systemd/system/systemd-journald.service etc/systemd/system/sysinit.target.wants/
    ln -s /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
    rm -f etc/machine-id
    echo 72656c61790000000000000000000000 > etc/machine-id
    cp "$RELAY" usr/local/bin/relay
    chmod 755 usr/local/bin/relay
    touch etc/relay-laboratory
fi
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -o remount,bind,ro sys
mount --rbind /dev dev
mount --bind /dev/null dev/console
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --move . /
exec env -i container=relay PATH=/usr/sbin:/usr/bin chroot . /usr/lib/systemd/systemd --log-target=journal"#;

/// A machine that systemd runs. It is off when dropped.
pub struct Booted<'a> {
    machine: &'a Netns,
    /// Who waits for PID 1, outside.
    outer: u32,
    init: u32,
}

impl<'a> Booted<'a> {
    /// Boots the machine, with `relay` as /usr/local/bin/relay, and waits until systemd takes commands.
    pub fn boot(machine: &'a Netns, relay: &Path) -> Result<Self> {
        let mut command = machine.command("sh");
        command
            .args(["-c", &format!("set -e\n{}{OUTER}", cgroup::ENTER)])
            .env("INNER", INNER)
            .env("NAME", machine.name())
            .env("RELAY", relay);
        let outer = machine.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let mut booted = Self { machine, outer, init: 0 };
        wait_for("systemd to take commands", DEADLINE, || {
            if let Some(status) = machine.ended(outer)? {
                anyhow::bail!("it ended ({status})");
            }
            let children = checked(Command::new("pgrep").args(["-P", &outer.to_string()]))?;
            booted.init = children.trim().parse().context("which is PID 1?")?;
            let name = fs::read_to_string(format!("/proc/{}/comm", booted.init))?;
            ensure!(name.trim() == "systemd", "PID 1 is {name:?}");
            booted.run("systemctl is-active multi-user.target").map(drop)
        })?;
        Ok(booted)
    }

    /// Shuts the machine down as `systemctl poweroff` does, and waits for its end.
    pub fn shut_down(self) -> Result<()> {
        // Its own end may come before the answer.
        let _ = self.run("systemctl poweroff");
        wait_for("the machine to be off", DEADLINE, || {
            self.machine.ended(self.outer)?.context("it is on").map(drop)
        })
    }

    /// A command that will run in the machine, as a person's who is logged in.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--root", "--wd=/", "--"]).arg(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin");
        command
    }

    /// Runs a command line, split at spaces, and returns what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        checked(self.command(program).args(words)).with_context(|| line.to_owned())
    }

    /// What a unit logged.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.journalctl(&format!("--output=cat --unit={unit}")).unwrap_or_default()
    }

    /// What `journalctl` prints with these words, of all that was said before: the journal reads it when it likes.
    pub fn journalctl(&self, words: &str) -> Result<String> {
        self.run("journalctl --sync")?;
        self.run(&format!("journalctl --no-pager {words}"))
    }

    /// The machine's own files.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }
}

impl Drop for Booted<'_> {
    fn drop(&mut self) {
        // A signal of ours would be systemd's to interpret; the end of PID 1 is that of all its processes.
        if self.init != 0 && self.machine.ended(self.outer).is_ok_and(|status| status.is_none()) {
            let _ = checked(Command::new("kill").args(["-KILL", &self.init.to_string()]));
        }
        cgroup::remove(self.machine);
    }
}
