//! The peers of a file: read one by one, then checked against the hub, the host and one another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::PathBuf,
};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    endpoint::socket_address,
    meaning::{Context, Hub, key_file},
    own,
    prefix::{self, clashes, is_reserved_in, overlap, reserved},
    written::PeerWritten,
};
use crate::{
    desired::{Peer, PeerName},
    key::PublicKey,
};

/// Often enough for the shortest UDP timeout that carrier-grade NATs are known for (WireGuard's own advice).
const KEEPALIVE_BEHIND_NAT: u16 = 25;

/// The peers that are accepted.
pub(super) struct Peers {
    pub(super) enabled: BTreeMap<PublicKey, Peer>,
    pub(super) disabled: BTreeMap<PublicKey, Peer>,
}

/// What a peer is called in messages: `peer "home"`, or its number where the name cannot be shown.
#[derive(Clone, Copy)]
pub(super) struct Label<'a> {
    peer: &'a PeerWritten,
    index: usize,
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer.name.get_ref().parse::<PeerName>() {
            Ok(name) => write!(f, "peer \"{name}\""),
            Err(_) => write!(f, "peer number {}", self.index + 1),
        }
    }
}

/// A prefix that an enabled peer claims.
struct Claim<'a> {
    net: IpNet,
    is_lan: bool,
    by: Label<'a>,
    span: Range<usize>,
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_lan {
            true => write!(f, "LAN {} of {}", self.net, self.by),
            false => write!(f, "address {} of {}", self.net.addr(), self.by),
        }
    }
}

pub(super) fn mean(context: &mut Context<'_>, hub: &Hub, written: &[Spanned<PeerWritten>]) -> Peers {
    let mut peers = Peers { enabled: BTreeMap::new(), disabled: BTreeMap::new() };
    let mut claims = Vec::new();
    let mut endpoints = Vec::new();
    unique_names(context, written);
    let keys = unique_keys(context, hub, written);
    for (index, (entry, key)) in written.iter().zip(keys).enumerate() {
        let label = Label { peer: entry.get_ref(), index };
        let peer = read_peer(context, hub, entry, label, &mut claims);
        if let (Some(endpoint), Some(address)) =
            (&entry.get_ref().endpoint, peer.as_ref().and_then(|peer| peer.endpoint))
        {
            endpoints.push((label, address, endpoint.span()));
        }
        if let (Some(key), Some(peer)) = (key, peer) {
            let of = if entry.get_ref().enabled { &mut peers.enabled } else { &mut peers.disabled };
            of.insert(key, peer);
        }
    }
    no_overlaps(context, claims.as_slice());
    no_loops(context, hub, &claims, &endpoints);
    peers
}

fn unique_names(context: &mut Context<'_>, written: &[Spanned<PeerWritten>]) {
    let mut seen: HashMap<&str, Range<usize>> = HashMap::with_capacity(written.len());
    for peer in written {
        let name = &peer.get_ref().name;
        if let Some(first) = seen.get(name.get_ref().as_str()) {
            let line = context.problems.line(first);
            let message = format!(
                "two peers are called \"{}\", the other on line {line}",
                name.get_ref().escape_debug()
            );
            context.problems.refuse_with_hint(name.span(), message, "give each a name of its own");
        } else {
            seen.insert(name.get_ref(), name.span());
        }
    }
}

fn unique_keys(
    context: &mut Context<'_>,
    hub: &Hub,
    written: &[Spanned<PeerWritten>],
) -> Vec<Option<PublicKey>> {
    let own = hub.private_key.as_ref().map(|key| key.public_key());
    let mut seen: HashMap<PublicKey, (Label<'_>, Range<usize>)> = HashMap::with_capacity(written.len());
    let mut keys = Vec::with_capacity(written.len());
    for (index, peer) in written.iter().enumerate() {
        let (written, label) = (&peer.get_ref().public_key, Label { peer: peer.get_ref(), index });
        let key: PublicKey = match written.get_ref().parse() {
            Ok(key) => key,
            Err(error) => {
                context.problems.refuse(written.span(), format!("public_key of {label}: {error}"));
                keys.push(None);
                continue;
            }
        };
        if Some(key) == own {
            let message = format!("{label} has the public key of the hub itself");
            let hint = "write the key that `wg pubkey` prints on the peer's machine";
            context.problems.refuse_with_hint(written.span(), message, hint);
        }
        if let Some((other, at)) = seen.get(&key) {
            let message =
                format!("{label} and {other} (line {}) have the same public key", context.problems.line(at));
            context.problems.refuse_with_hint(written.span(), message, "each machine needs a key of its own");
        } else {
            seen.insert(key, (label, written.span()));
        }
        keys.push(Some(key));
    }
    keys
}

fn read_peer<'a>(
    context: &mut Context<'_>,
    hub: &Hub,
    entry: &Spanned<PeerWritten>,
    label: Label<'a>,
    claims: &mut Vec<Claim<'a>>,
) -> Option<Peer> {
    let written = entry.get_ref();
    let name = written.name.get_ref().parse::<PeerName>();
    if let Err(error) = &name {
        context.problems.refuse(written.name.span(), format!("{error}"));
    }

    let mut addresses = BTreeSet::new();
    if written.addresses.get_ref().is_empty() {
        let message = format!("{label} has no address in the tunnel");
        let hint = "give it one of the interface's subnet, or use `relay peer add`, which finds a free one";
        context.problems.refuse_with_hint(written.addresses.span(), message, hint);
    }
    for entry in written.addresses.get_ref() {
        let Some(address) = read_address(context, hub, entry, label) else { continue };
        addresses.insert(address);
        if written.enabled {
            claims.push(Claim { net: address.into(), is_lan: false, by: label, span: entry.span() });
        }
    }

    let mut lans = BTreeSet::new();
    for entry in &written.lans {
        let Some(net) = read_lan(context, hub, entry, label) else { continue };
        lans.insert(net);
        if written.enabled {
            claims.push(Claim { net, is_lan: true, by: label, span: entry.span() });
        }
    }

    let keepalive = match &written.keepalive {
        None => (!written.lans.is_empty()).then_some(KEEPALIVE_BEHIND_NAT),
        Some(written) => match u16::try_from(*written.get_ref()) {
            Ok(seconds) => (seconds != 0).then_some(seconds),
            Err(_) => {
                let message = format!("keepalive {} of {label} is not 0 to 65535 seconds", written.get_ref());
                context.problems.refuse(written.span(), message);
                None
            }
        },
    };
    let preshared_key = written.preshared_key_file.as_ref().and_then(|file| {
        let path = PathBuf::from(file.get_ref());
        key_file(context, &path, file.span(), "preshared_key_file", "`wg genpsk` makes one")
    });
    let endpoint = written.endpoint.as_ref().and_then(|endpoint| {
        let refuse = |error| {
            let message = format!("endpoint of {label}: {error}");
            let hint = "write an address and a port such as 192.0.2.1:51820, or leave it out if the peer dials the hub";
            context.problems.refuse_with_hint(endpoint.span(), message, hint);
        };
        socket_address(endpoint.get_ref()).map_err(refuse).ok()
    });
    let mtu = own::mtu(context, written, label);
    let dns = own::dns(context, written, label);
    let expires = own::expires(context, written, label);
    let full_tunnel = written.full_tunnel;
    Some(Peer {
        name: name.ok()?,
        preshared_key,
        addresses,
        lans,
        endpoint,
        keepalive,
        mtu,
        dns,
        full_tunnel,
        expires,
    })
}

fn read_address(
    context: &mut Context<'_>,
    hub: &Hub,
    entry: &Spanned<String>,
    label: Label<'_>,
) -> Option<IpAddr> {
    let (text, span) = (entry.get_ref(), entry.span());
    let problems = &mut context.problems;
    let Some(net) = prefix::parse(text) else {
        let message = format!("address `{}` of {label} is not an IP address", text.escape_debug());
        problems.refuse(span, message);
        return None;
    };
    let address = net.addr();
    if net.prefix_len() != net.max_prefix_len() {
        let message = format!("address {net} of {label} is a whole network");
        let hint = format!("write {address}; networks behind a peer are its `lans`");
        problems.refuse_with_hint(span, message, hint);
        return None;
    }
    let Some((subnet, at)) = hub.addresses.iter().find(|(subnet, _)| subnet.contains(&address)) else {
        let subnets: Vec<String> =
            hub.addresses.iter().map(|(subnet, _)| subnet.trunc().to_string()).collect();
        if subnets.is_empty() {
            return Some(address); // The interface's own addresses are refused already.
        }
        let message =
            format!("address {address} of {label} is outside of the interface's {}", subnets.join(" and "));
        let hint = "give it an address of the subnet, or the interface an address in that one";
        problems.refuse_with_hint(span, message, hint);
        return None;
    };
    if address == subnet.addr() {
        let message = format!("address {address} of {label} is the hub's own (line {})", problems.line(at));
        problems.refuse(span, message);
        return None;
    }
    if let Some(what) = is_reserved_in(*subnet, address) {
        problems.refuse(span, format!("address {address} of {label} is {what} of {}", subnet.trunc()));
        return None;
    }
    Some(address)
}

fn read_lan(
    context: &mut Context<'_>,
    hub: &Hub,
    entry: &Spanned<String>,
    label: Label<'_>,
) -> Option<IpNet> {
    let (text, span) = (entry.get_ref(), entry.span());
    let problems = &mut context.problems;
    let Some(net) = prefix::parse(text) else {
        let message = format!("LAN `{}` of {label} is not a network", text.escape_debug());
        problems.refuse_with_hint(span, message, "write such as 192.168.40.0/24");
        return None;
    };
    if net.prefix_len() == 0 {
        let message = format!("LAN {net} of {label} would send the whole internet of this host to that peer");
        problems.refuse_with_hint(span, message, "name the networks that are behind it");
        return None;
    }
    if net != net.trunc() {
        let message = format!("LAN {net} of {label} has host bits set");
        problems.refuse_with_hint(span, message, format!("the network is {}", net.trunc()));
        return None;
    }
    if let Some((range, why)) = reserved(net) {
        let message = format!("LAN {net} of {label} overlaps {range} ({why}), which is never routed");
        problems.refuse(span, message);
        return None;
    }
    if let Some((subnet, at)) = hub.addresses.iter().find(|(subnet, _)| overlap(*subnet, net)) {
        let line = problems.line(at);
        let message =
            format!("LAN {net} of {label} overlaps the tunnel's own subnet {} (line {line})", subnet.trunc());
        problems.refuse_with_hint(span, message, "give the tunnel another subnet");
        return None;
    }
    if let Some((interface, host)) = context.host_networks.iter().find(|(_, host)| overlap(*host, net)) {
        let message = format!("LAN {net} of {label} overlaps {} of {interface} on this host", host.trunc());
        let hint = "this host could no longer reach its own neighbours: give that LAN another range, or list the \
                    machines that matter, such as 192.168.40.10/32, if none of them is this host's neighbour";
        problems.refuse_with_hint(span, message, hint);
        return None;
    }
    Some(net)
}

/// The kernel would take a prefix from one peer and give it to the next without a word.
fn no_overlaps(context: &mut Context<'_>, claims: &[Claim<'_>]) {
    let nets: Vec<IpNet> = claims.iter().map(|claim| claim.net).collect();
    for (a, b) in clashes(&nets) {
        let (first, second) = (&claims[a.min(b)], &claims[a.max(b)]);
        let line = context.problems.line(&first.span);
        let what = if first.net == second.net { "is also" } else { "overlaps" };
        let message = format!("{second} {what} {first} (line {line})");
        let hint = match first.is_lan && second.is_lan {
            true => {
                "WireGuard gives each address to one peer: give one of the networks another range, or list the \
                     machines that matter, such as 192.168.40.10/32, in place of one of them"
            }
            false => "WireGuard gives each address to one peer",
        };
        context.problems.refuse_with_hint(second.span.clone(), message, hint);
    }
}

/// Packets to a peer's endpoint that are routed into the tunnel would be wrapped again and again.
fn no_loops(
    context: &mut Context<'_>,
    hub: &Hub,
    claims: &[Claim<'_>],
    endpoints: &[(Label<'_>, SocketAddr, Range<usize>)],
) {
    let holders = Holders::of(claims);
    for (label, endpoint, span) in endpoints {
        // Every peer's address is in it, so beside it there are the LANs.
        let subnet = hub.addresses.iter().find(|(net, _)| net.contains(&endpoint.ip()));
        let subnet = subnet.map(|(net, at)| (*net, "the tunnel's own subnet".to_owned(), at));
        let claim = || holders.first(endpoint.ip()).map(|claim| (claim.net, claim.to_string(), &claim.span));
        if let Some((net, what, at)) = subnet.or_else(claim) {
            let line = context.problems.line(at);
            let message = format!("endpoint {endpoint} of {label} is inside of {what} (line {line})");
            let hint = format!("the tunnel cannot be dialled through itself: {} leads into it", net.trunc());
            context.problems.refuse_with_hint(span.clone(), message, hint);
        }
    }
}

/// In whose LAN an address is, found without a look at all LANs: their prefixes have few lengths, and each is asked once.
struct Holders<'a> {
    /// The first claim of each prefix, by its place.
    first: HashMap<IpNet, (usize, &'a Claim<'a>)>,
    lengths: BTreeSet<u8>,
}

impl<'a> Holders<'a> {
    fn of(claims: &'a [Claim<'a>]) -> Self {
        let mut holders = Self { first: HashMap::new(), lengths: BTreeSet::new() };
        for (place, claim) in claims.iter().enumerate().filter(|(_, claim)| claim.is_lan) {
            holders.first.entry(claim.net.trunc()).or_insert((place, claim));
            holders.lengths.insert(claim.net.prefix_len());
        }
        holders
    }

    /// The first of the claims that the address is in.
    fn first(&self, address: IpAddr) -> Option<&'a Claim<'a>> {
        let nets = self.lengths.iter().filter_map(|length| IpNet::new(address, *length).ok());
        let found = nets.filter_map(|net| self.first.get(&net.trunc()));
        found.min_by_key(|(place, _)| *place).map(|(_, claim)| *claim)
    }
}
