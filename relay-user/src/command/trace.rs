//! `relay trace`: what becomes of packets, one by one.
//!
//! A thread reads the ring buffer and prints, for as long as that takes. The other end says each second that somebody
//! still looks, and sees to it that names are right.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use relay_common::{Event, PeerSlot, Trace};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    adopt::Options,
    cli::{Files, TraceArgs},
    failure::Failure,
    kernel::datapath::{DatapathError, Events, Interface, Pins, Tracer, since_boot},
    key::PublicKey,
    name::InterfaceName,
    report::Stats,
    trace::{Lost, Names, Told, bits},
};

/// How often it says that it is still there: a quarter of the lease.
const PERIOD: Duration = Duration::from_secs(1);

/// How long the thread waits at most before it looks whether it shall end, in milliseconds.
const NAP: u16 = 100;

/// How long what is in the ring buffer at the end may take to be told, where stdout is slow.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whose slots these are.
type Slots = BTreeMap<PeerSlot, PublicKey>;

/// Prints verdicts until SIGINT, SIGTERM, or until nobody reads.
///
/// # Errors
/// There is no fast path or no such peer, somebody else traces, or the fast path is taken away meanwhile.
pub async fn run(files: &Files, adopted: Option<&Options>, args: &TraceArgs) -> anyhow::Result<()> {
    super::need_root("trace, since the lines tell who talks to whom")?;
    let stats = super::stats::look(files, adopted).await?;
    let peer = args.peer.as_deref().map(|name| Chosen::of(&stats, name)).transpose()?;
    let name: InterfaceName = stats.interface.parse()?;
    let index = nix::net::if_::if_nametoindex(name.as_str())
        .with_context(|| format!("there is no interface {name}"))?;
    let pins = adopted.map_or_else(|| Pins::new(name.clone()), |adopted| adopted.place.pins());
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;

    let (printer, mut failed) = Printer::new(args.json)?;
    let told = Arc::clone(&printer);
    let (tracer, events) = Tracer::open(&Interface { name, index }, pins, move |event| told.tell(&event))
        .map_err(|error| cannot(error, &stats))?;
    let mut trace =
        Running { tracer, verdicts: bits(&args.verdicts), peer, slots: Slots::new(), lost: Lost::default() };
    trace.rename(&stats, &printer)?;
    trace.ask()?;
    eprintln!("tracing {}, fast path {}; Ctrl-C ends it", stats.interface, stats.fast_path);
    let done = printer.follow(events);

    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            Some(error) = failed.recv() => break Err(anyhow::Error::new(error).context("writing to stdout")),
            _ = tick.tick() => {}
        }
        if nobody_reads() {
            break Ok(());
        }
        if let Err(error) = trace.go_on(files, adopted, &printer).await {
            break Err(error);
        }
    };
    trace.end(&printer, done).await;
    match outcome {
        // Whoever went away has seen enough.
        Err(error) if broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

/// The peer that is asked for.
struct Chosen {
    name: String,
    key: PublicKey,
}

impl Chosen {
    fn of(stats: &Stats, name: &str) -> Result<Self, Failure> {
        let found = stats.peers.iter().find(|peer| peer.name == name);
        found.map(|peer| Self { name: name.to_owned(), key: peer.public_key }).ok_or_else(|| {
            let names: Vec<_> = stats.peers.iter().map(|peer| peer.name.as_str()).collect();
            let there_are = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            Failure::refused(format!("no peer is called \"{name}\"")).hint(format!("there are {there_are}"))
        })
    }
}

/// A trace that runs.
struct Running {
    tracer: Tracer,
    verdicts: u32,
    peer: Option<Chosen>,
    slots: Slots,
    lost: Lost,
}

impl Running {
    /// Makes the names those of whoever has the slots now.
    fn rename(&mut self, stats: &Stats, printer: &Printer) -> anyhow::Result<()> {
        self.slots = self.tracer.slots()?;
        let names: BTreeMap<_, _> = stats.peers.iter().map(|peer| (peer.public_key, &peer.name)).collect();
        let names = self.slots.iter().filter_map(|(slot, key)| Some((*slot, (*names.get(key)?).clone())));
        *printer.names.lock().unwrap_or_else(PoisonError::into_inner) = names.collect();
        Ok(())
    }

    /// Asks for what is wanted, for a while; whether there was a gap.
    fn ask(&mut self) -> anyhow::Result<bool> {
        let slot = match &self.peer {
            None => Trace::ANYBODY,
            Some(Chosen { name, key }) => self.tracer.slot(key)?.ok_or_else(|| {
                Failure::new(format!("peer \"{name}\" takes no part in the fast path"))
                    .hint("`relay peer show` says whether it is disabled, expired or gone")
            })?,
        };
        Ok(self.tracer.ask(self.verdicts, slot)?)
    }

    /// Once a second.
    async fn go_on(
        &mut self,
        files: &Files,
        adopted: Option<&Options>,
        printer: &Printer,
    ) -> anyhow::Result<()> {
        if !self.tracer.stands() {
            return Err(Failure::new(
                "the fast path was taken off, or another version of relay has put its own in place",
            )
            .hint("once relay is up, trace again")
            .into());
        }
        if self.ask()? {
            eprintln!("this machine was too busy to go on, or slept: packets are missing before this moment");
        }
        if self.tracer.slots()? != self.slots {
            // A daemon that is just starting may be slow to answer, and the next second will do.
            if let Ok(Ok(stats)) = timeout(PERIOD, super::stats::look(files, adopted)).await {
                self.rename(&stats, printer)?;
            }
        }
        let told = printer.told.load(Ordering::Relaxed);
        let lost = self.lost.so_far(told, self.tracer.events()?);
        tell_lost(lost, "so far");
        Ok(())
    }

    /// Switches off, and lets what is in the ring buffer be told.
    async fn end(mut self, printer: &Printer, done: oneshot::Receiver<()>) {
        self.tracer.end();
        printer.over.store(true, Ordering::Relaxed);
        if let (Ok(Ok(())), Ok(events)) = (timeout(LAST_WORDS, done).await, self.tracer.events()) {
            let told = printer.told.load(Ordering::Relaxed);
            tell_lost(self.lost.in_the_end(told, events), "in all");
        }
    }
}

fn tell_lost(lost: Option<u64>, when: &str) {
    if let Some(lost) = lost {
        eprintln!(
            "{lost} packets {when} came faster than they could be told; --peer and --verdict make them fewer"
        );
    }
}

/// The end that prints.
struct Printer {
    json: bool,
    zone: TimeZone,
    boot: Timestamp,
    names: Mutex<Names>,
    /// How many events it got.
    told: AtomicU64,
    /// Nothing more shall come.
    over: AtomicBool,
    failed: mpsc::Sender<io::Error>,
}

impl Printer {
    /// One that prints to stdout, and says so when it cannot.
    fn new(json: bool) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<io::Error>)> {
        let (failed, failures) = mpsc::channel(1);
        // Once, so that times do not jump when the clock does.
        let boot = Timestamp::now().checked_sub(since_boot()).context("reading the clock")?;
        let printer = Self {
            json,
            zone: TimeZone::system(),
            boot,
            names: Mutex::default(),
            told: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failed,
        };
        Ok((Arc::new(printer), failures))
    }

    /// Prints what comes, in a thread of its own, which may block; resolves once it is over.
    fn follow<F>(self: &Arc<Self>, mut events: Events<F>) -> oneshot::Receiver<()>
    where
        F: Fn(Event) + Send + Sync + 'static,
    {
        let (done, resolves) = oneshot::channel();
        let printer = Arc::clone(self);
        thread::spawn(move || {
            loop {
                let over = printer.over.load(Ordering::Relaxed);
                // What is there is read also when poll was interrupted.
                let _ = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], PollTimeout::from(NAP));
                events.read();
                if over {
                    break;
                }
            }
            // Nobody may wait for it any more.
            let _ = done.send(());
        });
        resolves
    }

    fn tell(&self, event: &Event) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = Told::of(event, self.boot, &names)
            && let Err(error) = self.print(&told)
        {
            // One failure is enough.
            let _ = self.failed.try_send(error);
        }
        drop(names);
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    fn print(&self, told: &Told<'_>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match self.json {
            true => writeln!(stdout, "{}", serde_json::to_string(told)?),
            false => writeln!(stdout, "{}", told.line(&self.zone)),
        }
    }
}

/// Whether the other end of stdout, a pipe, is closed: also while there is nothing to print.
fn nobody_reads() -> bool {
    let stdout = io::stdout();
    let mut stdout = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let hung_up = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut stdout, PollTimeout::ZERO).is_ok()
        && stdout[0].revents().is_some_and(|events| events.intersects(hung_up))
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says why there is nothing to trace: at a home, say, which has no fast path.
fn cannot(error: DatapathError, stats: &Stats) -> anyhow::Error {
    let off = matches!(error, DatapathError::NotLoaded { .. }) && !stats.fast_path.is_on();
    match off {
        true => {
            let (interface, fast_path) = (&stats.interface, &stats.fast_path);
            Failure::new(format!("nothing to trace: the fast path of {interface} is {fast_path}")).into()
        }
        false => error.into(),
    }
}
