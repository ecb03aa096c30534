//! The peers: who is in, who should be and is not, and why.

use std::time::{Duration, SystemTime};

use super::{
    behind,
    facts::{CONNECTED, Ears, Facts, SLACK, listen_port},
    finding::{Check, Finding},
    hub::{again, span, when},
    knocking, networks,
    way::port_is_closed,
};
use crate::{config::Config, desired::Peer, key::PublicKey};

/// A handshake is repeated with the next message after that time (REKEY_AFTER_TIME, whitepaper 6.1), and such a message
/// may be late.
const REPEATED: Duration = Duration::from_secs(120 + 15);

/// Peer by peer, in the order of their names, then those that are none.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let Ok(config) = &facts.config else { return Vec::new() };
    let nobody = nobody_ever(facts, config);
    let skipped = nobody.is_some();
    let mut findings: Vec<Finding> = knocking::ears(facts).into_iter().chain(nobody).collect();
    let now = facts.timestamp();
    let mut peers: Vec<(&PublicKey, &Peer)> = config.desired.peers.iter().collect();
    peers.sort_by_key(|(_, peer)| &peer.name);
    for (key, peer) in peers {
        if peer.has_expired(now) {
            findings.push(Finding::ok(Check::Peer, "its time is over").of(&peer.name));
            continue;
        }
        let missing = place(facts, key, peer);
        let knocks = knocking::of_peer(facts, key, peer);
        findings.extend(networks::elsewhere(facts, peer));
        findings.extend(keepalive(peer));
        if missing.is_none() && knocks.is_none() && !skipped {
            findings.extend(handshake(facts, key, peer));
        }
        // What WireGuard does not know cannot get in, however it knocks.
        findings.extend(missing.or(knocks));
        findings.extend(answers(facts, key, peer));
    }
    findings.extend(knocking::strangers(facts, config));
    if facts.not_asked > 0 {
        let seen = format!(
            "{} more peers were not asked what is behind them; `relay doctor NAME` asks one",
            facts.not_asked
        );
        findings.push(Finding::ok(Check::Lan, seen));
    }
    findings
}

/// What is behind it, where it is in: whoever is not says nothing, and the handshake tells that.
pub(super) fn answers(facts: &Facts, key: &PublicKey, peer: &Peer) -> Vec<Finding> {
    if facts.is_connected(key) { behind::findings(facts, peer) } else { Vec::new() }
}

/// One word for all of them where nobody has got in since the hub is up: then the reason is hardly theirs.
fn nobody_ever(facts: &Facts, config: &Config) -> Option<Finding> {
    let device = facts.device.as_ref()?;
    let peers = config.desired.in_force(facts.timestamp());
    let listened = facts.has_listened() && facts.heard().is_empty();
    let seen = device.peers.values().any(|peer| peer.latest_handshake.is_some());
    // Those who are dialled need no port of ours.
    let dial = !peers.peers.is_empty() && peers.peers.values().all(|peer| peer.endpoint.is_none());
    if !dial || seen || !listened || port_is_closed(facts) {
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

/// Whether WireGuard knows it.
pub(super) fn place(facts: &Facts, key: &PublicKey, peer: &Peer) -> Option<Finding> {
    let device = facts.device.as_ref()?;
    if device.peers.contains_key(key) {
        return None;
    }
    let seen = "WireGuard does not know it, so it cannot get in";
    Some(Finding::fault(Check::Peer, seen, again(facts)).of(&peer.name))
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
    let last = facts.live(key)?.latest_handshake;
    let finding = match (last, peer.endpoint) {
        (Some(at), _) if facts.is_connected(key) => {
            Finding::ok(Check::Handshake, format!("shook hands {}", when(facts, at)))
        }
        (Some(at), _) if at > facts.now + SLACK => Finding::ok(
            Check::Handshake,
            "shook hands at a time that is yet to come; since when cannot be told, as `clock` says",
        ),
        (last, Some(endpoint))
            if facts.probes.get(peer.name.as_str()).is_some_and(|probe| probe.failed.is_none()) =>
        {
            let last = last.map(|at| format!("; it shook hands {}", when(facts, at))).unwrap_or_default();
            Finding::fault(
                Check::Handshake,
                format!("the hub dials it at {endpoint}, as the file says, and gets no answer{last}"),
                "is it on, its tunnel up, and does its router send that UDP port on to it? Or correct `endpoint` in its \
                 [[peer]]",
            )
        }
        (last, Some(_)) => {
            let last = last.map_or_else(
                || "not yet shaken hands".to_owned(),
                |at| format!("shook hands {}", when(facts, at)),
            );
            Finding::ok(Check::Handshake, format!("{last}; the hub dials it when there is something for it"))
        }
        (Some(at), None) => since(facts, peer, at),
        (None, None) => never(facts, peer),
    };
    Some(finding.of(&peer.name))
}

/// It was in once, and is not now.
fn since(facts: &Facts, peer: &Peer, at: SystemTime) -> Finding {
    let ago = when(facts, at);
    let Some(keepalive) = peer.keepalive.filter(|_| !peer.lans.is_empty()) else {
        return Finding::ok(Check::Handshake, format!("shook hands {ago}; idle or away"));
    };
    let at_most = CONNECTED.max(REPEATED + Duration::from_secs(keepalive.into()));
    if facts.age(at) <= at_most {
        return Finding::ok(
            Check::Handshake,
            format!("shook hands {ago}, as a keepalive of {keepalive} s does"),
        );
    }
    let every = span(at_most);
    Finding::fault(
        Check::Handshake,
        format!("shook hands {ago}, and with its keepalive it would every {every}: it is gone"),
        format!(
            "is it on and online, its tunnel up (`wg show` there), and is `PersistentKeepalive = {keepalive}` in its own \
             file?"
        ),
    )
}

/// It was never in, as far as WireGuard knows.
fn never(facts: &Facts, peer: &Peer) -> Finding {
    let knocks = match &facts.ears {
        Ears::Listened { whole: true, .. } => ", and does not knock",
        Ears::Listened { whole: false, .. } => "; whether it knocks cannot be told among so many others",
        Ears::Deaf(_) | Ears::Unused => "; whether it knocks was not looked at",
    };
    let remedy = format!(
        "is its tunnel up, with what `relay peer show {}` prints for PublicKey and Endpoint? {}",
        peer.name,
        openness(facts)
    );
    Finding::warning(Check::Handshake, format!("has not shaken hands since the hub is up{knocks}"), remedy)
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
