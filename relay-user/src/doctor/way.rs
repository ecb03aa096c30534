//! The firewall, the kernel's switches, and the way out.

use std::net::IpAddr;

use super::{
    facts::{self, Daemon, Facts, Host, Uplink, listen_port},
    finding::{Check, Finding},
};
use crate::{
    address::is_public,
    config::host_and_port,
    desired::{Desired, FastPathMode},
    firewall::{analysis::TunnelForwarding, opening::Way},
    plan,
};

/// WireGuard pads to a multiple of this (whitepaper 5.4.6).
const PADDING: u32 = 16;
/// What IPv6 asks of any link (RFC 8200 5).
const LEAST_FOR_V6: u32 = 1280;

/// Drivers that run XDP in the driver itself (`ndo_bpf` in Linux 6.12's drivers/net), where it costs least, by the names
/// that they have in sysfs: Xen's netfront is "vif" there.
const NATIVE_XDP: [&str; 24] = [
    "virtio_net",
    "ena",
    "gve",
    "hv_netvsc",
    "mana",
    "vif",
    "vmxnet3",
    "atlantic",
    "bnxt_en",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mlx4_core",
    "mlx5_core",
    "nfp",
    "qede",
    "sfc",
    "mvneta",
    "mvpp2",
    "fsl_dpaa2_eth",
    "fsl_enetc",
];

/// In the order of a packet's way in and out.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let Some(desired) = facts.desired() else { return Vec::new() };
    let mut findings = Vec::new();
    if let Ok(host) = &facts.host {
        findings.extend(closed(desired, host));
        findings.extend(fast_path(facts, desired, host));
        findings.extend(forwarding(facts, desired, host));
    }
    match &facts.uplink {
        Some(uplink) => {
            findings.push(Finding::ok(Check::Uplink, format!("{} leads to the internet", uplink.interface)));
            findings.extend(rp_filter(uplink));
            findings.push(card(uplink));
            findings.extend(mtu(desired, uplink));
        }
        None => findings.push(Finding::fault(
            Check::Uplink,
            "this host has no default route, so no peer in the internet gets an answer",
            "ip route add default via ROUTER",
        )),
    }
    findings.push(endpoint(facts, desired));
    findings
}

fn closed(desired: &Desired, host: &Host) -> Vec<Finding> {
    let port = listen_port(desired);
    let name = &desired.interface;
    let mut findings: Vec<Finding> = Vec::new();
    let open = |way: &Way| !host.observed.openings.iter().any(|opening| opening.way == *way);
    if open(&Way::ListenPort(port)) {
        let seen =
            format!("no firewall on this host closes UDP port {port}; the provider's own cannot be seen");
        findings.push(Finding::ok(Check::ListenPort, seen));
    }
    for opening in &host.observed.openings {
        let (check, what) = match &opening.way {
            Way::ListenPort(port) => {
                (Check::ListenPort, format!("peers' messages to UDP port {port} are dropped"))
            }
            Way::Tunnel => {
                (Check::Forward, format!("traffic from peer to peer ({name} to {name}) is dropped"))
            }
            Way::Exit(uplink) => (Check::Forward, format!("full tunnels' way out by {uplink} is dropped")),
            Way::Return(uplink) => {
                (Check::Forward, format!("answers to full tunnels from {uplink} are dropped"))
            }
        };
        let by = host.closers.iter().find(|(way, _)| *way == opening.way);
        let by = by.map(|(_, rule)| format!(" by {rule}")).unwrap_or_default();
        findings.push(Finding::fault(check, format!("{what}{by}"), opening.command.clone()));
    }
    findings
}

fn fast_path(facts: &Facts, desired: &Desired, host: &Host) -> Vec<Finding> {
    // Where nobody keeps the hub, and where the kernel cannot, that is said, and this follows from it.
    let absent = facts.daemon == Daemon::Absent && host.attached.is_none();
    if absent || facts.kernel.as_ref().is_some_and(|kernel| !kernel.bpf) {
        return Vec::new();
    }
    let finding = if host.fast_path.is_on() {
        let attached = host.attached.as_ref().map(|hook| format!(", attached by {hook}")).unwrap_or_default();
        Finding::ok(Check::FastPath, format!("on{attached}: {}", host.fast_path.reason))
    } else if desired.fast_path() == FastPathMode::Off {
        Finding::ok(Check::FastPath, host.fast_path.to_string())
    } else if let (FastPathMode::Auto, Some(TunnelForwarding::Kept { by, hint })) =
        (desired.fast_path(), &host.observed.forwarding)
    {
        Finding::warning(Check::FastPath, format!("off, the kernel forwards: {by}"), hint.clone())
    } else {
        let remedy = "the kernel forwards meanwhile; `relay reload` tries again";
        Finding::warning(Check::FastPath, host.fast_path.to_string(), remedy)
    };
    vec![finding]
}

fn forwarding(facts: &Facts, desired: &Desired, host: &Host) -> Vec<Finding> {
    let in_force = desired.in_force(facts.timestamp());
    let wanted = plan::sysctls(&in_force, host.backend, &host.observed);
    let wrong: Vec<Finding> = wanted
        .iter()
        .filter_map(|(sysctl, value)| {
            let now = host.observed.sysctls.get(sysctl).filter(|now| *now != value)?;
            let name = sysctl.name();
            let seen = format!("{name} = {now}: this host does not forward as the hub needs it");
            Some(Finding::fault(Check::Forwarding, seen, format!("sysctl -w {name}={value}")))
        })
        .collect();
    if wrong.is_empty() { vec![Finding::ok(Check::Forwarding, "the kernel forwards")] } else { wrong }
}

fn rp_filter(uplink: &Uplink) -> Vec<Finding> {
    if uplink.strict.is_empty() {
        return vec![Finding::ok(Check::RpFilter, "reverse path filtering is in nobody's way")];
    }
    let strict = |interface: &String| {
        let seen = format!(
            "rp_filter is strict on {interface}, and there are several default routes: what comes by one and would be \
             answered by another is dropped, unseen by any firewall"
        );
        let remedy = format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{interface}.rp_filter=2");
        Finding::warning(Check::RpFilter, seen, remedy)
    };
    uplink.strict.iter().map(strict).collect()
}

fn card(uplink: &Uplink) -> Finding {
    let Uplink { interface, driver, queues, .. } = uplink;
    let xdp = match driver.as_deref() {
        Some(driver) if NATIVE_XDP.contains(&driver) => "runs XDP natively",
        Some(_) => "is not known to run XDP natively, only the kernel's generic mode",
        None => "has no card here; XDP would run as its kind does",
    };
    let driver = driver.as_deref().map(|driver| format!("driver {driver}, ")).unwrap_or_default();
    let queues = if *queues == 1 { "1 receive queue".to_owned() } else { format!("{queues} receive queues") };
    Finding::ok(Check::Nic, format!("{interface}: {driver}{queues}; it {xdp}"))
}

/// The largest MTU of a tunnel on a way that carries so much.
fn fits(way: u32, around: u32) -> u32 {
    way.saturating_sub(around) / PADDING * PADDING
}

fn mtu(desired: &Desired, uplink: &Uplink) -> Option<Finding> {
    // The narrowest of them: what is left for the tunnel counts, not what the way carries.
    let narrowest = uplink.ways.iter().min_by_key(|way| way.carries.saturating_sub(way.around))?;
    let facts::Way { whose, carries: way, around } = narrowest;
    let (mtu, fitting) = (desired.mtu, fits(*way, *around));
    if mtu + around <= *way {
        let seen = format!("the tunnel's {mtu} and WireGuard's {around} bytes fit the {way} of {whose}");
        return Some(Finding::ok(Check::Mtu, seen));
    }
    let seen = format!(
        "the tunnel's MTU of {mtu} and WireGuard's {around} bytes do not fit the {way} of {whose}: long packets are cut \
         in two, or get lost"
    );
    let v6 = desired.addresses.iter().any(|address| address.addr().is_ipv6());
    let without = if v6 && fitting < LEAST_FOR_V6 { "; below 1280 a tunnel has no IPv6" } else { "" };
    let remedy = format!(
        "mtu = {fitting} under [interface] and `relay reload`, and the same `MTU` in the peers' own files{without}"
    );
    Some(Finding::warning(Check::Mtu, seen, remedy))
}

fn endpoint(facts: &Facts, desired: &Desired) -> Finding {
    let set = "set `endpoint` under [interface] to this host's public name or address";
    let Some(endpoint) = desired.endpoint() else {
        return Finding::warning(Check::Endpoint, "nobody knows what peers dial", set);
    };
    let resolved = match &facts.endpoint {
        Some(Ok(addresses)) => addresses.as_slice(),
        Some(Err(why)) => {
            let seen = format!("peers dial {endpoint}, and that name has no address: {why}");
            return Finding::warning(Check::Endpoint, seen, set);
        }
        None => &[],
    };
    let port = host_and_port(endpoint, listen_port(desired)).ok().and_then(|text| port_of(&text));
    // Debian's /etc/hosts says 127.0.1.1 for the host's own name; peers are told otherwise.
    let (loopback, dialled): (Vec<&IpAddr>, Vec<&IpAddr>) =
        resolved.iter().partition(|address| address.is_loopback());
    let Some(uplink) = &facts.uplink else {
        return Finding::ok(Check::Endpoint, format!("peers dial {endpoint}"));
    };
    let ours = |address: &IpAddr| uplink.host_addresses.contains(address);
    if let Some(port) = port.filter(|port| *port != listen_port(desired) && dialled.iter().any(|a| ours(a))) {
        return Finding::fault(
            Check::Endpoint,
            format!(
                "peers dial {endpoint}, UDP port {port}, and this hub listens on UDP port {}",
                listen_port(desired)
            ),
            "make `endpoint` and `listen_port` under [interface] agree, `relay reload`, and give the peers their \
             files anew",
        );
    }
    // Behind somebody's NAT, an IPv4 address need not be on this host to lead here. There is no such for IPv6.
    let public = |v6: bool| uplink.host_addresses.iter().filter(move |a| a.is_ipv6() == v6 && is_public(a));
    let comparable = |address: &IpAddr| address.is_ipv6() || public(false).next().is_some();
    let wrong: Vec<String> =
        dialled.iter().filter(|a| !ours(a) && comparable(a)).map(ToString::to_string).collect();
    if !wrong.is_empty() {
        let (own, wrong) = (public(false).chain(public(true)), wrong.join(", "));
        let own = own.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let own = if own.is_empty() { "it has no public ones".to_owned() } else { own };
        let which = if endpoint.contains(&wrong) { "which".to_owned() } else { format!("and {wrong}") };
        let seen = format!("peers dial {endpoint}, {which} is none of this host's addresses: {own}");
        let remedy =
            format!("{set}, or correct that name in DNS; unless another machine there sends on to it");
        return Finding::warning(Check::Endpoint, seen, remedy);
    }
    let seen = if dialled.iter().any(|address| ours(address)) {
        format!("peers dial {endpoint}, which is this host")
    } else if dialled.is_empty() && !loopback.is_empty() {
        format!(
            "peers dial {endpoint}, a name that /etc/hosts gives to this host itself; what peers get cannot be told from here"
        )
    } else {
        format!("peers dial {endpoint}; this host has no public address of its own to compare with")
    };
    Finding::ok(Check::Endpoint, seen)
}

fn port_of(endpoint: &str) -> Option<u16> {
    endpoint.rsplit_once(':')?.1.parse().ok()
}

/// Whether a firewall of this host is known to drop what peers send to the port.
pub(super) fn port_is_closed(facts: &Facts) -> bool {
    let openings = facts.host.iter().flat_map(|host| &host.observed.openings);
    openings.into_iter().any(|opening| matches!(opening.way, Way::ListenPort(_)))
}
