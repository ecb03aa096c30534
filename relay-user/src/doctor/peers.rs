//! The peers: who gets in, who tries in vain, and whether what is behind them answers.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use super::{
    facts::{Facts, Heard, SLACK, listen_port},
    finding::{Check, Finding},
    hub::{span, when},
    initiation::{self, Opened, Sealed},
    probe::Behind,
    way::port_is_closed,
};
use crate::{
    config::Config,
    desired::Peer,
    key::PublicKey,
    observed::{KernelRoute, ROUTE_PROTOCOL},
};

/// A handshake that is over so soon after its first message is the one that was heard.
const COMPLETED: Duration = Duration::from_secs(15);

/// Half of the time after which a handshake is repeated (REKEY_AFTER_TIME, whitepaper 6.1).
const AGAIN: Duration = Duration::from_secs(60);

/// A route to somewhere (`RTN_UNICAST`), in the main table (linux/rtnetlink.h).
const UNICAST: u8 = 1;
const MAIN: u32 = 254;

/// Peer by peer, in the order of their names, then those that are none.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let Ok(config) = &facts.config else { return Vec::new() };
    let mut findings: Vec<Finding> = networks(facts, config);
    let nobody = nobody_ever(facts, config);
    let skipped = nobody.is_some();
    findings.extend(nobody);
    let now = facts.timestamp();
    let mut peers: Vec<(&PublicKey, &Peer)> = config.desired.peers.iter().collect();
    peers.sort_by_key(|(_, peer)| &peer.name);
    for (key, peer) in peers {
        if peer.has_expired(now) {
            findings.push(Finding::ok(Check::Peer, "its time is over").of(&peer.name));
            continue;
        }
        let initiations = initiations(facts, key, peer);
        findings.extend(place(facts, key, peer));
        findings.extend(keepalive(peer));
        if initiations.is_empty() && !skipped {
            findings.extend(handshake(facts, key, peer));
        }
        findings.extend(initiations);
        findings.extend(behind(facts, peer));
    }
    findings.extend(strangers(facts, config));
    findings
}

/// One word for all of them where nobody has got in since the hub is up: then the reason is hardly theirs.
fn nobody_ever(facts: &Facts, config: &Config) -> Option<Finding> {
    let device = facts.device.as_ref()?;
    let peers = config.desired.in_force(facts.timestamp());
    let listened = facts.heard.as_ref().is_some_and(Vec::is_empty);
    let seen = device.peers.values().any(|peer| peer.latest_handshake.is_some());
    if peers.peers.is_empty() || seen || !listened || port_is_closed(facts) {
        return None;
    }
    let port = listen_port(&config.desired);
    let dial = config.desired.endpoint().unwrap_or("this host");
    Some(Finding::warning(
        Check::Handshake,
        "no peer has got in since the hub is up, and none knocks; no firewall on this host is the reason",
        format!(
            "let UDP {port} in at the provider's own firewall (its web console), see that peers dial {dial}, and that \
             their tunnels are up"
        ),
    ))
}

/// Networks that this host reaches by another way than the tunnel.
fn networks(facts: &Facts, config: &Config) -> Vec<Finding> {
    let (Ok(host), Some(link)) = (&facts.host, &facts.link) else { return Vec::new() };
    let lans = config.desired.peers.values().flat_map(|peer| peer.lans.iter().map(move |lan| (peer, lan)));
    let elsewhere = |lan: &IpNet, route: &&KernelRoute| {
        let narrower = lan.contains(&route.destination) || *lan == route.destination;
        let other = route.interface.is_some_and(|index| index != link.index);
        narrower && other && route.protocol != ROUTE_PROTOCOL && route.table == MAIN && route.kind == UNICAST
    };
    lans.flat_map(|(peer, lan)| {
        let found = host.observed.routes.iter().filter(move |route| elsewhere(lan, route));
        found.map(move |route| {
            let by = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let seen =
                format!("this host routes {}{by} elsewhere, and it is part of LAN {lan}", route.destination);
            let remedy =
                format!("ip route delete {}, or take another network for one of the two", route.destination);
            Finding::fault(Check::Networks, seen, remedy).of(&peer.name)
        })
    })
    .collect()
}

/// Whether WireGuard knows it.
pub(super) fn place(facts: &Facts, key: &PublicKey, peer: &Peer) -> Option<Finding> {
    let device = facts.device.as_ref()?;
    if device.peers.contains_key(key) {
        return None;
    }
    let seen = "WireGuard does not know it, so it cannot get in";
    Some(Finding::fault(Check::Peer, seen, "relay reload").of(&peer.name))
}

/// Whether its NAT stays open toward it.
pub(super) fn keepalive(peer: &Peer) -> Option<Finding> {
    if peer.lans.is_empty() || peer.keepalive.is_some() || peer.endpoint.is_some() {
        return None;
    }
    let seen =
        "has a LAN and no keepalive: behind NAT it is out of reach once it was silent for half a minute";
    let remedy =
        "take `keepalive = 0` out of its [[peer]], and put `PersistentKeepalive = 25` into its own file";
    Some(Finding::warning(Check::Keepalive, seen, remedy).of(&peer.name))
}

/// When it was heard last.
pub(super) fn handshake(facts: &Facts, key: &PublicKey, peer: &Peer) -> Option<Finding> {
    let live = facts.live(key)?;
    let finding = match live.latest_handshake {
        Some(at) if facts.is_connected(key) => {
            Finding::ok(Check::Handshake, format!("shook hands {}", when(facts, at)))
        }
        Some(at) if peer.lans.is_empty() => {
            let seen = format!("shook hands {}; idle or away", when(facts, at));
            Finding::ok(Check::Handshake, seen)
        }
        Some(at) => Finding::fault(
            Check::Handshake,
            format!(
                "shook hands {}, and its keepalive would do so every two minutes: it is gone",
                when(facts, at)
            ),
            "is it on and online, and its tunnel up (`wg show` there)? Its clock may have gone back, too",
        ),
        None => Finding::warning(
            Check::Handshake,
            "has not shaken hands since the hub is up, and does not knock",
            format!(
                "is its tunnel up, with what `relay peer show {}` prints for PublicKey and Endpoint? {}",
                peer.name,
                openness(facts)
            ),
        ),
    };
    Some(finding.of(&peer.name))
}

/// What is known of the way to the listen port.
fn openness(facts: &Facts) -> &'static str {
    let mut peers = facts.device.iter().flat_map(|device| device.peers.values());
    if peers.any(|peer| peer.latest_handshake.is_some()) {
        "Others get in, so the port is open"
    } else if port_is_closed(facts) {
        "And this host's firewall keeps everybody out, as said above"
    } else {
        "And the provider's own firewall must let the port in"
    }
}

/// Why the handshakes that it tries are not completed, if it tries any.
pub(super) fn initiations(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    // The last says it all: the ones before it were tries of the same.
    let last = facts.heard.iter().flatten().rev().find_map(|heard| {
        let opened = heard.opened.as_ref().ok().filter(|opened| opened.from == *key)?;
        Some((heard, opened))
    });
    last.and_then(|(heard, opened)| unfinished(facts, key, peer, heard, opened)).into_iter().collect()
}

fn unfinished(
    facts: &Facts,
    key: &PublicKey,
    peer: &Peer,
    heard: &Heard,
    opened: &Opened,
) -> Option<Finding> {
    let Heard { from, at, .. } = heard;
    let handshake = facts.live(key).and_then(|live| live.latest_handshake);
    let earlier = handshake.and_then(|last| last.duration_since(opened.time).ok()).filter(|by| *by > SLACK);
    let finding = if let Some(by) = earlier {
        let by = span(by);
        if facts.is_connected(key) {
            Finding::warning(
                Check::Initiation,
                format!("from {from} comes a handshake with a time {by} before the one in force"),
                "somebody plays an old one again, which WireGuard refuses, or a second machine whose clock is behind \
                 has the same key: give each machine a key of its own",
            )
        } else {
            Finding::fault(
                Check::Initiation,
                format!(
                    "its handshakes from {from} arrive and are refused: its clock went back, and says {by} less than \
                     at its last handshake"
                ),
                format!(
                    "set its clock right; or `wg set INTERFACE peer {key} remove`, and relay puts it back afresh"
                ),
            )
        }
    } else if handshake.is_some_and(|last| last + COMPLETED >= *at) && !tries_on(facts, key, *at) {
        return None;
    } else if port_is_closed(facts) {
        Finding::fault(
            Check::Initiation,
            format!("its handshakes from {from} arrive, and this host's firewall drops them"),
            "open the listen port, as said above",
        )
    } else {
        let psk = if peer.preshared_key.is_some() { "has" } else { "has none in" };
        Finding::fault(
            Check::Initiation,
            format!(
                "its handshakes from {from} arrive, and none is completed: it does not take the hub's answers"
            ),
            format!(
                "its preshared key must be the one that relay {psk} the file (`relay peer rotate {}` makes all keys \
                 anew); else something on the way drops the answers",
                peer.name
            ),
        )
    };
    Some(finding.of(&peer.name))
}

/// Whether it begins anew what should be over. Userspace WireGuard takes a handshake for completed once it has answered;
/// but whoever has got the answer does not begin again for two minutes, and sends something at once.
fn tries_on(facts: &Facts, key: &PublicKey, at: SystemTime) -> bool {
    let of_host = facts.host.as_ref().ok().and_then(|host| host.observed.device.as_ref());
    let (Some(before), Some(after)) = (of_host.and_then(|device| device.peers.get(key)), facts.live(key))
    else {
        return false;
    };
    let own = facts.heard.iter().flatten().filter(|heard| {
        let opened = heard.opened.as_ref();
        opened.is_ok_and(|opened| opened.from == *key)
    });
    let initiations = (own.count() * initiation::LEN) as u64;
    let again =
        before.latest_handshake.and_then(|last| at.duration_since(last).ok()).is_some_and(|age| age < AGAIN);
    again && after.received.saturating_sub(before.received) <= initiations
}

/// Those who try in vain and are no enabled peer.
fn strangers(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for Heard { from, opened, .. } in facts.heard.iter().flatten() {
        let finding = match opened {
            Ok(Opened { from: key, .. }) => stranger(facts, config, *from, key),
            Err(Sealed::OtherHub) => Some(Finding::warning(
                Check::Initiation,
                format!("{} tries to shake hands with another hub's key", from.ip()),
                format!(
                    "its file's PublicKey is not this hub's, {}: was the hub made anew? `relay peer show NAME` prints \
                     the right one",
                    config.desired.private_key.public_key()
                ),
            )),
            // Floods and junk are no peer's trouble.
            Err(Sealed::NotOne | Sealed::Damaged) => None,
        };
        findings.extend(
            finding.filter(|_| told.insert((from.ip(), opened.as_ref().ok().map(|opened| opened.from)))),
        );
    }
    findings
}

fn stranger(facts: &Facts, config: &Config, from: std::net::SocketAddr, key: &PublicKey) -> Option<Finding> {
    let enable = |peer: &Peer, why: &str| {
        let name = &peer.name;
        let seen = format!("tries to get in from {from}, and {why}");
        Finding::warning(Check::Initiation, seen, format!("relay peer enable {name}, if it shall")).of(name)
    };
    if let Some(peer) = config.disabled.get(key) {
        return Some(enable(peer, "is disabled"));
    }
    match config.desired.peers.get(key) {
        Some(peer) if peer.has_expired(facts.timestamp()) => Some(enable(peer, "has expired")),
        Some(_) => None,
        None => Some(Finding::warning(
            Check::Initiation,
            format!("{from} tries to get in with the key {key}, which no peer in the file has"),
            "give that machine its file anew (`relay peer rotate NAME`), or add it: `relay peer add NAME --public-key \
             KEY`",
        )),
    }
}

/// What its probe says: its tunnel address, then its LANs.
pub(super) fn behind(facts: &Facts, peer: &Peer) -> Vec<Finding> {
    let Some(probe) = facts.probes.get(peer.name.as_str()) else { return Vec::new() };
    if let Some(why) = &probe.failed {
        return vec![
            Finding::warning(Check::Tunnel, format!("cannot be asked: {why}"), "run this as root")
                .of(&peer.name),
        ];
    }
    let mut findings = Vec::new();
    let silent = matches!(probe.tunnel, Some((_, false)));
    let nothing = !probe.lans.iter().any(|(_, behind)| *behind != Behind::NotForwarded);
    match probe.tunnel {
        Some((address, true)) => findings.push(Finding::ok(Check::Tunnel, format!("{address} answers"))),
        // Many machines ignore pings, and one whose LAN answers is all right.
        Some((address, false)) if nothing => findings.push(Finding::fault(
            Check::Tunnel,
            format!("it shook hands, and {address} answers no ping through the tunnel"),
            "on that machine: is the address on its tunnel (`ip address`), the hub's subnet in its AllowedIPs, and does its \
             firewall let the tunnel in?",
        )),
        Some((address, false)) => {
            findings.push(Finding::ok(Check::Tunnel, format!("{address} answers no ping, and its LAN does")));
        }
        None => {}
    }
    for (lan, behind) in &probe.lans {
        let finding = match behind {
            Behind::Answers(machine) => Finding::ok(Check::Lan, format!("{machine} on {lan} answers")),
            Behind::Silent { asked } => Finding::warning(
                Check::Lan,
                format!("it forwards toward {lan}, and none of {asked} addresses there answers"),
                "it must masquerade toward the LAN, as the file that relay prints for it does (`relay peer show`), or \
                 the LAN's router must send the tunnel's subnet to it; its firewall must let both pass; or the machines \
                 there ignore pings",
            ),
            Behind::Refused(code) => Finding::fault(
                Check::Lan,
                format!("it refuses to forward toward {lan} (ICMP unreachable, code {code})"),
                "its firewall must let the tunnel through to the LAN, and it must have a route to that network",
            ),
            Behind::NotForwarded if silent => continue,
            Behind::NotForwarded => Finding::fault(
                Check::Lan,
                format!("its tunnel answers, and it does not forward toward {lan}"),
                "on that machine: sysctl -w net.ipv4.ip_forward=1, and let its firewall forward from the tunnel to the \
                 LAN; the file that relay prints for it does the first",
            ),
        };
        findings.push(finding);
    }
    findings.into_iter().map(|finding| finding.of(&peer.name)).collect()
}
