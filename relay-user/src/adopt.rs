//! The loop of an adoption: an interface that somebody else keeps, followed, with relay's fast path on it.
//!
//! Nothing is desired here but that the fast path does what the kernel would: whoever keeps the interface changes peers,
//! routes and firewall as he likes, and each look makes the maps follow.

mod error;
mod foreign;
mod place;
pub mod report;
pub mod routes;

use std::path::PathBuf;

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub use self::{
    error::AdoptError,
    foreign::{Foreign, Look, Seen},
    place::Place,
};
use crate::{
    control::{Request, server::ControlSocket},
    daemon::{LAST_ANSWERS, RETRY_TICKS, TICK, cpu_time, rest},
    error::chain,
    failure::Failure,
    kernel::events::{Events, Topic},
    metrics::{self, Reconcile},
    report::{Refusal, Reloaded},
};

/// How an adoption is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which interface.
    pub place: Place,
    /// The control socket.
    pub socket: PathBuf,
}

/// Follows the interface until `shutdown` resolves, and then leaves the fast path as it is; or until somebody asks for
/// its release.
///
/// # Errors
/// Another relay keeps the interface, or there is none to adopt; then nothing is left behind. The namespace ended.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let place = options.place.clone();
    let lock = place.lock()?;
    let ended = keep(options, shutdown).await;
    place.tidy(lock);
    ended
}

async fn keep(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let foreign = Foreign::open(options.place.clone())?;
    // What can be told at once is told before anything is done.
    foreign.see().await?;
    let mut socket = ControlSocket::bind(&options.socket)?;
    let mut events = Events::subscribe()?;
    let mut adoption = Adoption {
        place: options.place,
        foreign,
        look: Look::off("not looked at yet"),
        reconcile: Reconcile::default(),
        ticks: 0,
    };
    adoption.begin().await;

    let (sender, mut requests) = mpsc::channel(16);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(socket.serve(sender, async { drop(stopped.await) }));
    let ended = adoption.turn(&mut requests, &mut events, shutdown).await;
    drop((requests, stop));
    // The answer to `relay release` is on its way; whoever does not read it holds up nobody.
    let _ = tokio::time::timeout(LAST_ANSWERS, server).await;
    ended
}

struct Adoption {
    place: Place,
    foreign: Foreign,
    look: Look,
    reconcile: Reconcile,
    ticks: u32,
}

impl Adoption {
    async fn begin(&mut self) {
        self.look().await;
        tracing::info!(
            "{} is adopted, {} peers; whoever made it goes on keeping it",
            self.place,
            self.look.seen.as_ref().map_or(0, |seen| seen.tunnel.peers.len())
        );
    }

    async fn turn(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        events: &mut Events,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut tick = Instant::now() + TICK;
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => {
                    self.foreign.let_go();
                    return Ok(());
                }
                Some(request) = requests.recv() => match request {
                    Request::Status(reply) => drop(reply.send(report::status(&self.place, &self.look))),
                    Request::Stats(reply) => drop(reply.send(self.stats())),
                    Request::Metrics(reply) => drop(reply.send(self.snapshot())),
                    Request::Reload(reply) => drop(reply.send(Err(Refusal {
                        message: format!("{} was adopted: it follows its interface, and has no file to read", self.place),
                    }))),
                    Request::Down(reply) => {
                        let _ = reply.send(Ok(self.release().await));
                        return Ok(());
                    }
                },
                topics = events.next() => {
                    if topics?.contains(&Topic::Firewall) {
                        self.foreign.firewall_may_have_changed();
                    }
                    self.look().await;
                }
                () = tokio::time::sleep_until(tick) => {
                    self.ends_with_its_namespace().await?;
                    self.ticks = self.ticks.wrapping_add(1);
                    self.foreign.firewall_may_have_changed();
                    if self.ticks.is_multiple_of(RETRY_TICKS) {
                        self.foreign.retry();
                    }
                    let before = cpu_time();
                    self.look().await;
                    tick = Instant::now() + rest(cpu_time().saturating_sub(before));
                }
            }
        }
    }

    /// Makes the fast path follow; reports what is new since the last look.
    async fn look(&mut self) {
        let now = Timestamp::now();
        let look = self.foreign.look().await;
        for change in &look.changes {
            tracing::info!("{}: {change}", self.place);
        }
        for problem in look.problems.iter().filter(|problem| !self.look.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        match (&self.look.seen, &look.seen) {
            (Some(_), None) => tracing::warn!("{} is not followed until it is back", self.place),
            (None, Some(_)) => tracing::info!("{} is followed", self.place),
            _ => {}
        }
        if look.fast_path != self.look.fast_path {
            tracing::info!("fast path {}", look.fast_path);
        }
        self.reconcile.note(&look.changes, &look.problems, now);
        self.look = look;
    }

    fn snapshot(&self) -> Result<metrics::Snapshot, Refusal> {
        let (status, stats) = (report::status(&self.place, &self.look), self.stats()?);
        Ok(metrics::Snapshot { status, stats, reconcile: self.reconcile, history: None })
    }

    fn stats(&self) -> Result<crate::report::Stats, Refusal> {
        let refuse = |error: AdoptError| Refusal { message: chain(&error) };
        let Some(seen) = &self.look.seen else {
            return Err(Refusal { message: self.look.problems.join("; ") });
        };
        let device = self.foreign.device(seen).map_err(refuse)?;
        let counters = self.foreign.counters().map_err(refuse)?;
        let fast_path = self.look.fast_path.clone();
        Ok(report::stats(&self.place, seen.backend, fast_path, device.as_ref(), counters.as_ref()))
    }

    async fn release(&mut self) -> Reloaded {
        let done = self.foreign.release().await;
        for change in &done.changes {
            tracing::info!("{}: {change}", self.place);
        }
        for problem in &done.problems {
            tracing::warn!("{problem}");
        }
        done
    }

    /// A namespace lives for as long as this process is in it. Once its name stands for nothing, or for another one, this
    /// process is the last to know it, and must let go.
    async fn ends_with_its_namespace(&mut self) -> anyhow::Result<()> {
        let Some(namespace) = self.place.namespace.clone().filter(|namespace| !namespace.stands()) else {
            return Ok(());
        };
        self.release().await;
        let path = namespace.path().display();
        let failure =
            Failure::new(format!("the network namespace of {} has ended: {path} is it no more", self.place));
        Err(failure
            .hint("adopt the interface anew where it is now; a service that starts again does so by itself")
            .into())
    }
}
