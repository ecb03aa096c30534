//! What is still to do: a pure function from what shall be and what is to the changes between them.
//!
//! No I/O, no async, nothing remembered. [`crate::host`] performs one [`Change`] at a time, in the order given here,
//! and the order is part of the meaning: what guards comes before what opens, and what withdraws a prefix from the
//! fast path before what takes it from WireGuard. With nothing to do the list is empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use ipnet::IpNet;
use relay_common::Route;

use crate::{
    datapath_plan,
    desired::{Backend, Desired, FastPathMode, Peer, Role, Uplink, UplinkMode},
    firewall::{
        exit,
        opening::{Opening, Ours},
        table,
    },
    kernel::sysctl::Sysctl,
    key::PublicKey,
    maps::{self, DatapathState, MapChange, Maps},
    observed::{DevicePeer, KernelRoute, Link, Observed, ROUTE_PROTOCOL},
    report::Standing,
    side_by_side::side_by_side,
    uplink::{self, UplinkChange, UplinkDevice, UplinkObserved, UplinkState, XdpHook},
};

/// One step, with one effect and one error.
///
/// It carries no secret: keys are looked up in [`Desired`] when the step is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Take the program off the interface, pins included.
    UnloadFastPath,
    /// Change the fast path's maps. Such a step comes twice: first what takes away, before WireGuard and the routes
    /// change, then what gives, after them.
    SetMaps(Vec<MapChange>),
    /// Give the tunnel interface, which somebody renamed, its name back.
    TakeBack(Link),
    /// Make the tunnel interface.
    CreateLink(Backend),
    /// Set the interface's MTU.
    SetMtu(u32),
    /// Give WireGuard its private key, its port, or both.
    Configure {
        /// Set the key.
        key: bool,
        /// Set the port.
        port: bool,
    },
    /// Remove peers from WireGuard.
    RemovePeers(BTreeSet<PublicKey>),
    /// Add peers to WireGuard, or set what differs; sessions and live endpoints stay.
    SetPeers(BTreeSet<PublicKey>),
    /// Dial the hub there from now on.
    Dial(PublicKey, SocketAddr),
    /// Take an address off the interface.
    RemoveAddress(IpNet),
    /// Give the interface an address.
    AddAddress(IpNet),
    /// Bring the interface up.
    SetUp,
    /// Write our nftables table anew.
    ReplaceTable,
    /// Set a sysctl; the value it had is kept for `relay down`.
    SetSysctl(Sysctl, String),
    /// Remove a route of ours.
    RemoveRoute(KernelRoute),
    /// Route a prefix into the tunnel.
    AddRoute(IpNet),
    /// Open what a firewall of the admin closes.
    Open(Opening),
    /// Close what relay opened and is of no use any more.
    Close(Ours),
    /// Load the program, fill its maps, and attach it or replace what is attached.
    LoadFastPath,
    /// Take the guard off the uplink, pins included.
    UnloadUplink,
    /// Change what the guard goes by.
    SetUplink(Vec<UplinkChange>),
    /// Load the guard, fill its maps, and attach it or replace what is attached.
    LoadUplink(UplinkDevice),
}

impl Change {
    /// Whether a hub without it is no hub: starting fails with it.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        matches!(
            self,
            Self::TakeBack(_)
                | Self::CreateLink(_)
                | Self::Configure { .. }
                | Self::SetPeers(_)
                | Self::AddAddress(_)
                | Self::SetUp
                | Self::ReplaceTable
        )
    }

    /// What was done, with the names that `desired` has for a few peers: `set the peers home, phone`.
    #[must_use]
    pub fn told(&self, desired: &Desired) -> String {
        let Self::SetPeers(keys) = self else { return self.to_string() };
        let names: Vec<_> =
            keys.iter().filter_map(|key| Some(desired.peers.get(key)?.name.as_str())).collect();
        match names[..] {
            [name] => format!("set the peer {name}"),
            [] | [_, _, _, _, ..] => self.to_string(),
            _ => format!("set the peers {}", names.join(", ")),
        }
    }

    /// Whether it only follows the tunnel's life from one moment to the next, so that nobody needs to be told.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::SetUplink(changes) if changes.iter().all(UplinkChange::is_routine))
    }

    /// Whether another change may be due once it is made. What only writes down what was decided leads to nothing more,
    /// but for an endpoint: a peer that gets one gets its ways in the fast path's maps.
    #[must_use]
    pub fn leads_on(&self, desired: &Desired, observed: &Observed) -> bool {
        match self {
            Self::SetMaps(_) | Self::SetUplink(_) | Self::RemovePeers(_) => false,
            Self::SetPeers(keys) => keys.iter().any(|key| gets_endpoint(key, desired, observed).is_some()),
            _ => true,
        }
    }

    /// Whether it opens a way into the tunnel, so that without the guard it must not be made.
    #[must_use]
    pub fn opens_a_way(&self) -> bool {
        matches!(self, Self::SetUp | Self::AddAddress(_) | Self::SetSysctl(..) | Self::AddRoute(_))
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in their order.
    pub changes: Vec<Change>,
    /// How many peers and prefixes find no room in the fast path's maps and go by the kernel's own path.
    pub left_out: usize,
}

/// The steps from `observed` to `desired`.
#[must_use]
pub fn plan(desired: &Desired, backend: Backend, observed: &Observed, fast_path: &Standing) -> Plan {
    if let (None, Some(renamed)) = (&observed.link, &observed.renamed) {
        // Sessions, addresses and fast path are all on it; what is amiss under its own name shows at the next look.
        return Plan { changes: vec![Change::TakeBack(renamed.clone())], ..Plan::default() };
    }
    let mut changes = Vec::new();
    let Publications { gives, left_out } = datapath(desired, observed, fast_path, &mut changes);
    // Before WireGuard has another key or port, so that the guard knows both meanwhile.
    guard_of_uplink(desired, observed, &mut changes);
    guard(desired, observed, &mut changes);
    interface(desired, backend, observed, &mut changes);
    dial(desired, observed, &mut changes);
    forwarding(desired, backend, observed, &mut changes);
    routes(desired, observed, &mut changes);
    changes.extend(gives);
    Plan { changes, left_out }
}

/// What the fast path's maps are to be given, and what they have no room for.
#[derive(Default)]
struct Publications {
    gives: Option<Change>,
    left_out: usize,
}

/// Puts what takes away into `changes`; returns what gives, for the end of the list.
fn datapath(
    desired: &Desired,
    observed: &Observed,
    fast_path: &Standing,
    changes: &mut Vec<Change>,
) -> Publications {
    if desired.fast_path() == FastPathMode::Off {
        if observed.fast_path_pinned {
            changes.push(Change::UnloadFastPath);
        }
        return Publications::default();
    }
    // A filter of clsact goes on without its pins, by which the next daemon would have to find its maps.
    let stands = observed.attached.is_some() && observed.fast_path_pinned;
    let Some(state) = observed.maps.as_ref().filter(|_| stands) else {
        return Publications { gives: Some(Change::LoadFastPath), left_out: 0 };
    };
    let wanted = wanted(desired, observed, state);
    let mut takes = datapath_plan::diff(&wanted, fast_path.is_on(), state);
    let gives = takes.split_off(takes.iter().take_while(|change| takes_away(change)).count());
    if !takes.is_empty() {
        changes.push(Change::SetMaps(takes));
    }
    let gives = (!gives.is_empty()).then_some(Change::SetMaps(gives));
    Publications { gives, left_out: wanted.overflow }
}

/// What is still to change in maps that hold `state`.
#[must_use]
pub fn map_changes(
    desired: &Desired,
    observed: &Observed,
    on: bool,
    state: &DatapathState,
) -> Vec<MapChange> {
    datapath_plan::diff(&wanted(desired, observed, state), on, state)
}

fn wanted(desired: &Desired, observed: &Observed, state: &DatapathState) -> Maps {
    let index = observed.link.as_ref().map_or(0, |link| link.index);
    let device = observed.device.as_ref();
    datapath_plan::desired_maps(&desired.into(), device, index, &observed.routes, &state.slots)
}

fn takes_away(change: &MapChange) -> bool {
    match change {
        MapChange::Enable(on) => !on,
        MapChange::SetHost(_, route) | MapChange::SetLan(_, route) => *route == Route::STACK,
        MapChange::RemoveHost(_) | MapChange::RemoveLan(_) => true,
        // The first of all, whatever it says: it is true of what the maps hold already.
        MapChange::AllDirect(_) => true,
        // What is written after it goes by it.
        MapChange::Network6(_) => true,
        MapChange::AssignSlot(..) | MapChange::FreeSlot(_) => false,
    }
}

/// The guard in front of the listen port: off, or on the device that leads to the internet, with maps that say what is.
fn guard_of_uplink(desired: &Desired, observed: &Observed, changes: &mut Vec<Change>) {
    let UplinkObserved { device, hook, maps, pinned, .. } = &observed.uplink;
    let wanted = desired.uplink().filter(|uplink| uplink.mode != UplinkMode::Off);
    let (Some(uplink), Some(device)) = (wanted, device) else {
        changes.extend(pinned.then_some(Change::UnloadUplink));
        return;
    };
    match (hook, maps) {
        // What is somebody else's is left alone, and what is ours and elsewhere guards nothing.
        (XdpHook::Foreign(_), _) => changes.extend(pinned.then_some(Change::UnloadUplink)),
        (XdpHook::Ours(mode), Some(state)) if *mode == uplink.mode => {
            let writes = uplink_changes(desired, uplink, observed, state);
            // Those that are routine stand apart: the others are told.
            let (routine, told) = writes.into_iter().partition::<Vec<_>, _>(UplinkChange::is_routine);
            changes.extend(
                [told, routine].into_iter().filter(|writes| !writes.is_empty()).map(Change::SetUplink),
            );
        }
        (XdpHook::Ours(_) | XdpHook::Free, _) => changes.push(Change::LoadUplink(device.clone())),
    }
}

/// What is still to change in the guard's maps that hold `state`.
#[must_use]
pub fn uplink_changes(
    desired: &Desired,
    uplink: &Uplink,
    observed: &Observed,
    state: &UplinkState,
) -> Vec<UplinkChange> {
    uplink::diff(&uplink::wanted(desired, uplink, observed, &state.settings), state)
}

fn interface(desired: &Desired, backend: Backend, observed: &Observed, changes: &mut Vec<Change>) {
    let Some(link) = &observed.link else {
        changes.push(Change::CreateLink(backend));
        changes.push(Change::SetMtu(desired.mtu));
        changes.push(Change::Configure { key: true, port: desired.listen_port().is_some() });
        if !desired.peers.is_empty() {
            changes.push(Change::SetPeers(desired.peers.keys().copied().collect()));
        }
        changes.extend(desired.addresses.iter().map(|&address| Change::AddAddress(address)));
        changes.push(Change::SetUp);
        return;
    };
    if link.mtu != desired.mtu {
        changes.push(Change::SetMtu(desired.mtu));
    }
    let device = observed.device.as_ref();
    let key = device.and_then(|device| device.public_key) != Some(desired.private_key.public_key());
    // Nobody dials a home, so any port is good.
    let port =
        desired.listen_port().is_some_and(|port| device.map(|device| device.listen_port) != Some(port));
    if key || port {
        changes.push(Change::Configure { key, port });
    }
    let live = device.map(|device| &device.peers);
    peers(desired, live.unwrap_or(&BTreeMap::new()), changes);
    changes.extend(
        observed.addresses.difference(&desired.addresses).map(|&address| Change::RemoveAddress(address)),
    );
    changes.extend(
        desired.addresses.difference(&observed.addresses).map(|&address| Change::AddAddress(address)),
    );
    if !link.up {
        changes.push(Change::SetUp);
    }
}

fn peers(desired: &Desired, live: &BTreeMap<PublicKey, DevicePeer>, changes: &mut Vec<Change>) {
    let remove: BTreeSet<_> = live.keys().filter(|key| !desired.peers.contains_key(key)).copied().collect();
    let differs = |peer: &Peer, live: Option<&DevicePeer>| {
        live.is_none_or(|live| !holds(peer, desired.keepalive_toward(peer), live))
    };
    let set = side_by_side(&desired.peers, live)
        .filter(|(_, peer, live)| peer.is_some_and(|peer| differs(peer, *live)));
    let set: BTreeSet<_> = set.map(|(key, ..)| *key).collect();
    // A prefix that moves from one peer to another leaves the first before the second gets it, since the removal
    // comes first; between two peers that both stay, WireGuard itself moves it.
    if !remove.is_empty() {
        changes.push(Change::RemovePeers(remove));
    }
    if !set.is_empty() {
        changes.push(Change::SetPeers(set));
    }
}

/// The endpoint that a peer is to be given, if any: one that was heard from is where it was heard.
#[must_use]
pub fn gets_endpoint(key: &PublicKey, desired: &Desired, observed: &Observed) -> Option<SocketAddr> {
    let live = observed.device.as_ref().and_then(|device| device.peers.get(key));
    desired.peers.get(key)?.endpoint.filter(|_| live.is_none_or(|live| live.endpoint.is_none()))
}

/// Whether a live peer is as the file says. Where it was heard last is its own affair, unless the file names an
/// endpoint and it has none.
fn holds(peer: &Peer, keepalive: Option<u16>, live: &DevicePeer) -> bool {
    live.allowed_ips.len() == peer.allowed_ips().count()
        && peer.allowed_ips().all(|prefix| live.allowed_ips.contains(&prefix))
        && live.preshared_key == peer.preshared_key
        && live.keepalive == keepalive
        && (peer.endpoint.is_none() || live.endpoint.is_some())
}

/// A silent hub is dialled where its name leads now, and any hub where another file says. One that answers is left where
/// it answers from, and so is one that is silent at an address that its name still has.
fn dial(desired: &Desired, observed: &Observed, changes: &mut Vec<Change>) {
    let Some(home) = desired.home() else { return };
    let live = observed.device.as_ref().and_then(|device| device.peers.get(&home.hub));
    let Some(live) = live else { return };
    if live.endpoint.is_some_and(|at| observed.hub_addresses.contains(&at)) {
        return;
    }
    // Through the tunnel itself nobody is dialled, whatever the name says.
    let beyond: Vec<IpNet> = desired.peers.values().flat_map(Peer::allowed_ips).collect();
    let outside = |at: &&SocketAddr| beyond.iter().all(|net| !net.contains(&at.ip()));
    changes.extend(observed.hub_addresses.iter().find(outside).map(|&at| Change::Dial(home.hub, at)));
}

/// The table that keeps strangers out stands before there is a tunnel to keep them out of: on many hosts something
/// else has switched forwarding on long before.
fn guard(desired: &Desired, observed: &Observed, changes: &mut Vec<Change>) {
    if observed.table.as_ref() != Some(&wanted_table(desired, observed)) {
        changes.push(Change::ReplaceTable);
    }
}

/// Our nftables table as it shall be.
#[must_use]
pub fn wanted_table(desired: &Desired, observed: &Observed) -> table::Table {
    let (interface, allow_from) = (desired.interface.as_str(), &desired.firewall.allow_from);
    match &desired.role {
        Role::Hub(_) => table::desired(interface, allow_from, &exit::exits(desired, &observed.uplinks)),
        Role::Home(home) => table::of_home(interface, allow_from, &home.lans, home.nat),
    }
}

fn forwarding(desired: &Desired, backend: Backend, observed: &Observed, changes: &mut Vec<Change>) {
    for (sysctl, value) in sysctls(desired, backend, observed) {
        // A sysctl that this kernel lacks (IPv6 switched off at boot) is not missed.
        if observed.sysctls.get(&sysctl).is_some_and(|now| *now != value) {
            changes.push(Change::SetSysctl(sysctl, value));
        }
    }
    if desired.firewall.manage {
        changes
            .extend(observed.openings.iter().filter(|opening| !opening.by_hand).cloned().map(Change::Open));
    }
    changes.extend(observed.stale_openings.iter().cloned().map(Change::Close));
}

/// The sysctls that forwarding needs, in the order in which they must be set.
#[must_use]
pub fn sysctls(desired: &Desired, backend: Backend, observed: &Observed) -> Vec<(Sysctl, String)> {
    let forwarded: Vec<IpNet> = match &desired.role {
        Role::Hub(_) => {
            let lans = desired.peers.values().flat_map(|peer| peer.lans.iter().copied());
            desired.addresses.iter().copied().chain(lans).collect()
        }
        Role::Home(home) => home.lans.iter().copied().collect(),
    };
    let families = || forwarded.iter().copied();
    let mut wanted = Vec::new();
    if families().any(|prefix| matches!(prefix, IpNet::V4(_))) {
        // Kernel WireGuard switches redirects off for all when it opens (drivers/net/wireguard/device.c, wg_open): a
        // hub that forwards back into its only interface would send one for every first packet.
        if backend == Backend::Userspace && desired.home().is_none() {
            wanted.push((Sysctl::all_send_redirects(), "0".to_owned()));
        }
        wanted.push((Sysctl::Ipv4Forward, "1".to_owned()));
    }
    if families().any(|prefix| matches!(prefix, IpNet::V6(_))) {
        // Forwarding makes the kernel ignore router advertisements unless accept_ra is 2
        // (Documentation/networking/ip-sysctl.rst); a VPS that has its IPv6 default route from one would lose it.
        // At 0 the kernel ignores them anyway, and systemd-networkd or NetworkManager listens in its place.
        let listens = |sysctl: &Sysctl| observed.sysctls.get(sysctl).is_some_and(|value| value == "1");
        let accept_ra = observed.router_advertised.iter().cloned().map(Sysctl::AcceptRa);
        wanted.extend(accept_ra.filter(listens).map(|sysctl| (sysctl, "2".to_owned())));
        wanted.push((Sysctl::Ipv6Forward, "1".to_owned()));
    }
    wanted
}

/// Every prefix of a peer that no address of the interface covers is routed into the tunnel.
fn routes(desired: &Desired, observed: &Observed, changes: &mut Vec<Change>) {
    let connected = |prefix: &IpNet| desired.addresses.iter().any(|address| address.trunc().contains(prefix));
    let wanted: BTreeSet<IpNet> =
        desired.peers.values().flat_map(Peer::allowed_ips).filter(|prefix| !connected(prefix)).collect();
    let index = observed.link.as_ref().map(|link| link.index);
    let ours = |route: &&KernelRoute| {
        route.protocol == ROUTE_PROTOCOL && route.interface == index && index.is_some()
    };
    let standing: BTreeSet<IpNet> =
        observed.routes.iter().filter(ours).map(|route| route.destination).collect();
    let stale = observed.routes.iter().filter(ours).filter(|route| !wanted.contains(&route.destination));
    changes.extend(stale.cloned().map(Change::RemoveRoute));
    changes.extend(wanted.difference(&standing).map(|&prefix| Change::AddRoute(prefix)));
}

impl fmt::Display for Change {
    /// What was done, in words: `created the interface (kernel WireGuard)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |n: usize| if n == 1 { "1 peer".to_owned() } else { format!("{n} peers") };
        match self {
            Self::UnloadFastPath => f.write_str("take the fast path off the interface"),
            Self::SetMaps(changes) => f.write_str(&maps::in_words(changes)),
            Self::TakeBack(link) => write!(f, "give the interface its name back, from {}", link.name),
            Self::CreateLink(Backend::Kernel) => f.write_str("create the interface (kernel WireGuard)"),
            Self::CreateLink(Backend::Userspace) => f.write_str("create the interface (userspace WireGuard)"),
            Self::SetMtu(mtu) => write!(f, "set the interface's MTU to {mtu}"),
            Self::Configure { key: true, port: true } => {
                f.write_str("set the private key and the listen port")
            }
            Self::Configure { key: true, .. } => f.write_str("set the private key"),
            Self::Configure { .. } => f.write_str("set the listen port"),
            Self::RemovePeers(keys) => write!(f, "remove {}", counted(keys.len())),
            Self::SetPeers(keys) => write!(f, "set {}", counted(keys.len())),
            Self::Dial(_, address) => write!(f, "dial the hub at {address}"),
            Self::RemoveAddress(address) => write!(f, "remove the address {address}"),
            Self::AddAddress(address) => write!(f, "add the address {address}"),
            Self::SetUp => f.write_str("bring the interface up"),
            Self::ReplaceTable => f.write_str("write the nftables table `inet relay`"),
            Self::SetSysctl(sysctl, value) => write!(f, "set {} = {value}", sysctl.name()),
            Self::RemoveRoute(route) => write!(f, "remove the route to {}", route.destination),
            Self::AddRoute(prefix) => write!(f, "route {prefix} into the tunnel"),
            Self::Open(opening) => write!(f, "open the firewall: {}", opening.command),
            Self::Close(ours) => write!(f, "close what relay had opened: {}", ours.text),
            Self::LoadFastPath => f.write_str("load and attach the fast path"),
            Self::UnloadUplink => f.write_str("take the guard off the uplink"),
            Self::SetUplink(_) => f.write_str("change what the guard of the uplink goes by"),
            Self::LoadUplink(device) => write!(f, "load and attach the guard of the uplink, {}", device.name),
        }
    }
}

#[cfg(test)]
mod tests;
