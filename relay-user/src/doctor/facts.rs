//! What was seen, before anybody judges it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{
    initiation::{Opened, Sealed},
    probe::Probe,
};
use crate::{
    config::{Config, DEFAULT_LISTEN_PORT},
    desired::{Backend, Desired},
    firewall::opening,
    kernel::datapath::Hook,
    key::PublicKey,
    observed::{Device, DevicePeer, Link, Observed},
    report::{Standing, Status},
};

/// All of it.
#[derive(Debug)]
pub struct Facts {
    /// The hub's clock.
    pub now: SystemTime,
    /// What could not be seen without root.
    pub unseen: Vec<String>,
    /// relay.toml.
    pub path: PathBuf,
    /// When it was written, by the clock of then.
    pub written: Option<SystemTime>,
    /// What it says, or why that is refused.
    pub config: Result<Config, Refused>,
    /// Who keeps the hub.
    pub daemon: Daemon,
    /// systemd's unit for this very file, where there is one.
    pub service: Option<Service>,
    /// What the kernel has for relay; nothing where we may not ask.
    pub kernel: Option<Kernel>,
    /// Whether the kernel has WireGuard, or why not; nothing where we may not ask.
    pub kernel_wireguard: Option<Result<(), String>>,
    /// The interface of the tunnel's name, whoever's it is.
    pub link: Option<Link>,
    /// Why nobody could listen on the UDP port, where nobody of ours does.
    pub port_taken: Option<String>,
    /// The host by relay's own eyes, or why it could not be read.
    pub host: Result<Host, String>,
    /// Interfaces that carry relay's mark, besides the tunnel.
    pub relays: Vec<OtherRelay>,
    /// The way to the internet.
    pub uplink: Option<Uplink>,
    /// The addresses of what peers dial, or why its name has none; nothing where the file does not say.
    pub endpoint: Option<Result<Vec<IpAddr>, String>>,
    /// Who knocks.
    pub ears: Ears,
    /// WireGuard, read once more after listening.
    pub device: Option<Device>,
    /// What answers through the tunnel, by the peer's name.
    pub probes: BTreeMap<String, Probe>,
    /// Homes that nobody was asked behind, since there are so many.
    pub not_asked: usize,
    /// What the guard in front of the UDP port drops; nothing where there is none, or we may not ask.
    pub knocks: Option<Knocks>,
}

/// What the guard in front of the UDP port drops.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knocks {
    /// Packets a second, while we looked.
    pub per_second: f64,
    /// Packets since it was attached first.
    pub dropped: u64,
    /// Packets by reason while we looked, the most first.
    pub reasons: Vec<(String, u64)>,
    /// Packets by source, of those that were at it during the last minute, the most first.
    pub sources: Vec<(String, u64)>,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// With the place.
    pub message: String,
    /// What to do, where that is known beyond the message.
    pub hint: Option<String>,
    /// Whether it is only that we may not read it.
    pub forbidden: bool,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It answers.
    Runs(Box<Status>),
    /// None runs.
    Absent,
    /// It may run, and we may not ask.
    Forbidden(String),
    /// It is there and does not answer as it should.
    Broken(String),
}

/// relay as a service of systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Whether systemd has given it up.
    pub failed: bool,
}

/// What relay needs of the kernel besides WireGuard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its version, as `uname -r` says it.
    pub release: String,
    /// Whether it runs eBPF at all.
    pub bpf: bool,
    /// How a program is attached to an interface here.
    pub hook: Hook,
    /// Whether the file system is mounted in which the fast path outlives the daemon.
    pub bpffs: bool,
    /// Whether it describes its own types, which relay does not need.
    pub btf: bool,
    /// Whether nftables can be asked, or why not.
    pub nftables: Result<(), String>,
}

/// The host as [`crate::host`] reads it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Who carries the tunnel, or would.
    pub backend: Backend,
    /// What the kernel has.
    pub observed: Observed,
    /// The rules that close a way, in the words of their own tool.
    pub closers: Vec<(opening::Way, String)>,
    /// What the daemon has not done within a moment, or nobody has done where none runs, in words.
    pub drift: Vec<String>,
    /// Whether eBPF forwards.
    pub fast_path: Standing,
    /// How its program is attached.
    pub attached: Option<String>,
}

/// Another interface of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRelay {
    /// Its name.
    pub interface: String,
    /// Whether a daemon keeps it.
    pub runs: bool,
}

/// The way to the internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The interface of the default route.
    pub interface: String,
    /// Every address of this host, the loopback's and the tunnel's left out.
    pub host_addresses: Vec<IpAddr>,
    /// What fits it, and the ways of peers on which less fits.
    pub ways: Vec<Way>,
    /// The card's driver; nothing for what has no card.
    pub driver: Option<String>,
    /// Queues that it receives into.
    pub queues: usize,
    /// Interfaces with an IPv4 default route and strict reverse path filtering, if there is more than one such route.
    pub strict: Vec<String>,
}

/// A way that the tunnel's packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// An interface, or a peer.
    pub whose: String,
    /// The longest packet on it, in bytes.
    pub carries: u32,
    /// What WireGuard puts around the tunnel's packets there, in bytes.
    pub around: u32,
}

/// What WireGuard puts around a packet, in bytes: IPv4 or IPv6, UDP, its header and tag (20 or 40, 8, 32).
#[must_use]
pub const fn around(ipv6: bool) -> u32 {
    if ipv6 { 80 } else { 60 }
}

/// Who knocks at the listen port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ears {
    /// There was no need to listen: everybody is in, or nobody can be, or we may not.
    Unused,
    /// We could not listen, and why.
    Deaf(String),
    /// We have listened.
    Listened {
        /// What told something, in the order in which it came.
        heard: Vec<Heard>,
        /// Whether everything that came was looked at.
        whole: bool,
    },
}

/// A handshake that somebody began while we listened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Where it came from.
    pub from: std::net::SocketAddr,
    /// When it came, by this host's clock.
    pub at: SystemTime,
    /// What it says.
    pub opened: Result<Opened, Sealed>,
}

/// How long ago a handshake may be for a peer to count as connected: WireGuard's REJECT_AFTER_TIME (whitepaper 6.1).
pub const CONNECTED: Duration = Duration::from_secs(180);

/// What a clock may be off before it is worth a word.
pub const SLACK: Duration = Duration::from_secs(60);

/// The UDP port of a hub; the doctor looks at no other end.
pub(super) fn listen_port(desired: &Desired) -> u16 {
    desired.listen_port().unwrap_or(DEFAULT_LISTEN_PORT)
}

impl Facts {
    /// The file's meaning, if it has one.
    #[must_use]
    pub fn desired(&self) -> Option<&Desired> {
        self.config.as_ref().ok().map(|config| &config.desired)
    }

    /// The clock as the file's expiries are judged by.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::try_from(self.now).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The daemon's word, if it gives one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match &self.daemon {
            Daemon::Runs(status) => Some(status),
            _ => None,
        }
    }

    /// The handshakes that were heard.
    #[must_use]
    pub fn heard(&self) -> &[Heard] {
        match &self.ears {
            Ears::Listened { heard, .. } => heard,
            Ears::Unused | Ears::Deaf(_) => &[],
        }
    }

    /// Whether somebody who knocks would have been heard.
    #[must_use]
    pub fn has_listened(&self) -> bool {
        matches!(self.ears, Ears::Listened { whole: true, .. })
    }

    /// The peer as WireGuard has it.
    #[must_use]
    pub fn live(&self, key: &PublicKey) -> Option<&DevicePeer> {
        self.device.as_ref()?.peers.get(key)
    }

    /// The peer as WireGuard had it before we listened.
    #[must_use]
    pub fn before(&self, key: &PublicKey) -> Option<&DevicePeer> {
        self.host.as_ref().ok()?.observed.device.as_ref()?.peers.get(key)
    }

    /// How long ago a handshake was; one from the future was just now.
    #[must_use]
    pub fn age(&self, handshake: SystemTime) -> Duration {
        self.now.duration_since(handshake).unwrap_or_default()
    }

    /// Whether the peer has shaken hands lately.
    #[must_use]
    pub fn is_connected(&self, key: &PublicKey) -> bool {
        let handshake = self.live(key).and_then(|live| live.latest_handshake);
        // One from the future proves nothing about now.
        handshake.is_some_and(|at| at <= self.now + SLACK && self.age(at) < CONNECTED)
    }
}
