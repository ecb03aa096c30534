//! relay's numbers as Prometheus takes them: `GET /metrics` on the control socket, and on a TCP listener when
//! `[metrics]` names one.
//!
//! What `prometheus_wireguard_exporter` also tells has its names and labels, so that dashboards made for it go on
//! working; the rest begins with `relay_`. Public keys and names are in it, endpoints and secrets are not.

mod text;

use jiff::Timestamp;

use self::text::{Kind, Text};
use crate::report::{Packets, PeerStats, Stats, Status};

/// What the body of an answer is: version 0.0.4 of Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is told at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How the daemon is.
    pub status: Status,
    /// Its counters.
    pub stats: Stats,
    /// What its loop has done.
    pub reconcile: Reconcile,
    /// Whether the history is being written; `None` where nobody has tried yet.
    pub history: Option<bool>,
}

/// What the daemon's loop has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconcile {
    /// Looks at the host.
    pub runs: u64,
    /// Changes made to it.
    pub changes: u64,
    /// Looks after which something was still wrong.
    pub failures: u64,
    /// When the last look began, in Unix milliseconds.
    pub last: u64,
}

impl Reconcile {
    /// One look more, which began at `now`: what it changed, and what it could not.
    pub fn note(&mut self, changes: &[String], problems: &[String], now: Timestamp) {
        self.runs += 1;
        self.changes += changes.len() as u64;
        self.failures += u64::from(!problems.is_empty());
        self.last = u64::try_from(now.as_millisecond()).unwrap_or(0);
    }
}

/// One metric of a peer.
struct OfPeer {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&PeerStats) -> u64,
}

/// The exporter's, in its words.
const EXPORTERS: [OfPeer; 3] = [
    OfPeer {
        name: "wireguard_sent_bytes_total",
        kind: Kind::Counter,
        help: "Bytes sent to the peer",
        value: |peer| peer.sent.bytes,
    },
    OfPeer {
        name: "wireguard_received_bytes_total",
        kind: Kind::Counter,
        help: "Bytes received from the peer",
        value: |peer| peer.received.bytes,
    },
    OfPeer {
        name: "wireguard_latest_handshake_seconds",
        kind: Kind::Gauge,
        help: "UNIX timestamp seconds of the last handshake",
        value: |peer| peer.latest_handshake.unwrap_or(0),
    },
];

/// What the exporter cannot know.
const OURS: [OfPeer; 4] = [
    of_fast_path("relay_peer_fast_path_received_packets_total", "IP packets from the peer", |peer| {
        from(peer).packets
    }),
    of_fast_path("relay_peer_fast_path_received_bytes_total", "Bytes of IP packets from the peer", |peer| {
        from(peer).bytes
    }),
    of_fast_path("relay_peer_fast_path_sent_packets_total", "IP packets to the peer", |peer| {
        to(peer).packets
    }),
    of_fast_path("relay_peer_fast_path_sent_bytes_total", "Bytes of IP packets to the peer", |peer| {
        to(peer).bytes
    }),
];

const fn of_fast_path(name: &'static str, help: &'static str, value: fn(&PeerStats) -> u64) -> OfPeer {
    OfPeer { name, kind: Kind::Counter, help, value }
}

const fn from(peer: &PeerStats) -> Packets {
    peer.fast_path.received
}

const fn to(peer: &PeerStats) -> Packets {
    peer.fast_path.sent
}

/// The text of it all.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let Snapshot { status, stats, reconcile, history } = snapshot;
    let mut text = Text::default();
    let interface = ("interface", stats.interface.as_str());

    for metric in EXPORTERS {
        text.family(metric.name, metric.kind, metric.help);
        for peer in &stats.peers {
            let labels = [
                interface,
                ("public_key", &peer.public_key.to_string()),
                ("allowed_ips", &allowed_ips(peer)),
                ("friendly_name", &peer.name),
            ];
            text.sample(&labels, (metric.value)(peer));
        }
    }
    for metric in OURS {
        text.family(metric.name, metric.kind, &format!("{} that took the fast path", metric.help));
        for peer in &stats.peers {
            let key = peer.public_key.to_string();
            let labels = [interface, ("public_key", &key), ("friendly_name", &peer.name)];
            text.sample(&labels, (metric.value)(peer));
        }
    }

    text.family(
        "relay_packets_total",
        Kind::Counter,
        "Packets that entered the tunnel, by what became of them",
    );
    for (verdict, packets) in &stats.verdicts {
        text.sample(&[interface, ("verdict", verdict)], *packets);
    }
    if let Some(uplink) = &stats.uplink {
        text.family(
            "relay_uplink_packets_total",
            Kind::Counter,
            "Packets on the uplink, by what the guard in front of the listen port made of them",
        );
        for (verdicts, action) in [(&uplink.passed, "passed"), (&uplink.dropped, "dropped")] {
            for (verdict, packets) in verdicts {
                text.sample(&[interface, ("action", action), ("verdict", verdict)], *packets);
            }
        }
    }
    let mut gauge = |name, help, value: u64| {
        text.family(name, Kind::Gauge, help);
        text.sample(&[interface], value);
    };
    // A home has none, and nobody shall be woken for that.
    if status.home.is_none() {
        gauge("relay_fast_path_enabled", "Whether the fast path is on", u64::from(stats.fast_path.is_on()));
    }
    if let Some(guard) = &status.uplink {
        gauge(
            "relay_uplink_guard_enabled",
            "Whether the guard in front of the listen port is attached",
            u64::from(guard.is_on()),
        );
    }
    gauge("relay_peers", "Peers that take part", status.peers as u64);
    gauge(
        "relay_peers_connected",
        "Peers with a handshake in the last three minutes",
        status.peers_connected as u64,
    );
    gauge("relay_peers_expired", "Peers whose time is over", status.peers_expired.len() as u64);
    gauge(
        "relay_problems",
        "Things that relay could not do; `relay status` names them",
        status.problems.len() as u64,
    );
    gauge(
        "relay_firewall_obstacles",
        "Rules of this host's firewall that close relay's way; `relay status` has the commands to open it",
        status.to_open.len() as u64,
    );
    if let Some(working) = history {
        gauge("relay_history_working", "Whether the history is being written", u64::from(*working));
    }
    let mut counter = |name, help, value| {
        text.family(name, Kind::Counter, help);
        text.sample(&[interface], value);
    };
    counter("relay_reconcile_runs_total", "Looks at the host since the daemon started", reconcile.runs);
    counter(
        "relay_reconcile_changes_total",
        "Changes made to the host since the daemon started",
        reconcile.changes,
    );
    counter(
        "relay_reconcile_failures_total",
        "Looks after which something was still wrong",
        reconcile.failures,
    );
    text.family(
        "relay_reconcile_last_timestamp_seconds",
        Kind::Gauge,
        "When the host was last looked at, Unix time",
    );
    text.sample_milli(&[interface], reconcile.last);
    text.family("relay_build_info", Kind::Gauge, "Always 1; relay's version and the layout of its maps");
    let layout = relay_common::LAYOUT.to_string();
    text.sample(&[("version", &status.version), ("layout", &layout)], 1);
    text.finish()
}

/// As the exporter writes them: one list, separated by commas.
fn allowed_ips(peer: &PeerStats) -> String {
    let addresses = peer.addresses.iter().map(|&address| ipnet::IpNet::from(address));
    let prefixes: Vec<String> =
        addresses.chain(peer.lans.iter().copied()).map(|prefix| prefix.to_string()).collect();
    prefixes.join(",")
}

#[cfg(test)]
mod tests;
