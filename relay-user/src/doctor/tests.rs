//! Facts in, findings out. A healthy hub is silent; each row breaks one thing.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use zeroize::Zeroizing;

use super::{
    examine,
    facts::{Daemon, Facts, Heard, Host, OtherRelay, Refused, Uplink, Way, around},
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
    kernel::sysctl::Sysctl,
    key::{PrivateKey, PublicKey},
    observed::{Device, DevicePeer, KernelRoute, Link, LinkKind, MARK, Observed, ROUTE_PROTOCOL},
    report::{FastPath, Status},
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
        fast_path: FastPath::on("nothing filters"),
        attached: Some("tcx".into()),
        peers: 2,
        peers_connected: 1,
        peers_expired: Vec::new(),
        problems: Vec::new(),
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
        kernel_wireguard: Some(Ok(())),
        link: Some(link),
        port_taken: None,
        host: Ok(Host {
            backend: Backend::Kernel,
            observed,
            closers: Vec::new(),
            drift: Vec::new(),
            fast_path: FastPath::on("nothing filters"),
            attached: Some("tcx".into()),
        }),
        relays: Vec::new(),
        uplink: Some(Uplink {
            interface: "eth0".into(),
            addresses: ours.clone(),
            host_addresses: ours.clone(),
            ways: vec![Way { whose: "eth0".into(), carries: 1500, around: around(false) }],
            driver: Some("virtio_net".into()),
            queues: 2,
            strict: Vec::new(),
        }),
        endpoint: Some(Ok(ours)),
        heard: Some(Vec::new()),
        device: Some(device()),
        probes: BTreeMap::from([("home".to_owned(), probe)]),
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

fn hears(facts: &mut Facts, opened: Result<(PublicKey, SystemTime), Sealed>) {
    let opened = opened.map(|(from, time)| Opened { from, time });
    let from = "198.51.100.9:4242".parse().expect("an address");
    facts.heard = Some(vec![Heard { from, at: now(), opened }]);
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

#[test]
fn each_fault_is_named() {
    type Row = (&'static str, Inject, Check, Level, &'static str);
    use Level::{Fault, Warning};
    let rows: &[Row] = &[
        ("no root", |f| f.unseen = vec!["WireGuard".into()], Check::Rights, Warning, "WireGuard"),
        (
            "bad file",
            |f| {
                f.config =
                    Err(Refused { message: "relay.toml:3:1: what?".into(), hint: None, forbidden: false })
            },
            Check::Config,
            Fault,
            ":3:1",
        ),
        (
            "a common LAN",
            |f| rewrite(f, "192.168.40.0/24", "192.168.1.0/24"),
            Check::Networks,
            Warning,
            "very common",
        ),
        ("a clock never set", |f| f.now = UNIX_EPOCH, Check::Clock, Fault, "never set"),
        (
            "a file from the future",
            |f| f.written = Some(now() + Duration::from_secs(7200)),
            Check::Clock,
            Warning,
            "2 h from now",
        ),
        (
            "a handshake in the future",
            |f| live(f, HOME).latest_handshake = Some(now() + Duration::from_secs(600)),
            Check::Clock,
            Warning,
            "10 min from now",
        ),
        ("no daemon", |f| f.daemon = Daemon::Absent, Check::Daemon, Fault, "not running"),
        ("a hung daemon", |f| f.daemon = Daemon::Broken("hangs".into()), Check::Daemon, Fault, "hangs"),
        ("a problem", |f| status(f).problems = vec!["cannot".into()], Check::Daemon, Fault, "cannot"),
        (
            "another file",
            |f| status(f).config = Some("/etc/other".into()),
            Check::Daemon,
            Fault,
            "/etc/other",
        ),
        ("an old daemon", |f| status(f).version = "0.0.1".into(), Check::Daemon, Warning, "0.0.1"),
        (
            "a relay's leftovers",
            |f| f.relays = vec![OtherRelay { interface: "wg7".into(), runs: false }],
            Check::Relays,
            Warning,
            "wg7",
        ),
        (
            "no kernel WireGuard, and insisted on",
            |f| {
                rewrite(f, "[interface]", "[interface]\nbackend = \"kernel\"");
                f.kernel_wireguard = Some(Err("no such module".into()));
            },
            Check::Wireguard,
            Fault,
            "no such module",
        ),
        (
            "kernel WireGuard came late",
            |f| status(f).backend = Backend::Userspace,
            Check::Wireguard,
            Warning,
            "by now",
        ),
        ("no interface", |f| f.link = None, Check::Interface, Fault, "no interface wg0"),
        (
            "a foreign interface",
            |f| f.link.as_mut().expect("a link").alias = None,
            Check::Interface,
            Fault,
            "not relay's",
        ),
        (
            "an interface that is down",
            |f| f.link.as_mut().expect("a link").up = false,
            Check::Interface,
            Fault,
            "is down",
        ),
        ("an unreadable host", |f| f.host = Err("nft is missing".into()), Check::Interface, Fault, "nft"),
        ("a taken port", |f| f.port_taken = Some("in use".into()), Check::Port, Fault, "51820"),
        ("drift", |f| host(f).drift = vec!["set the port".into()], Check::Drift, Fault, "set the port"),
        (
            "a closed port",
            |f| close(f, opening::Way::ListenPort(51820)),
            Check::ListenPort,
            Fault,
            "chain INPUT: policy drop",
        ),
        ("a closed tunnel", |f| close(f, opening::Way::Tunnel), Check::Forward, Fault, "wg0 to wg0"),
        (
            "a closed exit",
            |f| close(f, opening::Way::Exit("eth0".into())),
            Check::Forward,
            Fault,
            "way out by eth0",
        ),
        (
            "the fast path kept off",
            |f| {
                host(f).fast_path = FastPath::off("x");
                let (by, hint) = ("-j MARK".into(), "limit it".into());
                host(f).observed.forwarding = Some(TunnelForwarding::Kept { by, hint });
            },
            Check::FastPath,
            Warning,
            "-j MARK",
        ),
        (
            "the fast path not loaded",
            |f| host(f).fast_path = FastPath::off("no BPF"),
            Check::FastPath,
            Warning,
            "no BPF",
        ),
        (
            "no forwarding",
            |f| drop(host(f).observed.sysctls.insert(Sysctl::Ipv4Forward, "0".into())),
            Check::Forwarding,
            Fault,
            "net.ipv4.ip_forward = 0",
        ),
        (
            "strict filtering",
            |f| f.uplink.as_mut().expect("one").strict = vec!["eth1".into()],
            Check::RpFilter,
            Warning,
            "eth1",
        ),
        ("no uplink", |f| f.uplink = None, Check::Uplink, Fault, "no default route"),
        (
            "a narrow way",
            |f| f.uplink.as_mut().expect("one").ways[0].carries = 1400,
            Check::Mtu,
            Warning,
            "mtu = 1328",
        ),
        (
            "a narrow way to one",
            |f| {
                let way = Way { whose: "the way to home".into(), carries: 1492, around: around(true) };
                f.uplink.as_mut().expect("one").ways.push(way);
            },
            Check::Mtu,
            Warning,
            "mtu = 1408",
        ),
        ("no endpoint", |f| rewrite(f, "endpoint = ", "# "), Check::Endpoint, Warning, "nobody knows"),
        ("no such name", |f| f.endpoint = Some(Err("NXDOMAIN".into())), Check::Endpoint, Warning, "NXDOMAIN"),
        (
            "another's address",
            |f| f.endpoint = Some(Ok(vec!["203.0.113.99".parse().expect("an address")])),
            Check::Endpoint,
            Warning,
            "none of this host's",
        ),
        (
            "another port",
            |f| rewrite(f, "203.0.113.7:51820", "203.0.113.7:443"),
            Check::Endpoint,
            Fault,
            "UDP port 51820",
        ),
        (
            "a LAN that is elsewhere",
            |f| host(f).observed.routes.push(route("192.168.40.128/25", 2, 4)),
            Check::Networks,
            Fault,
            "192.168.40.128/25",
        ),
        (
            "a peer that WireGuard lacks",
            |f| drop(f.device.as_mut().map(|d| d.peers.remove(&PHONE))),
            Check::Peer,
            Fault,
            "does not know it",
        ),
        (
            "no keepalive",
            |f| rewrite(f, "name = \"home\"", "name = \"home\"\nkeepalive = 0"),
            Check::Keepalive,
            Warning,
            "PersistentKeepalive",
        ),
        (
            "nobody ever",
            |f| {
                live(f, HOME).latest_handshake = None;
                live(f, PHONE).latest_handshake = None;
            },
            Check::Handshake,
            Warning,
            "provider",
        ),
        (
            "one never",
            |f| live(f, PHONE).latest_handshake = None,
            Check::Handshake,
            Warning,
            "does not knock",
        ),
        (
            "nobody, since the port is closed",
            |f| {
                live(f, HOME).latest_handshake = None;
                live(f, PHONE).latest_handshake = None;
                close(f, opening::Way::ListenPort(51820));
            },
            Check::Handshake,
            Warning,
            "keeps everybody out",
        ),
        (
            "a home that is gone",
            |f| live(f, HOME).latest_handshake = Some(before(7200)),
            Check::Handshake,
            Fault,
            "2 h ago",
        ),
        (
            "a peer whose clock went back",
            |f| {
                live(f, HOME).latest_handshake = Some(before(600));
                hears(f, Ok((HOME, before(4200))));
            },
            Check::Initiation,
            Fault,
            "its clock went back, and says 1 h less",
        ),
        (
            "an old one played again",
            |f| hears(f, Ok((HOME, before(4200)))),
            Check::Initiation,
            Warning,
            "plays an old one",
        ),
        (
            "answers that do not arrive",
            |f| hears(f, Ok((PHONE, now()))),
            Check::Initiation,
            Fault,
            "does not take the hub's answers",
        ),
        (
            "answers that do not arrive, in userspace",
            |f| {
                live(f, HOME).latest_handshake = Some(now());
                let before = Device {
                    peers: [(
                        HOME,
                        DevicePeer { latest_handshake: Some(before(5)), ..DevicePeer::default() },
                    )]
                    .into(),
                    ..device()
                };
                host(f).observed.device = Some(before);
                live(f, HOME).received = 148;
                hears(f, Ok((HOME, now())));
            },
            Check::Initiation,
            Fault,
            "does not take the hub's answers",
        ),
        (
            "knocking at a closed port",
            |f| {
                close(f, opening::Way::ListenPort(51820));
                hears(f, Ok((PHONE, now())));
            },
            Check::Initiation,
            Fault,
            "firewall drops them",
        ),
        (
            "a disabled one",
            |f| hears(f, Ok((PublicKey::new([4; 32]), now()))),
            Check::Initiation,
            Warning,
            "is disabled",
        ),
        (
            "an expired one",
            |f| hears(f, Ok((PublicKey::new([5; 32]), now()))),
            Check::Initiation,
            Warning,
            "has expired",
        ),
        (
            "a stranger",
            |f| hears(f, Ok((PublicKey::new([6; 32]), now()))),
            Check::Initiation,
            Warning,
            "no peer in the file",
        ),
        (
            "another hub's key",
            |f| hears(f, Err(Sealed::OtherHub)),
            Check::Initiation,
            Warning,
            "another hub's key",
        ),
        (
            "a home that does not forward",
            |f| behind(f, true, Behind::NotForwarded),
            Check::Lan,
            Fault,
            "does not forward",
        ),
        (
            "a home that does not masquerade",
            |f| behind(f, true, Behind::Silent { asked: 254 }),
            Check::Lan,
            Warning,
            "masquerade",
        ),
        ("a home that refuses", |f| behind(f, true, Behind::Refused(13)), Check::Lan, Fault, "code 13"),
        (
            "a home that says nothing",
            |f| behind(f, false, Behind::NotForwarded),
            Check::Tunnel,
            Fault,
            "no ping",
        ),
    ];
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
    }
}

#[test]
fn what_is_no_fault() {
    let rows: &[(&str, Inject)] = &[
        ("a handshake that is heard and completed", |f| {
            live(f, HOME).latest_handshake = Some(now());
            hears(f, Ok((HOME, now())));
        }),
        ("junk", |f| hears(f, Err(Sealed::Damaged))),
        ("the fast path off by the file", |f| {
            rewrite(f, "[interface]", "[interface]\nfast_path = \"off\"");
            host(f).fast_path = FastPath::off("fast_path = \"off\"");
        }),
        ("behind NAT", |f| {
            let uplink = f.uplink.as_mut().expect("one");
            uplink.addresses = vec!["10.0.0.5".parse().expect("an address")];
            uplink.host_addresses = uplink.addresses.clone();
        }),
        ("another relay that runs", |f| {
            f.relays = vec![OtherRelay { interface: "wg1".into(), runs: true }];
        }),
        ("a home that answers no ping, with a LAN that does", |f| {
            behind(f, false, Behind::Answers([192, 168, 40, 10].into()));
        }),
        ("userspace, since the kernel has none", |f| {
            f.kernel_wireguard = Some(Err("no module".into()));
            status(f).backend = Backend::Userspace;
        }),
    ];
    for (what, change) in rows {
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(amiss(&examine(&facts)), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_file_that_we_may_not_read_is_a_matter_of_rights() {
    let mut facts = healthy();
    facts.unseen = vec!["relay.toml".into()];
    facts.config = Err(Refused { message: "denied".into(), hint: None, forbidden: true });
    let report = examine(&facts);
    assert_eq!(report.worst, Level::Warning, "{:#?}", amiss(&report));
}

#[test]
fn the_way_to_a_peer_breaks_where_it_breaks() {
    let broken = |inject: Inject, peer: &str| {
        let mut facts = healthy();
        inject(&mut facts);
        let findings = follow(&facts, peer).findings;
        let last = findings.last().expect("a finding").seen.clone();
        last.split('`').nth(1).map(str::to_owned)
    };
    let at = |check: &str| Some(check.to_owned());
    assert_eq!(broken(|_| {}, "home"), None);
    assert_eq!(broken(|_| {}, "old"), at("peer"), "disabled");
    assert_eq!(broken(|_| {}, "guest"), at("peer"), "expired");
    assert_eq!(broken(|_| {}, "phone"), at("handshake"), "away is a break for whoever looks for it");
    assert_eq!(broken(|f| drop(f.device.take()), "home"), at("wireguard"));
    let unroute = |f: &mut Facts| host(f).observed.routes.retain(|route| route.protocol != ROUTE_PROTOCOL);
    assert_eq!(broken(unroute, "home"), at("networks"));
    assert_eq!(broken(|f| behind(f, true, Behind::NotForwarded), "home"), at("lan"));
    assert_eq!(broken(|f| behind(f, false, Behind::NotForwarded), "home"), at("tunnel"));
    assert_eq!(follow(&healthy(), "nobody").findings.len(), 0);
}
