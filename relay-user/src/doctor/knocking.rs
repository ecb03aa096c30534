//! Those who knock in vain: peers whose handshakes are not completed, and those who are no peers.
//!
//! WireGuard says nothing of what it refuses. But it counts what it takes: an initiation that it has answered stands in
//! the peer's received bytes, and one that it refused does not. It refuses a peer's initiation for one reason, a time in
//! it that is not later than the last one's, and compares that with nothing but that peer's own (whitepaper 5.1): a clock
//! that is wrong and stays so is as good as any.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::{
    facts::{Ears, Facts, Heard, SLACK, listen_port},
    finding::{Check, Finding},
    hub::span,
    initiation::{self, Opened, Sealed},
    way::port_is_closed,
};
use crate::{config::Config, desired::Peer, key::PublicKey};

/// WireGuard's clock and ours are the same, and yet are not read at the same moment.
const LEEWAY: Duration = Duration::from_secs(2);

/// Half of the time after which a handshake is repeated (REKEY_AFTER_TIME, whitepaper 6.1).
const AGAIN: Duration = Duration::from_secs(60);

/// What became of the handshake that a peer began last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was completed.
    Completed,
    /// WireGuard has answered, and the peer has not gone on.
    Answered,
    /// WireGuard has taken nothing from the peer.
    Refused {
        /// Also not before, since it knows the peer.
        ever: bool,
    },
    /// It cannot be told.
    Unknown,
}

/// Whether we could listen.
pub(super) fn ears(facts: &Facts) -> Option<Finding> {
    match &facts.ears {
        Ears::Deaf(why) => Some(Finding::warning(
            Check::Initiation,
            format!("who knocks was not looked at: no packet socket ({why})"),
            "that takes root with CAP_NET_RAW, which a container may lack, and a kernel with CONFIG_PACKET",
        )),
        Ears::Listened { whole: false, .. } => {
            let port = facts.desired().map(listen_port).unwrap_or_default();
            Some(Finding::warning(
                Check::Initiation,
                format!(
                    "more handshakes come to UDP port {port} than could be looked at; some who knock may be unnamed"
                ),
                "ask again; if it goes on, somebody floods the port, and the provider can filter that",
            ))
        }
        Ears::Unused | Ears::Listened { whole: true, .. } => None,
    }
}

/// Why the handshakes that it tries are not completed, if it tries any.
pub(super) fn of_peer(facts: &Facts, key: &PublicKey, peer: &Peer) -> Option<Finding> {
    // The last says it all: the ones before it were tries of the same.
    let (heard, opened) = own(facts, key).next_back()?;
    let Heard { from, at, .. } = heard;
    let fate = fate(facts, key, *at);
    if fate == Fate::Completed {
        return None;
    }
    if facts.is_connected(key) && fate != Fate::Answered {
        return elsewhere(facts, key, *from).map(|finding| finding.of(&peer.name));
    }
    let arrive = format!("its handshakes from {from} arrive");
    let finding = match fate {
        Fate::Answered => not_taken(peer, &arrive),
        _ if port_is_closed(facts) => Finding::fault(
            Check::Initiation,
            format!("{arrive}, and this host's firewall drops them"),
            "open the port, as `listen-port` says",
        ),
        Fate::Refused { ever: false } => Finding::fault(
            Check::Initiation,
            format!("{arrive} at this host and not at WireGuard, which has never taken anything from it"),
            "something here drops them and is no firewall that relay can read: reverse path filtering, an XDP or TC \
             program on the interface that they come by",
        ),
        _ => refused(facts, key, &arrive, opened.time, *at),
    };
    Some(finding.of(&peer.name))
}

/// What was heard of a peer.
fn own<'a>(facts: &'a Facts, key: &PublicKey) -> impl DoubleEndedIterator<Item = (&'a Heard, &'a Opened)> {
    facts.heard().iter().filter_map(|heard| {
        let opened = heard.opened.as_ref().ok().filter(|opened| opened.from == *key)?;
        Some((heard, opened))
    })
}

fn fate(facts: &Facts, key: &PublicKey, at: SystemTime) -> Fate {
    let Some(after) = facts.live(key) else { return Fate::Unknown };
    let before = facts.before(key);
    // The counters start anew with a peer that was put back meanwhile.
    let more = before.and_then(|before| after.received.checked_sub(before.received));
    // One from the future proves nothing about now.
    if after.latest_handshake.is_some_and(|last| last + LEEWAY >= at && last <= facts.now + SLACK) {
        // Userspace WireGuard takes a handshake for completed once it has answered; but whoever has got the answer does
        // not begin again for two minutes, and sends something at once.
        let last = before.and_then(|before| before.latest_handshake);
        let again = last.and_then(|last| at.duration_since(last).ok()).is_some_and(|age| age < AGAIN);
        let nothing_else = more.is_some_and(|more| more > 0 && more % initiation::LEN as u64 == 0);
        return if again && nothing_else { Fate::Answered } else { Fate::Completed };
    }
    match more {
        // A session that is in force carries other things than handshakes.
        _ if facts.is_connected(key) => Fate::Unknown,
        Some(0) => Fate::Refused { ever: after.received > 0 },
        Some(_) => Fate::Answered,
        None => Fate::Unknown,
    }
}

/// The peer is in, and somebody else knocks with its key.
fn elsewhere(facts: &Facts, key: &PublicKey, from: SocketAddr) -> Option<Finding> {
    // WireGuard follows whoever's handshake it takes.
    let endpoint = facts.live(key)?.endpoint?;
    if (endpoint.ip(), endpoint.port()) == (from.ip(), from.port()) {
        return None;
    }
    Some(Finding::warning(
        Check::Initiation,
        format!(
            "from {from} comes a handshake with its key, which WireGuard refuses, while it is in from {endpoint}"
        ),
        "either a second machine has the same key, and its clock is behind: give each machine a key of its own (`relay \
         peer add`). Or somebody plays an old handshake again, which does no harm",
    ))
}

fn not_taken(peer: &Peer, arrive: &str) -> Finding {
    let psk = if peer.preshared_key.is_some() {
        "its own file must have the PresharedKey that relay has for it"
    } else {
        "its own file must have no PresharedKey, since relay has none for it"
    };
    Finding::fault(
        Check::Initiation,
        format!("{arrive} and are answered, and none is completed: it does not take the hub's answers"),
        format!(
            "{psk} (`relay peer rotate {}` makes all keys anew); else something on the way drops the answers, such as a \
             firewall in front of this host or of that machine",
            peer.name
        ),
    )
}

/// WireGuard refuses what is not later than what it has seen of the peer; how its time stands to ours says how that came.
fn refused(facts: &Facts, key: &PublicKey, arrive: &str, time: SystemTime, at: SystemTime) -> Finding {
    let interface = facts.desired().map(|desired| desired.interface.to_string()).unwrap_or_default();
    let forget = format!(
        "`wg set {interface} peer {key} remove` lets WireGuard forget its times, and relay puts it back within seconds"
    );
    let behind = at.duration_since(time).ok().filter(|by| *by > SLACK);
    let ahead = time.duration_since(at).ok().filter(|by| *by > SLACK);
    let (how, remedy) = match (behind, ahead) {
        (Some(by), _) => (
            format!("its clock is {} behind this host's, and went back since", span(by)),
            format!("set its clock right; or {forget}"),
        ),
        (_, Some(by)) => (
            format!("its clock is {} ahead of this host's, and was farther ahead then", span(by)),
            format!("set its clock right, and {forget}"),
        ),
        (None, None) => (
            "its clock agrees with this host's, so that it was ahead then and was set right, or a second machine with \
             the same key is ahead"
                .to_owned(),
            forget,
        ),
    };
    Finding::fault(
        Check::Initiation,
        format!(
            "{arrive}, and WireGuard takes none, since the time in them is not later than in one that it has taken: {how}"
        ),
        format!(
            "{remedy}. If that does not help, something here drops them: `rp_filter`, an XDP or TC program"
        ),
    )
}

/// Those who try in vain and are no enabled peer.
pub(super) fn strangers(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for Heard { from, opened, .. } in facts.heard() {
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

fn stranger(facts: &Facts, config: &Config, from: SocketAddr, key: &PublicKey) -> Option<Finding> {
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
