//! Reports as text for a terminal: plain columns, no colour, meaning in words.

use std::{fmt::Write as _, time::Duration};

use relay_common::UplinkVerdict;

use crate::{
    desired::Backend,
    report::{HomeStatus, LanStatus, Stats, Status},
};

/// `relay stats` for people. `now` is Unix seconds.
#[must_use]
pub fn stats(stats: &Stats, now: u64) -> String {
    let mut rows = vec![
        ["PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "FAST IN", "FAST OUT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for peer in &stats.peers {
        let prefixes =
            peer.addresses.iter().map(ToString::to_string).chain(peer.lans.iter().map(ToString::to_string));
        rows.push(vec![
            peer.name.clone(),
            prefixes.collect::<Vec<_>>().join(" "),
            peer.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string()),
            peer.latest_handshake.map_or_else(|| "never".to_owned(), |at| ago(now.saturating_sub(at))),
            bytes(peer.received.bytes),
            bytes(peer.sent.bytes),
            bytes(peer.fast_path.received.bytes),
            bytes(peer.fast_path.sent.bytes),
        ]);
    }
    let mut text =
        format!("{} ({}), fast path {}\n\n", stats.interface, backend(stats.backend), stats.fast_path);
    if stats.peers.is_empty() {
        text.push_str("no peers yet; `relay peer add NAME` makes one\n");
    } else {
        text.push_str(&columns(&rows, &[4, 5, 6, 7]));
    }
    let _ = match stats.fast_path_share() {
        Some(share) => {
            writeln!(text, "\nfast path carried {:.1} % of what entered the tunnel:", share * 100.0)
        }
        None => writeln!(text, "\nthe fast path has seen no packet yet"),
    };
    for (name, packets) in stats.verdicts.iter().filter(|(_, packets)| **packets > 0) {
        let _ = writeln!(text, "  {:<20} {packets:>14}", name.replace('_', " "));
    }
    if let Some(uplink) = &stats.uplink {
        let handshakes = uplink.passed.get(UplinkVerdict::Initiation.name()).copied().unwrap_or(0);
        let dropped = uplink.all_dropped();
        let _ = writeln!(
            text,
            "\nthe guard of the uplink let {handshakes} initiations in and dropped {dropped} packets"
        );
        for (name, packets) in uplink.dropped.iter().filter(|(_, packets)| **packets > 0) {
            let _ = writeln!(text, "  {:<20} {packets:>14}", name.replace('_', " "));
        }
    }
    text
}

/// `relay status` for people. `now` is Unix seconds.
#[must_use]
pub fn status(status: &Status, now: u64) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<11} {value}");
    };
    let keeps = status.config.as_deref().unwrap_or("an adopted interface, which somebody else keeps");
    line("relay", &format!("{} is up (pid {}), {keeps}", status.version, status.pid));
    let namespace = status.namespace.as_ref().map(|path| format!(" in {path}")).unwrap_or_default();
    let port = match status.home {
        None => format!(", UDP port {}", status.listen_port),
        Some(_) => String::new(),
    };
    line("interface", &format!("{}{namespace}{port}", status.interface));
    // An adopted one's is not ours, and does not end with us.
    let ends = status.backend == Backend::Userspace && status.config.is_some();
    let ends = if ends { ", which ends with the daemon" } else { "" };
    line("backend", &format!("{}{ends} ({})", backend(status.backend), status.backend_reason));
    line("public key", &status.public_key.map_or_else(|| "none yet".to_owned(), |key| key.to_string()));
    match &status.home {
        Some(home) => of_home(home, now, &mut line),
        None => of_hub(status, &mut line),
    }
    for problem in &status.problems {
        line("problem", problem);
    }
    for command in &status.to_open {
        line("to open", &format!("a firewall closes relay's way; run: {command}"));
    }
    text
}

fn of_hub(status: &Status, line: &mut impl FnMut(&str, &str)) {
    if status.config.is_some() {
        line("endpoint", status.endpoint.as_deref().unwrap_or("unknown; set `endpoint` under [interface]"));
    }
    let attached =
        status.attached.as_ref().map(|attached| format!(", attached by {attached}")).unwrap_or_default();
    line("fast path", &format!("{}{attached}", status.fast_path));
    if let Some(guard) = &status.uplink {
        line("uplink", &format!("guard {guard}"));
    }
    let expired = match status.peers_expired.as_slice() {
        [] => String::new(),
        names => format!("; expired: {}", names.join(", ")),
    };
    line("peers", &format!("{} of {} connected{expired}", status.peers_connected, status.peers));
}

fn of_home(home: &HomeStatus, now: u64, line: &mut impl FnMut(&str, &str)) {
    let address = match home.address {
        Some(address) if address.to_string() == home.endpoint => String::new(),
        Some(address) => format!(", at {address}"),
        None => ", which has no address yet".to_owned(),
    };
    let handshake = match home.latest_handshake {
        Some(at) => format!("handshake {}", ago(now.saturating_sub(at))),
        None => "no handshake yet".to_owned(),
    };
    line("hub", &format!("{}{address}; {handshake}", home.endpoint));
    line("hub's key", &home.hub.to_string());
    line("carried", &format!("{} received, {} sent", bytes(home.received.bytes), bytes(home.sent.bytes)));
    for LanStatus { lan, interface } in &home.lans {
        line("LAN", &format!("{lan} by {}", interface.as_deref().unwrap_or("no interface")));
    }
    line(
        "NAT",
        if home.nat {
            "on: machines on the LAN see this machine's address"
        } else {
            "off: machines on the LAN see the peers' own addresses"
        },
    );
    for route in &home.routes_for_router {
        line("to route", &format!("add to the LAN's router: {route}"));
    }
}

const fn backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Kernel => "kernel WireGuard",
        Backend::Userspace => "userspace WireGuard",
    }
}

/// Pads every column but the last to its widest cell; those in `right` are flush right.
#[must_use]
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if right.contains(&column) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// 1,536 → `1.5 KiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// How long ago that is, in the largest unit that fits.
#[must_use]
pub fn ago(seconds: u64) -> String {
    let since = Duration::from_secs(seconds).as_secs();
    match since {
        0..60 => format!("{since} s ago"),
        60..3600 => format!("{} min ago", since / 60),
        3600..172_800 => format!("{} h ago", since / 3600),
        _ => format!("{} days ago", since / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::PublicKey,
        report::{Bytes, Packets, PeerFastPath, PeerStats, Standing, UplinkStats},
    };

    fn example() -> Stats {
        Stats {
            interface: "wg0".into(),
            backend: Backend::Kernel,
            fast_path: Standing::on("nothing on this host filters or changes tunnel-to-tunnel traffic"),
            peers: vec![
                PeerStats {
                    name: "home".into(),
                    public_key: PublicKey::new([1; 32]),
                    addresses: ["10.9.0.2".parse().unwrap(), "fd52:1a9::2".parse().unwrap()].into(),
                    lans: ["192.168.40.0/24".parse().unwrap()].into(),
                    endpoint: Some("203.0.113.9:41820".parse().unwrap()),
                    latest_handshake: Some(940),
                    received: Bytes { bytes: 1536 },
                    sent: Bytes { bytes: 3 << 30 },
                    fast_path: PeerFastPath {
                        received: Packets { packets: 3, bytes: 1200 },
                        sent: Packets::default(),
                    },
                },
                PeerStats {
                    name: "phone".into(),
                    public_key: PublicKey::new([2; 32]),
                    addresses: ["10.9.0.3".parse().unwrap()].into(),
                    lans: [].into(),
                    endpoint: None,
                    latest_handshake: None,
                    received: Bytes::default(),
                    sent: Bytes::default(),
                    fast_path: PeerFastPath::default(),
                },
            ],
            verdicts: [("redirected".into(), 990), ("ttl_expired".into(), 10), ("mss".into(), 0)].into(),
            uplink: Some(UplinkStats {
                passed: [("data".into(), 8000), ("initiation".into(), 12)].into(),
                dropped: [("bad_mac1".into(), 70_000), ("replay".into(), 0), ("source_rate".into(), 5)]
                    .into(),
            }),
        }
    }

    #[test]
    fn stats_for_people() {
        insta::assert_snapshot!(stats(&example(), 1000));
    }

    #[test]
    fn stats_as_json() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&example()).unwrap());
    }

    #[test]
    fn status_of_an_adopted_interface() {
        insta::assert_snapshot!(status(
            &Status {
                version: "0.1.0".into(),
                pid: 42,
                config: None,
                interface: "wg0".into(),
                namespace: Some("/proc/4711/ns/net".into()),
                backend: Backend::Kernel,
                backend_reason: "somebody else's".into(),
                public_key: None,
                listen_port: 51820,
                endpoint: None,
                home: None,
                fast_path: Standing::on("nothing on this host filters or changes traffic from peer to peer"),
                attached: Some("clsact".into()),
                uplink: None,
                peers: 2,
                peers_connected: 1,
                peers_expired: Vec::new(),
                problems: vec![
                    "AQEBAQEB: 192.168.40.0/24 has no route into wg0; ip route add 192.168.40.0/24 dev wg0"
                        .into(),
                ],
                beside: Vec::new(),
                to_open: Vec::new(),
            },
            1000
        ));
    }

    #[test]
    fn status_for_people() {
        insta::assert_snapshot!(status(&hub(), 1000));
    }

    #[test]
    fn status_of_a_home_for_people() {
        let home = HomeStatus {
            hub: PublicKey::new([2; 32]),
            endpoint: "vps.example.net:51820".into(),
            address: Some("203.0.113.9:51820".parse().unwrap()),
            latest_handshake: Some(940),
            received: Bytes { bytes: 1536 },
            sent: Bytes { bytes: 3 << 30 },
            lans: vec![
                LanStatus { lan: "192.168.40.0/24".parse().unwrap(), interface: Some("eth0".into()) },
                LanStatus { lan: "fd00:40::/64".parse().unwrap(), interface: None },
            ],
            nat: false,
            routes_for_router: vec!["10.9.0.0/24 via 192.168.40.2".into()],
        };
        insta::assert_snapshot!(status(&Status { home: Some(home.clone()), ..hub() }, 1000));
        let silent = HomeStatus { address: None, latest_handshake: None, nat: true, ..home };
        insta::assert_snapshot!(status(&Status { home: Some(silent), ..hub() }, 1000));
    }

    fn hub() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 42,
            config: Some("/etc/relay/relay.toml".into()),
            interface: "wg0".into(),
            namespace: None,
            backend: Backend::Userspace,
            backend_reason: "this kernel has no WireGuard".into(),
            public_key: Some(PublicKey::new([1; 32])),
            listen_port: 51820,
            endpoint: None,
            home: None,
            fast_path: Standing::off("`chain forward { policy drop }` in table ip filter"),
            attached: Some("tcx".into()),
            uplink: Some(Standing::on("native, on eth0")),
            peers: 2,
            peers_connected: 1,
            peers_expired: vec!["guest".into()],
            problems: vec!["cannot set net.ipv4.ip_forward: Read-only file system".into()],
            beside: Vec::new(),
            to_open: vec!["ufw allow 51820/udp".into()],
        }
    }

    #[test]
    fn bytes_are_rounded_to_a_unit() {
        assert_eq!(
            ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"].map(str::to_owned),
            [0, 1023, 1024, 1 << 30].map(bytes)
        );
    }
}
