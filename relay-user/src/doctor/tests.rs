//! Facts in, findings out. A healthy hub is silent; each row breaks one thing.

mod healthy;
mod hub;
mod peers;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use zeroize::Zeroizing;

use super::{
    examine,
    facts::{Daemon, Ears, Facts, Heard, Host, Kernel, OtherRelay, Refused, Service, Uplink, Way, around},
    finding::{Check, Level, Report},
    follow,
    initiation::{Opened, Sealed},
    probe::{Behind, Probe},
};
use crate::{
    config::{self, Config, secret::Secret},
    desired::Backend,
    firewall::{
        analysis::TunnelForwarding,
        opening::{self, Opening, Owner},
    },
    kernel::{datapath::Hook, sysctl::Sysctl},
    key::{PrivateKey, PublicKey},
    observed::{Device, DevicePeer, KernelRoute, Link, LinkKind, MARK, Observed, ROUTE_PROTOCOL},
    report::{Standing, Status},
};

const FILE: &str = r#"
[interface]
listen_port = 51820
addresses = ["10.9.0.1/24"]
private_key_file = "wg0.key"
endpoint = "203.0.113.7:51820"
"#;

fn file() -> String {
    let peer = |name: &str, number: u8, more: &str| {
        let key = PublicKey::new([number; 32]);
        format!(
            "[[peer]]\nname = \"{name}\"\npublic_key = \"{key}\"\naddresses = [\"10.9.0.{number}\"]\n{more}\n"
        )
    };
    [
        FILE.to_owned(),
        peer("home", 2, "lans = [\"192.168.40.0/24\"]"),
        peer("phone", 3, ""),
        peer("old", 4, "enabled = false"),
        peer("guest", 5, "expires = 2026-01-01T00:00:00Z"),
    ]
    .concat()
}

fn parse(text: &str) -> Config {
    let key = |_: &Path| {
        Ok(Secret { text: Zeroizing::new(PrivateKey::new([7; 32]).expose_base64().to_string()), mode: 0o600 })
    };
    config::parse_with(Path::new("/nonexistent/relay.toml"), text, &[], &key).expect("a valid file")
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn before(seconds: u64) -> SystemTime {
    now() - Duration::from_secs(seconds)
}

const HOME: PublicKey = PublicKey::new([2; 32]);
const PHONE: PublicKey = PublicKey::new([3; 32]);

fn device() -> Device {
    let peer = |age| DevicePeer {
        latest_handshake: Some(before(age)),
        received: 1000,
        endpoint: Some("198.51.100.9:4242".parse().expect("an address")),
        ..DevicePeer::default()
    };
    Device {
        public_key: Some(PrivateKey::new([7; 32]).public_key()),
        listen_port: 51820,
        fwmark: 0,
        peers: [(HOME, peer(30)), (PHONE, peer(90_000))].into(),
    }
}

fn route(destination: &str, interface: u32, protocol: u8) -> KernelRoute {
    KernelRoute {
        destination: destination.parse().expect("a prefix"),
        interface: Some(interface),
        gateway: None,
        protocol,
        metric: 0,
        kind: 1,
        table: 254,
        mtu: None,
        narrowed: false,
    }
}

/// All is well: home is connected and answers, the phone is away.
fn healthy() -> Facts {
    let link = Link {
        index: 7,
        name: "wg0".into(),
        kind: LinkKind::WireGuard,
        mtu: 1420,
        up: true,
        alias: Some(MARK.into()),
    };
    let observed = Observed {
        link: Some(link.clone()),
        device: Some(device()),
        routes: vec![
            route("0.0.0.0/0", 2, 4),
            route("10.9.0.0/24", 7, 2),
            route("192.168.40.0/24", 7, ROUTE_PROTOCOL),
        ],
        sysctls: [(Sysctl::Ipv4Forward, "1".to_owned())].into(),
        forwarding: Some(TunnelForwarding::Free),
        ..Observed::default()
    };
    let status = Status {
        uplink: None,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: 42,
        config: Some("/nonexistent/relay.toml".into()),
        interface: "wg0".into(),
        namespace: None,
        backend: Backend::Kernel,
        backend_reason: String::new(),
        public_key: Some(PrivateKey::new([7; 32]).public_key()),
        listen_port: 51820,
        endpoint: None,
        home: None,
        fast_path: Standing::on("nothing filters"),
        attached: Some("tcx".into()),
        peers: 2,
        peers_connected: 1,
        peers_expired: Vec::new(),
        problems: Vec::new(),
        beside: Vec::new(),
        to_open: Vec::new(),
    };
    let lan = "192.168.40.0/24".parse().expect("a prefix");
    let probe = Probe {
        tunnel: Some(([10, 9, 0, 2].into(), true)),
        lans: vec![(lan, Behind::Answers([192, 168, 40, 10].into()))],
        failed: None,
    };
    let ours = vec!["203.0.113.7".parse().expect("an address")];
    Facts {
        now: now(),
        unseen: Vec::new(),
        path: "/nonexistent/relay.toml".into(),
        written: Some(before(1000)),
        config: Ok(parse(&file())),
        daemon: Daemon::Runs(Box::new(status)),
        service: None,
        kernel: Some(Kernel {
            release: "6.12.9".into(),
            bpf: true,
            hook: Hook::Tcx,
            bpffs: true,
            btf: true,
            nftables: Ok(()),
        }),
        kernel_wireguard: Some(Ok(())),
        link: Some(link),
        port_taken: None,
        host: Ok(Host {
            backend: Backend::Kernel,
            observed,
            closers: Vec::new(),
            drift: Vec::new(),
            fast_path: Standing::on("nothing filters"),
            attached: Some("tcx".into()),
        }),
        relays: Vec::new(),
        uplink: Some(Uplink {
            interface: "eth0".into(),
            host_addresses: ours.clone(),
            ways: vec![Way { whose: "eth0".into(), carries: 1500, around: around(false) }],
            driver: Some("virtio_net".into()),
            queues: 2,
            strict: Vec::new(),
        }),
        endpoint: Some(Ok(ours)),
        ears: Ears::Listened { heard: Vec::new(), whole: true },
        device: Some(device()),
        probes: BTreeMap::from([("home".to_owned(), probe)]),
        not_asked: 0,
        knocks: None,
    }
}

/// Breaks one thing.
type Inject = fn(&mut Facts);

fn amiss(report: &Report) -> Vec<String> {
    let amiss = report.findings.iter().filter(|finding| finding.is_amiss());
    amiss.map(|finding| format!("{} {} {finding:?}", finding.level, finding.check)).collect()
}

#[test]
fn a_healthy_hub_is_silent() {
    assert_eq!(amiss(&examine(&healthy())), Vec::<String>::new());
    assert_eq!(examine(&healthy()).worst, Level::Ok);
    assert_eq!(amiss(&follow(&healthy(), "home")), Vec::<String>::new());
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().expect("a host")
}

fn status(facts: &mut Facts) -> &mut Status {
    match &mut facts.daemon {
        Daemon::Runs(status) => status,
        other => panic!("{other:?}"),
    }
}

fn live(facts: &mut Facts, key: PublicKey) -> &mut DevicePeer {
    facts.device.as_mut().and_then(|device| device.peers.get_mut(&key)).expect("the peer")
}

/// The peer's last handshake was so long ago, before and after we listened, and meanwhile WireGuard took so many bytes.
fn counts(facts: &mut Facts, key: PublicKey, age: u64, taken: u64) {
    let before = host(facts).observed.device.as_mut().and_then(|device| device.peers.get_mut(&key));
    before.expect("the peer").latest_handshake = Some(self::before(age));
    let after = live(facts, key);
    after.latest_handshake = Some(self::before(age));
    after.received += taken;
}

/// Four seconds before WireGuard is read.
fn hears(facts: &mut Facts, opened: Result<(PublicKey, SystemTime), Sealed>) {
    let opened = opened.map(|(from, time)| Opened { from, time });
    let from = "198.51.100.9:4242".parse().expect("an address");
    facts.ears = Ears::Listened { heard: vec![Heard { from, at: before(4), opened }], whole: true };
}

fn rewrite(facts: &mut Facts, from: &str, to: &str) {
    let text = file();
    assert!(text.contains(from), "{from}");
    facts.config = Ok(parse(&text.replace(from, to)));
}

fn behind(facts: &mut Facts, answers: bool, behind: Behind) {
    let probe = facts.probes.get_mut("home").expect("home's");
    probe.tunnel = Some(([10, 9, 0, 2].into(), answers));
    probe.lans[0].1 = behind;
}

fn close(facts: &mut Facts, way: opening::Way) {
    let argv = vec!["ufw".to_owned(), "allow".to_owned()];
    let opening =
        Opening { way: way.clone(), owner: Owner::Ufw, argv, command: "ufw allow".into(), by_hand: false };
    host(facts).observed.openings = vec![opening];
    host(facts).closers = vec![(way, "table ip filter, chain INPUT: policy drop".into())];
}

/// One fault: what it is, how it comes, and the check, level and words that name it.
type Row = (&'static str, Inject, Check, Level, &'static str);

/// Each row is named as it says, and once.
fn each_is_named(rows: &[Row]) {
    for (what, inject, check, level, words) in rows {
        let mut facts = healthy();
        inject(&mut facts);
        let report = examine(&facts);
        let found = report.findings.iter().any(|finding| {
            let remedy = finding.remedy.clone().unwrap_or_default();
            finding.check == *check
                && finding.level == *level
                && format!("{} {remedy}", finding.seen).contains(words)
        });
        assert!(found, "{what}: nothing of {check} with {words:?} in {:#?}", amiss(&report));
        let mut told: Vec<_> = report.findings.iter().filter(|finding| finding.is_amiss()).collect();
        told.dedup_by_key(|finding| (finding.check, finding.peer.clone()));
        assert_eq!(told.len(), amiss(&report).len(), "{what}: told twice in {:#?}", amiss(&report));
    }
}
