//! One peer from end to end: each step as far as the one before it holds, and where the way breaks.

use super::{
    facts::Facts,
    finding::{Check, Finding, Level},
    hub, knocking, networks, peers,
};
use crate::{desired::Peer, key::PublicKey};

/// Looks at one part of the way.
type Step = fn(&Facts, &PublicKey, &Peer) -> Vec<Finding>;

/// The steps, ending with the first that does not hold and what that means for the rest.
#[must_use]
pub fn findings(facts: &Facts, name: &str) -> Vec<Finding> {
    let Ok(config) = &facts.config else { return Vec::new() };
    let Some((key, peer, enabled)) = config.peer(name) else { return Vec::new() };
    let mut findings = vec![in_the_file(facts, peer, enabled).of(name)];
    findings.extend(peers::keepalive(peer));
    findings.extend(knocking::ears(facts));
    let steps: [Step; 5] = [in_wireguard, endpoint, shaken, routed, answers];
    for step in steps {
        if broken(&findings).is_some() {
            break;
        }
        findings.extend(step(facts, key, peer));
    }
    if let Some(check) = broken(&findings) {
        let seen = format!("the way breaks at `{check}`; whatever comes after it was not judged");
        findings.push(Finding { remedy: None, ..Finding::fault(Check::Peer, seen, "") }.of(name));
    }
    findings
}

fn broken(findings: &[Finding]) -> Option<Check> {
    findings.iter().find(|finding| finding.level == Level::Fault).map(|finding| finding.check)
}

fn in_the_file(facts: &Facts, peer: &Peer, enabled: bool) -> Finding {
    let enable = format!("relay peer enable {}", peer.name);
    if !enabled {
        return Finding::fault(Check::Peer, "is disabled in the file", enable);
    }
    if peer.has_expired(facts.timestamp()) {
        return Finding::fault(Check::Peer, "its time in the file is over", enable);
    }
    let places: Vec<String> = peer.allowed_ips().map(|prefix| prefix.to_string()).collect();
    Finding::ok(Check::Peer, format!("in the file, with {}", places.join(", ")))
}

fn in_wireguard(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    if let Some(missing) = peers::place(facts, key, peer) {
        return vec![missing];
    }
    let finding = match (&facts.device, &facts.host) {
        (Some(_), _) => Finding::ok(Check::Wireguard, "WireGuard knows it"),
        // What only root sees is said already.
        (None, _) if !facts.unseen.is_empty() => Finding::ok(
            Check::Wireguard,
            "whether WireGuard knows it, and all that follows, was not looked at",
        ),
        (None, Err(why)) => {
            Finding::fault(Check::Wireguard, format!("WireGuard cannot be asked: {why}"), "relay status")
        }
        (None, Ok(_)) => {
            Finding::fault(Check::Wireguard, "there is no tunnel that could know it", hub::again(facts))
        }
    };
    vec![finding.of(&peer.name)]
}

fn endpoint(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    let Some(live) = facts.live(key) else { return Vec::new() };
    let seen = match live.endpoint {
        Some(endpoint) if live.latest_handshake.is_some() => format!("was heard last from {endpoint}"),
        Some(endpoint) => format!("is dialled at {endpoint}"),
        None => return Vec::new(),
    };
    vec![Finding::ok(Check::Endpoint, seen).of(&peer.name)]
}

/// A peer that is followed is meant to be there: one that is away breaks the way.
fn shaken(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    let knocks = knocking::of_peer(facts, key, peer);
    if knocks.is_some() {
        return knocks.into_iter().collect();
    }
    let judged = peers::handshake(facts, key, peer).into_iter();
    let away = |finding: Finding| match finding.remedy {
        _ if facts.is_connected(key) => finding,
        Some(_) => Finding { level: Level::Fault, ..finding },
        None => Finding {
            level: Level::Fault,
            remedy: Some(
                "let it send something, a ping to the hub's address in the tunnel, and ask again".to_owned(),
            ),
            ..finding
        },
    };
    judged.map(away).collect()
}

fn routed(facts: &Facts, _: &PublicKey, peer: &Peer) -> Vec<Finding> {
    networks::routed(facts, peer)
}

fn answers(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    let mut findings = peers::answers(facts, key, peer);
    let v6: Vec<String> =
        peer.lans.iter().filter(|lan| lan.addr().is_ipv6()).map(ToString::to_string).collect();
    if !v6.is_empty() {
        // There is nobody in 2^64 addresses whom one could ask blindly.
        let seen = format!("whether {} answers cannot be told from here", v6.join(", "));
        findings.push(Finding::ok(Check::Lan, seen).of(&peer.name));
    }
    findings
}
