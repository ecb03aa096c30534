//! Faults of the hub itself and of the way out.

use Level::{Fault, Warning};

use super::*;

const ROWS: &[Row] = &[
    ("no root", |f| f.unseen = vec!["WireGuard".into()], Check::Rights, Warning, "WireGuard"),
    (
        "bad file",
        |f| f.config = Err(Refused { message: "relay.toml:3:1: what?".into(), hint: None, forbidden: false }),
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
    (
        "no daemon, and a service that is not started",
        |f| {
            f.daemon = Daemon::Absent;
            f.service = Some(Service { failed: false });
        },
        Check::Daemon,
        Fault,
        "systemctl start relay",
    ),
    (
        "a service that failed",
        |f| {
            f.daemon = Daemon::Absent;
            f.service = Some(Service { failed: true });
        },
        Check::Daemon,
        Fault,
        "journalctl -u relay",
    ),
    (
        "a service that hangs",
        |f| {
            f.daemon = Daemon::Broken("hangs".into());
            f.service = Some(Service { failed: false });
        },
        Check::Daemon,
        Fault,
        "systemctl restart relay",
    ),
    (
        "a history that cannot be written",
        |f| {
            status(f).problems = vec!["cannot write the history".into()];
            status(f).beside = status(f).problems.clone();
        },
        Check::Daemon,
        Warning,
        "traffic goes on",
    ),
    ("no eBPF", |f| f.kernel.as_mut().expect("one").bpf = false, Check::Kernel, Warning, "no fast path"),
    (
        "no nftables",
        |f| {
            f.kernel.as_mut().expect("one").nftables = Err("nft is missing".into());
            f.host = Err("nft is missing".into());
        },
        Check::Kernel,
        Fault,
        "apt install nftables",
    ),
    ("a hung daemon", |f| f.daemon = Daemon::Broken("hangs".into()), Check::Daemon, Fault, "hangs"),
    ("a problem", |f| status(f).problems = vec!["cannot".into()], Check::Daemon, Fault, "cannot"),
    ("another file", |f| status(f).config = Some("/etc/other".into()), Check::Daemon, Fault, "/etc/other"),
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
            host(f).fast_path = Standing::off("x");
            let (by, hint) = ("-j MARK".into(), "limit it".into());
            host(f).observed.forwarding = Some(TunnelForwarding::Kept { by, hint });
        },
        Check::FastPath,
        Warning,
        "-j MARK",
    ),
    (
        "the fast path not loaded",
        |f| host(f).fast_path = Standing::off("no BPF"),
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
        "another's address by IPv6",
        |f| {
            let addresses =
                ["203.0.113.7", "2001:db8::99"].map(|address| address.parse().expect("an address"));
            f.endpoint = Some(Ok(addresses.to_vec()));
        },
        Check::Endpoint,
        Warning,
        "and 2001:db8::99 is none of this host's",
    ),
    (
        "another port",
        |f| rewrite(f, "203.0.113.7:51820", "203.0.113.7:443"),
        Check::Endpoint,
        Fault,
        "UDP port 51820",
    ),
];

#[test]
fn each_fault_is_named() {
    each_is_named(ROWS);
}
