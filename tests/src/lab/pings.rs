//! A ping every 10 ms for as long as something takes, and an exact count of what was not answered: the pings end with
//! the last one sent, not with the last one that was in time.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{
    guest::patience,
    netns::{Netns, wait_for},
};

/// From one ping to the next.
const PAUSE: Duration = Duration::from_millis(10);
/// How long an answer is waited for; one takes 1 ms.
const LAST: Duration = Duration::from_secs(2);
/// ICMP's echo request and its answer (RFC 792).
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// Pings that are under way.
pub struct Pings {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: JoinHandle<Tally>,
}

/// What came of them.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Pings sent, those that the machine itself refused to send among them.
    pub sent: u32,
    /// Pings without an answer, by their numbers.
    pub lost: Vec<usize>,
}

impl Pings {
    /// Starts to ping an address from a machine.
    pub fn start(machine: &Netns, to: Ipv4Addr) -> Result<Self> {
        // The kernel lets only the groups named here open a socket for ping (icmp(7)).
        machine.inside(|| Ok(std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?))?;
        let socket = machine.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Icmp)?;
            let socket = UdpSocket::from(socket);
            socket.connect((to, 0)).with_context(|| format!("reaching {to}"))?;
            Ok(socket)
        })?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || ping(&socket, &stopped, &counted));
        Ok(Self { stop, sent, thread })
    }

    /// How many were sent so far.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more are sent.
    pub fn more(&self, count: u32, deadline: Duration) -> Result<()> {
        let enough = self.sent() + count;
        wait_for("pings", deadline, || {
            ensure!(self.sent() >= enough, "{} of {enough} sent", self.sent());
            Ok(())
        })
    }

    /// Sends no more and waits for the last answers.
    pub fn end(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the pings panicked"))
    }
}

fn ping(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicU32) -> Tally {
    let mut answered: Vec<bool> = Vec::new();
    let send = |answered: &mut Vec<bool>| {
        // What cannot be sent is not answered, and counted by that.
        let _ = socket.send(&request(answered.len()));
        answered.push(false);
        sent.fetch_add(1, Ordering::Relaxed);
    };
    // The first goes alone until it is answered. Of two that come together to a NAT which does not know them yet, its
    // connection tracking drops the second (`nf_ct_resolve_clash`, net/netfilter/nf_conntrack_core.c).
    send(&mut answered);
    take_all(socket, &mut answered);
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + PAUSE;
        send(&mut answered);
        while Instant::now() < next {
            take_until(socket, next, &mut answered);
        }
    }
    take_all(socket, &mut answered);
    let lost = answered.iter().enumerate().filter(|(_, is)| !**is).map(|(number, _)| number).collect();
    Tally { sent: sent.load(Ordering::Relaxed), lost }
}

/// Waits until all are answered that were sent, for as long as an answer may take.
fn take_all(socket: &UdpSocket, answered: &mut [bool]) {
    let end = Instant::now() + patience(LAST);
    while answered.contains(&false) && Instant::now() < end {
        take_until(socket, Instant::now() + PAUSE, answered);
    }
}

/// Marks what is answered until that time.
fn take_until(socket: &UdpSocket, until: Instant, answered: &mut [bool]) {
    let mut buffer = [0; 64];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(answer) = number(&buffer[..length]).and_then(|number| answered.get_mut(number)) {
                    *answer = true;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error in place of an answer: the ping stays unanswered.
            Err(_) => {}
        }
    }
}

/// An echo request. The kernel fills in identifier and checksum; the number is the sequence and, whole, the data.
fn request(number: usize) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = REQUEST;
    packet[6..8].copy_from_slice(&(number as u16).to_be_bytes());
    packet[8..].copy_from_slice(&(number as u64).to_be_bytes());
    packet
}

/// The number that a reply answers.
fn number(packet: &[u8]) -> Option<usize> {
    let number = packet.get(8..16).filter(|_| packet[0] == REPLY)?;
    usize::try_from(u64::from_be_bytes(number.try_into().ok()?)).ok()
}
