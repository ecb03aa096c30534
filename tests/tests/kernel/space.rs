//! A network and mount namespace per case, gone with its thread whatever happens in it.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// The longest a case may take; the slowest measured takes 8 s on two busy cores.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs one case on a thread of its own in new network and mount namespaces, with an empty /run and a /sys that
/// matches. Commands and threads that the case starts live in the same namespaces.
pub(crate) fn isolated<Case>(case: impl FnOnce() -> Case + Send + 'static)
where
    Case: Future<Output = Result<()>>,
{
    let thread = std::thread::spawn(move || {
        enter().context("new namespaces (these tests need root)")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(DEADLINE, case()).await.context("the case hangs")? })
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("unshare")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make / private")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).context("mount /run")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mount /sys")?;
    run("ip link set lo up").map(drop)
}

/// Runs a command line (split at spaces) in the calling thread's namespaces and returns what it printed.
pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let output = Command::new(program).args(words).output().with_context(|| format!("start `{line}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed, {}: {stderr}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
