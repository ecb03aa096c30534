//! Machines for tests: a network namespace with a mount namespace of its own, gone when dropped.
//!
//! Each machine has its own `/run`, `/var/lib`, `/sys` and BPF file system, so that sockets, locks, histories and pins of
//! two machines never meet. Processes started in it are killed with it, also when a test panics; what a killed test left
//! behind is swept by the next one. A machine is entered with `nsenter`: `ip netns exec` would hide the BPF file system.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::guest::patience;

/// Names of our namespaces are `rly-<pid of the test>-<number>-<role>`.
const PREFIX: &str = "rly-";
const NAMED: &str = "/run/netns";
/// How long a process may take to stand still; it takes a millisecond.
const HALT: Duration = Duration::from_secs(5);

/// What makes a network namespace a machine: see the module's text. Nobody else has its addresses, so that is not asked:
/// the answer takes a second or two, and an address that comes to a running relay that late is something it has to do.
const HOLD: &str = "set -e
dad=/proc/sys/net/ipv6/conf/default/accept_dad
[ ! -e $dad ] || echo 0 > $dad
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=0755 tmpfs /var/lib
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo ready
exec cat";

/// A machine of the laboratory.
pub struct Netns {
    name: String,
    /// A process that keeps the mount namespace; it ends with its stdin, that is with us.
    holder: Child,
    children: Mutex<Vec<Child>>,
}

impl Netns {
    /// A new machine with loopback up. `role` is for people who look at `ip netns`. Needs root.
    pub fn new(role: &str) -> Result<Self> {
        static SWEEP: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        checked(Command::new("ip").args(["netns", "add", &name]))
            .with_context(|| format!("making the network namespace {name} (this needs root)"))?;
        hold(&name)
            .map(|holder| Self { name: name.clone(), holder, children: Mutex::default() })
            .inspect_err(|_| remove(&name))
            .with_context(|| format!("making the machine {name}"))
    }

    /// A new machine with an uplink, eth0, whose far end is nobody: routes and endpoints have somewhere to go.
    pub fn with_uplink(role: &str) -> Result<Self> {
        let machine = Self::new(role)?;
        machine.run_all(
            "ip link add eth0 type veth peer name far
             ip address add 198.51.100.2/24 dev eth0
             ip link set far up
             ip link set eth0 up
             ip route add default via 198.51.100.1",
        )?;
        Ok(machine)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for its network namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMED).join(&self.name)
    }

    /// What a person types in front of a command to run it here.
    #[must_use]
    pub fn entering(&self) -> String {
        format!("nsenter --net={} --mount={}", self.path().display(), self.mounts().display())
    }

    fn mounts(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.holder.id()))
    }

    /// A command that will run here. Ctrl-C in a terminal does not reach it: who cleans up still needs the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.arg(format!("--mount={}", self.mounts().display()));
        command.arg("--").arg(program).process_group(0);
        command
    }

    /// Runs a command line, split at spaces, and returns what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        checked(self.command(program).args(words)).with_context(|| format!("{}: {line}", self.name))
    }

    /// Runs several command lines; empty ones are skipped.
    pub fn run_all(&self, lines: &str) -> Result<()> {
        lines.lines().filter(|line| !line.trim().is_empty()).try_for_each(|line| self.run(line).map(drop))
    }

    /// Gives rules to nftables.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting nft")?;
        child.stdin.take().context("nft has no stdin")?.write_all(rules.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}: nft: {}", self.name, String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts a command made by [`Netns::command`] that goes on running; it is killed with the machine. Returns its
    /// process id.
    pub fn spawn(&self, command: &mut Command) -> Result<u32> {
        let child = command.spawn().with_context(|| format!("{}: starting {command:?}", self.name))?;
        let id = child.id();
        self.children.lock().expect("no panic while held").push(child);
        Ok(id)
    }

    /// How a process of [`Netns::spawn`] ended; `None` while it runs.
    pub fn ended(&self, id: u32) -> Result<Option<std::process::ExitStatus>> {
        let mut children = self.children.lock().expect("no panic while held");
        let child = children.iter_mut().find(|child| child.id() == id).context("no such process here")?;
        Ok(child.try_wait()?)
    }

    /// Kills a process of [`Netns::spawn`] as nothing can survive it, and waits for its end.
    pub fn kill(&self, id: u32) -> Result<()> {
        let mut children = self.children.lock().expect("no panic while held");
        let child = children.iter_mut().find(|child| child.id() == id).context("no such process here")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What Ctrl-C does to a process of [`Netns::spawn`].
    pub fn interrupt(&self, id: u32) -> Result<()> {
        Ok(kill(Pid::from_raw(id.try_into()?), Signal::SIGINT)?)
    }

    /// Does something while a process of [`Netns::spawn`] stands still, so that it sees all of it or nothing.
    pub fn while_halted<T>(&self, id: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let process = Pid::from_raw(id.try_into()?);
        kill(process, Signal::SIGSTOP)?;
        let halted = wait_for("a process to stand still", HALT, || {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // The state follows the name, which may hold anything (proc(5)).
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            ensure!(state.starts_with('T'), "{stat}");
            Ok(())
        });
        let done = halted.and_then(|()| act());
        kill(process, Signal::SIGCONT)?;
        done
    }

    /// Runs a function on a thread that is in this machine: sockets that it opens are the machine's, files it opens
    /// under /run and /sys too. Threads that it starts are here as well.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let (net, mounts) = (fs::File::open(self.path())?, fs::File::open(self.mounts())?);
        let enter = move || -> Result<T> {
            // A thread that shares its root and current folder with others cannot change mount namespace.
            unshare(CloneFlags::CLONE_FS).context("unsharing the current folder")?;
            setns(net, CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
            setns(mounts, CloneFlags::CLONE_NEWNS).context("entering the mount namespace")?;
            act()
        };
        thread::scope(|scope| {
            scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .with_context(|| format!("inside {}", self.name))
    }

    /// A cable between two machines, both ends up.
    pub fn cable(&self, here: &str, other: &Self, there: &str) -> Result<()> {
        // From outside: the machines' own /run does not know each other's names.
        let (ours, theirs) = (self.name.as_str(), other.name.as_str());
        let lines = [
            format!("-n {ours} link add {here} type veth peer name {there} netns {theirs}"),
            format!("-n {ours} link set {here} up"),
            format!("-n {theirs} link set {there} up"),
        ];
        for line in lines {
            checked(Command::new("ip").args(line.split(' '))).with_context(|| format!("ip {line}"))?;
        }
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        kill_inside(&self.path());
        for child in
            self.children.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default().iter_mut()
        {
            let _ = child.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        remove(&self.name);
    }
}

fn hold(name: &str) -> Result<Child> {
    let mut holder = Command::new("nsenter")
        .arg(format!("--net={NAMED}/{name}"))
        .args(["--", "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", HOLD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("starting nsenter")?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("the holder has no stdout")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        let status = holder.wait()?;
        bail!("its mounts failed ({status})");
    }
    Ok(holder)
}

/// Removes what tests that are dead left behind.
pub fn sweep() {
    let dead = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
    sweep_those(dead);
}

/// Removes what this process made, for a program that is about to end by a signal.
pub fn sweep_ours() {
    sweep_those(|pid| pid == std::process::id());
}

fn sweep_those(chosen: impl Fn(u32) -> bool) {
    for entry in fs::read_dir(NAMED).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(&chosen) {
            kill_inside(&entry.path());
            remove(&name);
        }
    }
}

/// Kills every process in a network namespace, those that made themselves daemons too.
fn kill_inside(namespace: &Path) {
    let Ok(wanted) = fs::metadata(namespace).map(|file| file.ino()) else { return };
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let inside = fs::metadata(entry.path().join("ns/net")).is_ok_and(|file| file.ino() == wanted);
        if inside && pid.unsigned_abs() != std::process::id() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Runs a command to its end and returns what it printed; its stderr is in the error.
pub fn checked(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, stderr.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries until it works; the last failure is the reason in the error. `what` completes "waiting for …", `deadline` is for
/// the host and longer in a guest ([`patience`]).
pub fn wait_for<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = patience(deadline);
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > deadline => {
                return Err(error.context(format!("waiting for {what}: not within {} s", deadline.as_secs())));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
