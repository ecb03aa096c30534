//! `relay down`: nothing of relay's is left behind, whether a daemon runs or was killed.

use std::path::Path;

use crate::{
    config::{DEFAULT_INTERFACE, DEFAULT_PATH, Written},
    control::client::{self, ControlError},
    daemon,
    desired::InterfaceName,
    host,
    kernel::{
        datapath::PIN_ROOT,
        lock::{self, Lock},
        netlink::Netlink,
    },
    report::Reloaded,
};

/// Asks the daemon, or does it itself where none runs. Prints what was taken down.
///
/// # Errors
/// Something could not be taken down.
pub async fn run(config: &Path, socket: &Path) -> anyhow::Result<()> {
    let done = if answers_for_another(config, socket).await {
        without_daemon(config, None).await?
    } else {
        match by_daemon(socket).await {
            Err(ControlError::NotRunning(_)) => without_daemon(config, Some(socket)).await?,
            answer => {
                let done = answer?;
                // A daemon in a sandbox could not; what is not empty is another relay's.
                let _ = std::fs::remove_dir(PIN_ROOT);
                done
            }
        }
    };
    for change in &done.changes {
        eprintln!("{change}");
    }
    if done.changes.is_empty() && done.problems.is_empty() {
        eprintln!("nothing of relay's was up");
    }
    match done.problems.as_slice() {
        [] => Ok(()),
        problems => anyhow::bail!("not everything is down: {}", problems.join("; ")),
    }
}

/// Asks the daemon and waits for its end, so that whoever types `relay up` next does not meet its lock.
async fn by_daemon(socket: &Path) -> Result<Reloaded, ControlError> {
    let interface = match client::status(socket).await {
        // The lock of an adoption elsewhere has another name.
        Ok(status) => status.namespace.is_none().then_some(status.interface),
        Err(error @ (ControlError::NotRunning(_) | ControlError::Permission(_))) => return Err(error),
        // One that is busy, or of a version whose answer is not understood, goes down all the same.
        Err(_) => None,
    };
    let done = client::down(socket).await?;
    let runs = || interface.as_ref().is_some_and(|name| lock::is_held(Path::new(daemon::RUN_DIR), name));
    super::once_ended(|| (!runs()).then_some(())).await;
    Ok(done)
}

/// Whoever names a configuration does not mean the daemon of another; who names none means the daemon of this socket.
async fn answers_for_another(config: &Path, socket: &Path) -> bool {
    config != Path::new(DEFAULT_PATH) && super::follows_another(config, socket).await.is_some()
}

async fn without_daemon(config: &Path, dead_socket: Option<&Path>) -> anyhow::Result<Reloaded> {
    super::need_root("take interfaces down")?;
    let run_dir = Path::new(daemon::RUN_DIR);
    let netlink = Netlink::connect()?;
    let interface = match interface(config) {
        Ok(interface) => interface,
        Err(error) => marked(&netlink, error).await?,
    };
    let _lock = Lock::acquire(run_dir, &interface)?;
    if let Some(socket) = dead_socket {
        let _ = std::fs::remove_file(socket);
    }
    Ok(host::tear_down(&netlink, &interface, run_dir).await)
}

/// Where the configuration does not say which: the interface with relay's mark, if there is only one.
async fn marked(netlink: &Netlink, error: anyhow::Error) -> anyhow::Result<InterfaceName> {
    let links = netlink.links().await?;
    let mut ours = links.iter().filter(|link| link.is_ours());
    match (ours.next(), ours.next()) {
        (Some(link), None) => {
            eprintln!("{error:#}\n{} has relay's mark, so that is what goes down", link.name);
            Ok(link.name.parse()?)
        }
        _ => Err(error),
    }
}

/// The tunnel interface. The configuration need not be valid to say which that is; without one it is the default name.
pub(super) fn interface(config: &Path) -> anyhow::Result<InterfaceName> {
    match std::fs::read_to_string(config) {
        Ok(text) => match Written::parse(config, &text)?.interface.into_inner().name {
            Some(name) => Ok(name.into_inner().parse()?),
            None => Ok(DEFAULT_INTERFACE.parse()?),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DEFAULT_INTERFACE.parse()?),
        Err(error) => Err(anyhow::Error::new(error).context(format!("reading {}", config.display()))),
    }
}
