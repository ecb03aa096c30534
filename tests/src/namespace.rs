//! Namespaces of a test's own, and what is done in them by command or sysctl.

use std::{fs, panic, process::Command, thread};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs a test on a thread of its own in new network and mount namespaces: an empty bpf file system on /sys/fs/bpf,
/// loopback up. Needs root.
///
/// # Panics
/// Where the test does, or namespaces cannot be made.
pub fn in_namespaces(test: impl FnOnce() -> Result<()> + Send) {
    let outcome = thread::scope(|scope| {
        let body = || {
            enter().context("new namespaces (this test needs root)")?;
            test()
        };
        scope.spawn(body).join()
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(payload) => panic::resume_unwind(payload),
    }
}

fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .context("mount a bpf file system on /sys/fs/bpf")?;
    run("ip link set lo up")
}

/// Runs a command line (split at white space) in the calling thread's namespaces.
///
/// # Errors
/// It cannot be started, or fails; what it printed is in the error.
pub fn run(line: &str) -> Result<()> {
    output(line).map(drop)
}

/// As [`run`], and returns what it wrote to stdout.
///
/// # Errors
/// As [`run`].
pub fn output(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let output = Command::new(program).args(words).output().with_context(|| format!("start `{line}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}`: {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Writes a sysctl of the calling thread's network namespace, by its path under /proc/sys/net.
///
/// # Errors
/// There is none of that name, or the value is refused.
pub fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}
