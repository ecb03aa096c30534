//! A network and mount namespace per case, gone with its thread whatever happens in it.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use relay_tests::guest::patience;

/// The longest a case may take; the slowest measured takes 8 s on two busy cores.
const DEADLINE: Duration = Duration::from_secs(120);

/// The longest that a condition is waited for; a handshake through two userspace ends takes 2 s on two busy cores.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the kernel knows a UDP socket on that port in this namespace.
pub(crate) fn is_bound(port: u16) -> Result<bool> {
    let local = format!(":{port:04X} ");
    let sockets = ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
    Ok(sockets.into_iter().collect::<Result<String, _>>()?.contains(&local))
}

/// Runs one case on a thread of its own in new network and mount namespaces, with an empty /run and a /sys that
/// matches. Commands and threads that the case starts live in the same namespaces.
pub(crate) fn isolated<Case>(case: impl FnOnce() -> Case + Send + 'static)
where
    Case: Future<Output = Result<()>>,
{
    let thread = std::thread::spawn(move || {
        enter().context("new namespaces (these tests need root)")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(patience(DEADLINE), case()).await.context("the case hangs")?
        })
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:#}"),
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
    let output = command(line)?.output().with_context(|| format!("start `{line}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed, {}: {stderr}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Does something in the network namespace `name` of `ip netns`; sockets made there stay there.
pub(crate) fn within<T: Send>(name: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/run/netns/{name}");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(fs::File::open(&path).context(path)?, CloneFlags::CLONE_NEWNET)?;
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A process that is ended with its guard.
pub(crate) struct Background(Child);

impl Background {
    pub(crate) fn start(line: &str) -> Result<Self> {
        let child = command(line)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("start `{line}`"))?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself; that is what the test looks at, not this.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().context("an empty command line")?);
    command.args(words);
    Ok(command)
}

/// Waits until a condition holds, and says what was waited for when it does not in time.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !condition().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(patience(PATIENCE), wait).await.with_context(|| format!("waiting for {what}"))?
}

/// The value of a sysctl, by its path under /proc/sys.
pub(crate) fn sysctl(path: &str) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{path}")).with_context(|| path.to_owned())?.trim().to_owned())
}
