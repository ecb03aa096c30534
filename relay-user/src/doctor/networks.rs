//! Whether what is for a peer's networks goes into the tunnel.

use std::cmp::Reverse;

use ipnet::IpNet;

use super::{
    facts::{Facts, Host},
    finding::{Check, Finding},
    hub,
};
use crate::{
    desired::Peer,
    observed::{KernelRoute, UNICAST},
};

/// `RT_TABLE_MAIN`, and routes that refuse: `RTN_BLACKHOLE`, `RTN_UNREACHABLE`, `RTN_PROHIBIT` (linux/rtnetlink.h).
const MAIN: u32 = 254;
const REFUSING: [(u8, &str); 3] = [(6, "blackhole "), (7, "unreachable "), (8, "prohibit ")];

/// Routes by which this host takes a part of the peer's LANs, or all of one, by another way than the tunnel.
#[must_use]
pub(super) fn elsewhere(facts: &Facts, peer: &Peer) -> Vec<Finding> {
    let (Ok(host), Some(link)) = (&facts.host, &facts.link) else { return Vec::new() };
    let mut findings = Vec::new();
    for lan in &peer.lans {
        let parts = main(host).filter(|route| lan.contains(&route.destination) && route.destination != *lan);
        // Of several routes to the very same network, the kernel takes one.
        let whole = best(host, lan).filter(|route| route.destination == *lan);
        let other = |route: &&KernelRoute| route.interface != Some(link.index) && kind(route).is_some();
        findings.extend(parts.chain(whole).filter(other).map(|route| named(route, lan).of(&peer.name)));
    }
    findings
}

/// Whether all that is for the peer goes into the tunnel.
pub(super) fn routed(facts: &Facts, peer: &Peer) -> Vec<Finding> {
    let (Ok(host), Some(link)) = (&facts.host, &facts.link) else { return Vec::new() };
    let mut findings = elsewhere(facts, peer);
    let leads = |prefix: &IpNet| best(host, prefix).is_some_and(|route| route.interface == Some(link.index));
    // The route to the whole of a network is named already.
    let whole =
        |prefix: &IpNet| best(host, prefix).filter(|route| route.destination == *prefix).and_then(kind);
    let told = |prefix: &IpNet| peer.lans.contains(prefix) && whole(prefix).is_some();
    let lost: Vec<String> = peer
        .allowed_ips()
        .filter(|prefix| !leads(prefix) && !told(prefix))
        .map(|prefix| prefix.to_string())
        .collect();
    if !lost.is_empty() {
        let seen = format!("this host does not send {} into the tunnel", lost.join(", "));
        let remedy =
            format!("`{}` routes it anew; `ip route get ADDRESS` says where it goes", hub::again(facts));
        findings.push(Finding::fault(Check::Networks, seen, remedy).of(&peer.name));
    } else if findings.is_empty() {
        findings.push(Finding::ok(Check::Networks, format!("{} leads to it", link.name)).of(&peer.name));
    }
    findings
}

fn main(host: &Host) -> impl Iterator<Item = &KernelRoute> {
    host.observed.routes.iter().filter(|route| route.table == MAIN)
}

/// The route that the kernel takes to all of a network.
fn best<'a>(host: &'a Host, prefix: &IpNet) -> Option<&'a KernelRoute> {
    let covers = main(host).filter(|route| route.destination.contains(prefix) && !route.narrowed);
    covers.max_by_key(|route| (route.destination.prefix_len(), Reverse(route.metric)))
}

/// What `ip route` calls that kind of route; nothing for those that take no packet away.
fn kind(route: &KernelRoute) -> Option<&'static str> {
    let refusing = REFUSING.iter().find(|(kind, _)| *kind == route.kind).map(|(_, name)| *name);
    refusing.or((route.kind == UNICAST).then_some(""))
}

fn named(route: &KernelRoute, lan: &IpNet) -> Finding {
    let part = if route.destination == *lan { "is" } else { "is part of" };
    let (kind, to) = (kind(route).unwrap_or_default(), route.destination);
    let seen = match route.gateway {
        _ if !kind.is_empty() => {
            format!("this host refuses {to} by a route ({}), and that {part} LAN {lan}", kind.trim())
        }
        Some(gateway) => format!("this host routes {to} via {gateway} elsewhere, and that {part} LAN {lan}"),
        None => format!("this host routes {to} elsewhere, and that {part} LAN {lan}"),
    };
    let remedy = format!("ip route delete {kind}{to}, or take another network for one of the two");
    Finding::fault(Check::Networks, seen, remedy)
}
