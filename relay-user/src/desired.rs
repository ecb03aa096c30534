//! What the configuration means: every default resolved, every clash refused.
//!
//! [`crate::config`] makes a [`Desired`]; [`crate::plan`] compares it with what the kernel has.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::key::{PresharedKey, PrivateKey, PublicKey};
pub use crate::name::{InterfaceName, PeerName};

/// This machine's end of the tunnel as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The tunnel interface, `wg0` by default.
    pub interface: InterfaceName,
    /// Which WireGuard carries it.
    pub backend: BackendChoice,
    /// Largest IP packet in the tunnel, bytes, 1,280 to 65,456 (576 to … where no address is IPv6).
    pub mtu: u32,
    /// Its own addresses, each with the prefix of its subnet.
    pub addresses: BTreeSet<IpNet>,
    /// Its key.
    pub private_key: PrivateKey,
    /// What relay may do to the firewall.
    pub firewall: Firewall,
    /// The peers that are enabled; at a home the hub alone.
    pub peers: BTreeMap<PublicKey, Peer>,
    /// Which end it is, with what only that end has.
    pub role: Role,
}

/// The two ends of a tunnel that relay runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everybody dials it, and it forwards between them.
    Hub(Hub),
    /// It dials the hub, and forwards between the tunnel and its LANs.
    Home(Home),
}

/// What only the hub has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// UDP port that peers dial, 1 to 65,535.
    pub listen_port: u16,
    /// What peers dial, `host:port`; `None` when nothing but the file could tell.
    pub endpoint: Option<String>,
    /// When the fast path is on.
    pub fast_path: FastPathMode,
    /// The guard in front of the listen port.
    pub uplink: Uplink,
}

/// `[uplink]`: the guard in front of the listen port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The interface that leads to the internet; `None` for the one with the default route.
    pub interface: Option<InterfaceName>,
    /// How the program is attached, if at all.
    pub mode: UplinkMode,
    /// From there nothing gets to the listen port.
    pub deny: BTreeSet<IpNet>,
    /// From there handshakes are not limited. Of two prefixes of both sets the longer one counts.
    pub allow: BTreeSet<IpNet>,
}

/// What only a home has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The hub's key, that of the one peer.
    pub hub: PublicKey,
    /// Where the hub is dialled, `host:port`; a name stays a name and is looked up again when the hub falls silent.
    pub endpoint: String,
    /// The networks that are reached through this machine.
    pub lans: BTreeSet<IpNet>,
    /// Whether the LANs see this machine's address in place of the peers'; else their router needs a route.
    pub nat: bool,
}

/// One peer as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, unique in the file.
    pub name: PeerName,
    /// Mixed into the handshake if given.
    pub preshared_key: Option<PresharedKey>,
    /// Its addresses in the tunnel.
    pub addresses: BTreeSet<IpAddr>,
    /// Networks behind it, routed to it.
    pub lans: BTreeSet<IpNet>,
    /// Where the hub dials it, if the hub shall dial at all (a peer behind NAT dials the hub).
    pub endpoint: Option<SocketAddr>,
    /// Seconds between the keepalives of the end that is behind NAT (RFC-less; WireGuard's `PersistentKeepalive`, 1 to
    /// 65,535): at the hub what the *peer's* own configuration says, at a home what this machine sends.
    pub keepalive: Option<u16>,
    /// The MTU of its own configuration, bytes; `None` for the hub's.
    pub mtu: Option<u32>,
    /// Resolvers and search domains of its own configuration, in order.
    pub dns: Vec<Resolver>,
    /// Whether it sends everything through the hub, which then masquerades what goes to the internet.
    pub full_tunnel: bool,
    /// From this moment on it takes no part.
    pub expires: Option<Timestamp>,
}

impl Peer {
    /// What WireGuard calls allowed IPs: its addresses as host prefixes, then its LANs. Each comes once, since no LAN may
    /// lie in the tunnel's subnets.
    pub fn allowed_ips(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().map(|&address| IpNet::from(address)).chain(self.lans.iter().copied())
    }

    /// Whether its time is over: from the very moment of its expiry on.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|moment| moment <= now)
    }
}

impl Desired {
    /// Where peers dial this machine; `None` where nobody does.
    #[must_use]
    pub fn listen_port(&self) -> Option<u16> {
        match &self.role {
            Role::Hub(hub) => Some(hub.listen_port),
            Role::Home(_) => None,
        }
    }

    /// When the fast path is on: at a home never, where nothing goes from tunnel to tunnel.
    #[must_use]
    pub fn fast_path(&self) -> FastPathMode {
        match &self.role {
            Role::Hub(hub) => hub.fast_path,
            Role::Home(_) => FastPathMode::Off,
        }
    }

    /// The guard in front of the listen port; `None` at a home, which has none that anybody dials.
    #[must_use]
    pub fn uplink(&self) -> Option<&Uplink> {
        match &self.role {
            Role::Hub(hub) => Some(&hub.uplink),
            Role::Home(_) => None,
        }
    }

    /// What peers are told to dial, where the file says so.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        match &self.role {
            Role::Hub(hub) => hub.endpoint.as_deref(),
            Role::Home(_) => None,
        }
    }

    /// What a home has; `None` at a hub.
    #[must_use]
    pub fn home(&self) -> Option<&Home> {
        match &self.role {
            Role::Hub(_) => None,
            Role::Home(home) => Some(home),
        }
    }

    /// Seconds between the keepalives that *this* machine sends: a home keeps its NAT's mapping alive; the hub has a
    /// public address, and leaves that to its peers.
    #[must_use]
    pub fn keepalive_toward(&self, peer: &Peer) -> Option<u16> {
        self.home().and(peer.keepalive)
    }

    /// What of it is in force at a moment: all but the peers that have expired.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> Cow<'_, Self> {
        if !self.peers.values().any(|peer| peer.has_expired(now)) {
            return Cow::Borrowed(self);
        }
        let mut desired = self.clone();
        desired.peers.retain(|_, peer| !peer.has_expired(now));
        Cow::Owned(desired)
    }

    /// The names of the peers that have expired.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<&PeerName> {
        let expired = self.peers.values().filter(|peer| peer.has_expired(now));
        let mut names: Vec<&PeerName> = expired.map(|peer| &peer.name).collect();
        names.sort();
        names
    }
}

/// One entry of `dns`, as wg-quick's `DNS` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// A name server.
    Server(IpAddr),
    /// A search domain.
    Search(String),
}

impl std::fmt::Display for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(address) => address.fmt(f),
            Self::Search(domain) => f.write_str(domain),
        }
    }
}

/// `backend = "auto" | "kernel" | "userspace"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The kernel's where there is one, else userspace.
    #[default]
    Auto,
    /// The kernel's or none.
    Kernel,
    /// gotatun inside the daemon, on a TUN device.
    Userspace,
}

/// Which WireGuard carries the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The kernel's module: everything survives the daemon.
    Kernel,
    /// gotatun inside the daemon: the tunnel lives and dies with it.
    Userspace,
}

/// `fast_path = "auto" | "always" | "off"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FastPathMode {
    /// On only while the host provably leaves tunnel-to-tunnel traffic alone.
    #[default]
    Auto,
    /// On by the admin's explicit word, whatever the firewall says.
    Always,
    /// Never loaded.
    Off,
}

/// `mode = "native" | "generic" | "off"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkMode {
    /// In the driver, where it can; else not at all.
    #[default]
    Native,
    /// In the kernel's stack, for drivers that cannot: dearer, and it switches GRO off on the interface.
    Generic,
    /// Not at all.
    Off,
}

/// `[firewall]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Whether relay opens what is closed, through the owner of the chain; otherwise it prints the command.
    pub manage: bool,
    /// Who besides the peers may open connections into the tunnel.
    pub allow_from: BTreeSet<AllowFrom>,
}

/// One entry of `allow_from`: an interface or the prefix of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowFrom {
    /// Everything that enters by this interface.
    Interface(InterfaceName),
    /// Everything from this prefix.
    Prefix(IpNet),
}
