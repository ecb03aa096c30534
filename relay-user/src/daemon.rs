//! The loop: observe, plan, apply, and again whenever something moved.
//!
//! One task owns the host and takes one thing at a time: a request from the control socket, a signal, something that
//! the kernel reports, or a tick. Whatever woke it, it does the same: read what is, compare it with what shall be,
//! perform the difference.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    config::{self, Config, Warning, Written},
    control::{Request, listener::Listener, server::ControlSocket},
    desired::{Backend, Desired, InterfaceName, PeerName, Role},
    error::chain,
    history::{self, Health, Recorder, Sample},
    host::{Applied, Host, tear_down},
    kernel::{
        events::{Events, Topic},
        lock::Lock,
        netlink::Netlink,
    },
    memory,
    metrics::{self, Reconcile},
    report::{Refusal, Reloaded, Standing, Stats, Status, UplinkStats},
    service_manager::ServiceManager,
    stats,
};

/// How often the loop looks even if nothing was reported: WireGuard does not report that a peer got an endpoint, and
/// legacy iptables reports nothing at all. A firewall that starts to drop is so honoured within two seconds (with
/// [`LONGEST_REST`], twenty).
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// How many times as long as its last look has kept a CPU busy it rests at least, so that looking at ten thousand
/// peers takes 2 % of one.
const REST: u32 = 50;

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// How often it tries again to load a fast path that could not be loaded.
pub(crate) const RETRY_TICKS: u32 = 30;

/// How often it tries again to attach a guard that could not be attached: drivers seldom learn anything.
const UPLINK_RETRY_TICKS: u32 = 600;

/// How long the last answers may take to be read.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// relay.toml.
    pub config: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The folder of the history.
    pub state: PathBuf,
    /// Take everything down at the end.
    pub down_on_exit: bool,
}

/// Where locks and journals stand, whatever the socket: of one interface there must be one lock only.
pub const RUN_DIR: &str = "/run/relay";

/// Runs until `shutdown` resolves, or until somebody asks for `down`. `hangup` asks for a reload.
///
/// # Errors
/// The configuration is bad, another relay holds the interface, the interface is somebody else's, or an essential step
/// of bringing the hub up failed; then nothing of it is left behind.
pub async fn run(
    options: Options,
    mut hangup: mpsc::Receiver<()>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let netlink = Netlink::connect()?;
    let config = load(&options.config, &netlink, None).await?;
    let run_dir = Path::new(RUN_DIR);
    let _lock = Lock::acquire(run_dir, &config.desired.interface)?;
    let mut socket = ControlSocket::bind(&options.socket)?;
    let (sender, mut requests) = mpsc::channel(16);
    let (config, written) = InForce::of(config);
    let host = Host::open(&config.desired, netlink.clone(), run_dir).await?;
    let history = Recorder::start(history::file(&options.state, &config.desired.interface))
        .context("starting the history's thread")?;
    let mut daemon = Daemon {
        options,
        netlink,
        config,
        host,
        applied: Applied::default(),
        expired: BTreeSet::new(),
        reconcile: Reconcile::default(),
        history,
        metrics: Listener::new(sender.clone()),
        ticks: 0,
        manager: ServiceManager::default(),
        spent: Some(Box::new(written)),
    };
    // Before the first look: what changes while it looks is looked at again.
    let mut events = Events::subscribe()?;
    daemon.bring_up().await?;
    // Not before: it may listen on an address of the tunnel.
    daemon.metrics.follow(daemon.config.metrics).await;

    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(socket.serve(sender, async { drop(stopped.await) }));
    daemon.manager.ready(daemon.in_a_line());
    let ended = daemon.turn(&mut requests, &mut events, &mut hangup, shutdown).await;
    drop((requests, stop));
    // The answer to `relay down` is on its way; whoever does not read it holds up nobody.
    let _ = tokio::time::timeout(LAST_ANSWERS, server).await;
    daemon.history.finish().await;
    ended
}

/// Reads and validates the file against the networks that this host has, those of the tunnel in force left out.
///
/// # Errors
/// The host's networks cannot be read, or the file is refused.
pub async fn load(
    path: &Path,
    netlink: &Netlink,
    in_force: Option<&InterfaceName>,
) -> anyhow::Result<Config> {
    let mut networks = netlink.host_networks(0).await.context("reading this host's networks")?;
    networks.retain(|(interface, _)| in_force.is_none_or(|name| name.as_str() != interface));
    Ok(config::load(path, &networks)?)
}

/// How long to rest after a look that kept a CPU busy for `busy`.
pub(crate) fn rest(busy: Duration) -> Duration {
    (busy * REST).clamp(TICK, LONGEST_REST)
}

/// How long this thread has kept CPUs busy: the first number of its schedstat, in nanoseconds
/// (Documentation/scheduler/sched-stats.rst); zero where the kernel does not count. The daemon's own loop stays on the
/// thread that runs it.
pub(crate) fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// What the daemon keeps of its file: what it means, without what was written, which would take as much memory again.
struct InForce {
    desired: Desired,
    metrics: Option<SocketAddr>,
    /// What is unwise in it, or will surprise somebody.
    warnings: Vec<Warning>,
}

impl InForce {
    /// What the file means, and what was written in it.
    fn of(config: Config) -> (Self, Written) {
        let advice = config.advice();
        let warnings = [config.warnings, advice].concat();
        (Self { desired: config.desired, metrics: config.metrics, warnings }, config.written)
    }
}

struct Daemon {
    options: Options,
    netlink: Netlink,
    config: InForce,
    host: Host,
    applied: Applied,
    /// The peers whose time was over at the last look.
    expired: BTreeSet<PeerName>,
    reconcile: Reconcile,
    history: Recorder,
    metrics: Listener,
    ticks: u32,
    manager: ServiceManager,
    /// What reading the file has left behind, which is freed when nobody waits for an answer.
    spent: Option<Box<dyn Send>>,
}

impl Daemon {
    async fn bring_up(&mut self) -> anyhow::Result<()> {
        for warning in &self.config.warnings {
            tracing::warn!("{warning}");
        }
        let found = self.host.exists().await?;
        self.look().await;
        if let Some(error) = self.applied.essential_failure.take() {
            if !found {
                self.take_down().await;
            }
            return Err(error.into());
        }
        let desired = &self.config.desired;
        let (interface, key) = (&desired.interface, desired.private_key.public_key());
        match &desired.role {
            Role::Hub(hub) => {
                let (port, peers) = (hub.listen_port, desired.peers.len());
                tracing::info!("{interface} is up on UDP port {port}, {peers} peers, public key {key}");
                tracing::info!("fast path {}", self.fast_path());
            }
            Role::Home(home) => {
                tracing::info!("{interface} is up and dials the hub at {}, public key {key}", home.endpoint);
            }
        }
        for problem in &self.applied.problems {
            tracing::warn!("{problem}");
        }
        for opening in self.to_open() {
            tracing::warn!("a firewall on this host closes relay's way; to open it: {opening}");
        }
        self.record();
        Ok(())
    }

    async fn turn(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        events: &mut Events,
        hangup: &mut mpsc::Receiver<()>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        // Events do not put it off: what nobody reports would then go unseen for as long as others are busy.
        let mut tick = Instant::now() + TICK;
        tokio::pin!(shutdown);
        loop {
            // After a reload is answered: nobody has to wait for the proof, and the next answer is of what is.
            let freed = self.spent.take().map(drop);
            if self.applied.unproven {
                self.look().await;
            }
            if freed.is_some() {
                memory::give_back();
            }
            tokio::select! {
                () = &mut shutdown => {
                    self.record();
                    if self.options.down_on_exit {
                        self.manager.stopping("taking the hub down");
                        self.take_down().await;
                    } else {
                        self.leave().await;
                    }
                    return Ok(());
                }
                Some(request) = requests.recv() => match request {
                    Request::Status(reply) => drop(reply.send(self.status())),
                    Request::Stats(reply) => drop(reply.send(self.stats().await)),
                    Request::Metrics(reply) => drop(reply.send(self.snapshot().await)),
                    Request::Reload(reply) => drop(reply.send(self.reload().await)),
                    Request::Down(reply) => {
                        self.manager.stopping("taking the hub down, as asked");
                        let _ = reply.send(Ok(self.take_down().await));
                        return Ok(());
                    }
                },
                Some(()) = hangup.recv() => match self.reload().await {
                    Ok(reloaded) => tracing::info!("reloaded, {} changes", reloaded.changes.len()),
                    Err(refusal) => tracing::error!("not reloaded, the old state stays in force: {refusal}"),
                },
                topics = events.next() => {
                    if topics?.contains(&Topic::Firewall) {
                        self.host.firewall_may_have_changed();
                    }
                    self.look().await;
                    self.manager.alive(self.in_a_line());
                }
                () = tokio::time::sleep_until(tick) => {
                    self.ticks = self.ticks.wrapping_add(1);
                    self.host.firewall_may_have_changed();
                    if self.ticks.is_multiple_of(RETRY_TICKS) {
                        self.host.retry_fast_path();
                        self.metrics.retry().await;
                    }
                    if self.ticks.is_multiple_of(UPLINK_RETRY_TICKS) {
                        self.host.retry_uplink();
                    }
                    let before = cpu_time();
                    self.look().await;
                    self.manager.alive(self.in_a_line());
                    if self.history.is_due() {
                        self.record();
                    }
                    tick = Instant::now() + rest(cpu_time().saturating_sub(before));
                }
            }
        }
    }

    /// Makes the host as it shall be; reports what is new since the last look.
    async fn look(&mut self) {
        let now = Timestamp::now();
        let expired: BTreeSet<PeerName> = self.config.desired.expired(now).into_iter().cloned().collect();
        for name in expired.difference(&self.expired) {
            tracing::info!("peer \"{name}\" has expired and takes no part");
        }
        self.expired = expired;
        let applied = self.host.reconcile(&self.config.desired.in_force(now)).await;
        for problem in applied.problems.iter().filter(|problem| !self.applied.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        let before = self.applied.fast_path.as_ref();
        if let (Some(before), Some(now)) = (before, &applied.fast_path)
            && before != now
        {
            tracing::info!("fast path {now}");
        }
        if self.applied.uplink != applied.uplink
            && let Some(guard) = &applied.uplink
        {
            tracing::info!("guard of the uplink {guard}");
        }
        self.reconcile.note(&applied.changes, &applied.problems, now);
        self.applied = applied;
    }

    /// Ends and leaves the hub up, as far as it lives without a daemon.
    async fn leave(&mut self) {
        let interface = &self.config.desired.interface;
        let left = match self.host.backend {
            Backend::Kernel => format!("{interface} goes on without its daemon; `relay down` takes it down"),
            Backend::Userspace => format!(
                "{interface} ends with its daemon, which carried it; `relay down` takes away what is left"
            ),
        };
        tracing::info!("{left}");
        self.manager.stopping(&left);
        self.host.stop_userspace().await;
    }

    /// Reads the file again and applies it; the service manager learns when that begins and ends.
    async fn reload(&mut self) -> Result<Reloaded, Refusal> {
        self.manager.reloading();
        // A file that is refused takes memory too.
        self.spent = Some(Box::new(()));
        let reloaded = self.follow_file().await;
        self.manager.ready(self.in_a_line());
        reloaded
    }

    async fn follow_file(&mut self) -> Result<Reloaded, Refusal> {
        let refuse = |message: String| Refusal { message };
        let in_force = Some(&self.config.desired.interface);
        let config = load(&self.options.config, &self.netlink, in_force)
            .await
            .map_err(|error| refuse(format!("{error:#}")))?;
        let (old, new) = (&self.config.desired, &config.desired);
        if old.interface != new.interface
            || old.backend != new.backend
            || old.home().is_some() != new.home().is_some()
        {
            return Err(refuse(format!(
                "{}: `name` and `backend` under [interface] cannot change while relay is up, nor a hub become a home; \
                 `relay down`, then `relay up`",
                self.options.config.display()
            )));
        }
        // A file that another program is just writing may be cut off where it is valid.
        if old.peers.len() > 1 && new.peers.is_empty() && config.disabled.is_empty() {
            return Err(refuse(format!(
                "{}: it has no peers any more, and {} are in force: was it cut off while it was saved? To be rid of \
                 all, `relay peer remove` them, or start relay anew",
                self.options.config.display(),
                old.peers.len()
            )));
        }
        let dialled = |desired: &Desired| desired.home().map(|home| home.endpoint.clone());
        if dialled(old) != dialled(new) {
            self.host.dial_anew();
        }
        let (config, written) = InForce::of(config);
        let before = std::mem::replace(&mut self.config, config);
        for warning in self.config.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.spent = Some(Box::new((before, written)));
        self.metrics.follow(self.config.metrics).await;
        self.host.retry_fast_path();
        self.host.retry_uplink();
        self.host.firewall_may_have_changed();
        self.look().await;
        Ok(Reloaded { changes: self.applied.changes.clone(), problems: self.problems() })
    }

    async fn stats(&mut self) -> Result<Stats, Refusal> {
        let refuse = |error: &dyn std::error::Error| Refusal { message: chain(error) };
        let device = self.host.device().map_err(|error| refuse(&error))?;
        let counters = self.host.counters().map_err(|error| refuse(&error))?;
        let desired = self.config.desired.in_force(Timestamp::now());
        let stats =
            stats::collect(&desired, self.host.backend, self.fast_path(), device.as_ref(), counters.as_ref());
        let uplink = self.host.uplink_counters().map_err(|error| refuse(&error))?;
        Ok(Stats { uplink: uplink.as_ref().map(UplinkStats::from), ..stats })
    }

    async fn snapshot(&mut self) -> Result<metrics::Snapshot, Refusal> {
        let stats = self.stats().await?;
        let history = match self.history.health() {
            Health::Untried => None,
            health => Some(health == Health::Working),
        };
        Ok(metrics::Snapshot { status: self.status(), stats, reconcile: self.reconcile, history })
    }

    /// Hands the counters to the history. What cannot be read is part of the next sample's difference.
    fn record(&mut self) {
        let (Ok(Some(live)), Ok(counters)) = (self.host.device(), self.host.counters()) else { return };
        let Some(link) = &self.applied.observed.link else { return };
        let (now, device) = (Timestamp::now(), self.history.device(link.index));
        self.history.offer(Sample::new(now, device, &self.config.desired, &live, counters.as_ref()));
    }

    fn status(&self) -> Status {
        let desired = &self.config.desired;
        // A home's one peer is read anew: how the hub is may be why somebody asks.
        let fresh = desired.home().and_then(|_| self.host.device().ok().flatten());
        let device = fresh.as_ref().or(self.applied.observed.device.as_ref());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: Some(self.options.config.display().to_string()),
            interface: desired.interface.to_string(),
            namespace: None,
            backend: self.host.backend,
            backend_reason: self.host.backend_reason.clone(),
            public_key: Some(desired.private_key.public_key()),
            listen_port: desired.listen_port().or(device.map(|device| device.listen_port)).unwrap_or(0),
            endpoint: desired.endpoint().map(str::to_owned),
            home: desired.home().map(|home| stats::of_home(desired, home, device, &self.applied.observed)),
            fast_path: self.fast_path(),
            attached: self.applied.observed.attached.map(|hook| hook.to_string()),
            uplink: self.applied.uplink.clone(),
            peers: desired.peers.len() - self.expired.len(),
            peers_connected: device.map_or(0, |device| stats::connected(device, SystemTime::now())),
            peers_expired: self.expired.iter().map(ToString::to_string).collect(),
            problems: [self.problems(), Vec::from_iter(self.history.problem())].concat(),
            beside: self
                .metrics
                .problem()
                .map(str::to_owned)
                .into_iter()
                .chain(self.history.problem())
                .collect(),
            to_open: self.to_open(),
        }
    }

    /// What `systemctl status` shows.
    fn in_a_line(&self) -> String {
        let desired = &self.config.desired;
        let device = self.applied.observed.device.as_ref();
        let connected = device.map_or(0, |device| stats::connected(device, SystemTime::now()));
        let peers = desired.peers.len() - self.expired.len();
        let on = self.applied.fast_path.as_ref().is_some_and(Standing::is_on);
        let fast_path = match &desired.role {
            Role::Home(_) => "",
            Role::Hub(_) if on => ", fast path on",
            Role::Hub(_) => ", fast path off",
        };
        let problems = match self.problems().len() + usize::from(self.history.problem().is_some()) {
            0 => String::new(),
            count => format!(", {count} problems: see `relay status`"),
        };
        format!("{}: {connected} of {peers} peers connected{fast_path}{problems}", desired.interface)
    }

    fn fast_path(&self) -> Standing {
        self.applied.fast_path.clone().unwrap_or_else(|| Standing::off("the host could not be read"))
    }

    /// What is wrong with the host, and then what is wrong beside it.
    fn problems(&self) -> Vec<String> {
        let beside = self.metrics.problem().map(str::to_owned);
        self.applied.problems.iter().cloned().chain(beside).collect()
    }

    /// What the admin would have to type, since relay may not.
    fn to_open(&self) -> Vec<String> {
        if self.config.desired.firewall.manage {
            return Vec::new();
        }
        self.applied.observed.openings.iter().map(|opening| opening.command.clone()).collect()
    }

    async fn take_down(&mut self) -> Reloaded {
        self.record();
        self.host.stop_userspace().await;
        let done = tear_down(&self.netlink, &self.config.desired.interface, Path::new(RUN_DIR)).await;
        for change in &done.changes {
            tracing::info!("{}: {change}", self.config.desired.interface);
        }
        for problem in &done.problems {
            tracing::warn!("{problem}");
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_in_proportion() {
        for (busy, rested) in [(0, 1_000), (3, 1_000), (100, 5_000), (700, 15_000)] {
            assert_eq!(rest(Duration::from_millis(busy)), Duration::from_millis(rested), "{busy} ms");
        }
    }

    #[test]
    fn work_is_counted() {
        let (before, begun) = (cpu_time(), Instant::now());
        while cpu_time() == before && begun.elapsed() < Duration::from_secs(10) {}
        assert!(cpu_time() > before);
    }
}
