//! The plan as tables of data: what shall be, what is, what is still to do.

mod home;
mod many;
mod uplink;

use std::{collections::BTreeSet, net::IpAddr};

use super::*;
use crate::{
    desired::{BackendChoice, Firewall, Hub, InterfaceName, Uplink, UplinkMode},
    firewall::{analysis::TunnelForwarding, packet::Version},
    kernel::datapath::Hook,
    key::PrivateKey,
    maps::AllDirect,
    observed::{Device, Link, LinkKind, MARK},
};

const INDEX: u32 = 7;

fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

fn peer(name: &str, address: &str, lan: Option<&str>) -> Peer {
    Peer {
        name: name.parse().unwrap(),
        preshared_key: None,
        addresses: [address.parse::<IpAddr>().unwrap()].into(),
        lans: lan.map(|lan| lan.parse().unwrap()).into_iter().collect(),
        endpoint: None,
        keepalive: lan.map(|_| 25),
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    }
}

fn desired() -> Desired {
    Desired {
        interface: "wg0".parse().unwrap(),
        backend: BackendChoice::Auto,
        mtu: 1420,
        addresses: ["10.9.0.1/24".parse().unwrap(), "fd52:1a9::1/64".parse().unwrap()].into(),
        private_key: PrivateKey::new([9; 32]),
        role: Role::Hub(Hub {
            listen_port: 51820,
            endpoint: None,
            fast_path: FastPathMode::Auto,
            uplink: Uplink::default(),
        }),
        firewall: Firewall::default(),
        peers: [
            (key(1), peer("home", "10.9.0.2", Some("192.168.40.0/24"))),
            (key(2), peer("phone", "10.9.0.3", None)),
        ]
        .into(),
    }
}

/// A host that is just as `desired` says, both peers heard from.
fn settled(desired: &Desired) -> Observed {
    let mut observed = Observed {
        link: Some(Link {
            index: INDEX,
            name: "wg0".into(),
            kind: LinkKind::WireGuard,
            mtu: desired.mtu,
            up: true,
            alias: Some(MARK.into()),
        }),
        device: Some(Device {
            public_key: Some(desired.private_key.public_key()),
            listen_port: desired.listen_port().unwrap_or(4242),
            fwmark: 0,
            peers: desired
                .peers
                .iter()
                .map(|(key, peer)| {
                    let live = DevicePeer {
                        allowed_ips: peer.allowed_ips().collect(),
                        endpoint: Some("203.0.113.5:4000".parse().unwrap()),
                        ..DevicePeer::default()
                    };
                    (*key, live)
                })
                .collect(),
        }),
        addresses: desired.addresses.clone(),
        routes: vec![route("192.168.40.0/24", ROUTE_PROTOCOL)],
        sysctls: [(Sysctl::Ipv4Forward, "1".into()), (Sysctl::Ipv6Forward, "1".into())].into(),
        table: Some(table::desired("wg0", &desired.firewall.allow_from, &[])),
        forwarding: Some(TunnelForwarding::Free),
        attached: Some(Hook::Tcx),
        fast_path_pinned: true,
        ..Observed::default()
    };
    let maps = datapath_plan::desired_maps(
        &desired.into(),
        observed.device.as_ref(),
        INDEX,
        &observed.routes,
        &BTreeMap::new(),
    );
    observed.maps = Some(DatapathState {
        slots: maps.slots,
        hosts: maps.hosts,
        lans: maps.lans,
        enabled: true,
        all_direct: AllDirect { v4: true, v6: true },
        crowded: BTreeSet::new(),
        network6: Some(*b"\xfd\x52\x01\xa9\0\0\0\0"),
    });
    observed
}

fn route(destination: &str, protocol: u8) -> KernelRoute {
    KernelRoute {
        destination: destination.parse().unwrap(),
        interface: Some(INDEX),
        gateway: None,
        protocol,
        metric: 0,
        kind: 1,
        table: 254,
        mtu: None,
        narrowed: false,
    }
}

fn todo(desired: &Desired, observed: &Observed) -> Vec<Change> {
    plan(desired, Backend::Kernel, observed, &Standing::on("test")).changes
}

fn words(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_to_do_is_nothing_done() {
    let desired = desired();
    assert_eq!(words(&todo(&desired, &settled(&desired))), [""; 0]);
}

#[test]
fn from_nothing_to_a_hub() {
    let observed = Observed {
        sysctls: [(Sysctl::Ipv4Forward, "0".into()), (Sysctl::Ipv6Forward, "0".into())].into(),
        router_advertised: ["eth0".parse().unwrap()].into(),
        ..Observed::default()
    };
    let observed = Observed {
        sysctls: observed
            .sysctls
            .into_iter()
            .chain([(Sysctl::AcceptRa("eth0".parse().unwrap()), "1".into())])
            .collect(),
        ..observed
    };
    insta::assert_snapshot!(words(&todo(&desired(), &observed)).join("\n"));
}

/// (what happened, the drift, what mends it)
type Drift = (&'static str, fn(&mut Observed), &'static [&'static str]);

#[test]
fn drift_heals() {
    let rows: &[Drift] = &[
        ("link down", |o| o.link.as_mut().unwrap().up = false, &["bring the interface up"]),
        ("mtu changed", |o| o.link.as_mut().unwrap().mtu = 1280, &["set the interface's MTU to 1420"]),
        (
            "address flushed",
            |o| o.addresses.clear(),
            &["add the address 10.9.0.1/24", "add the address fd52:1a9::1/64"],
        ),
        (
            "address added",
            |o| assert!(o.addresses.insert("10.77.0.1/24".parse().unwrap())),
            &["remove the address 10.77.0.1/24"],
        ),
        ("route flushed", |o| o.routes.clear(), &["route 192.168.40.0/24 into the tunnel"]),
        (
            "route of ours too many",
            |o| o.routes.push(route("192.168.99.0/24", ROUTE_PROTOCOL)),
            &["remove the route to 192.168.99.0/24"],
        ),
        ("route of the admin's", |o| o.routes.push(route("192.168.99.0/24", 4)), &[]),
        ("key changed", |o| o.device.as_mut().unwrap().public_key = Some(key(77)), &["set the private key"]),
        ("port changed", |o| o.device.as_mut().unwrap().listen_port = 1, &["set the listen port"]),
        (
            "peer removed",
            |o| drop(o.device.as_mut().unwrap().peers.remove(&key(1))),
            &["change 2 entries of the fast path", "set 1 peer"],
        ),
        (
            "peer added",
            |o| drop(o.device.as_mut().unwrap().peers.insert(key(5), DevicePeer::default())),
            &["remove 1 peer"],
        ),
        (
            "allowed IPs changed",
            |o| o.device.as_mut().unwrap().peers.get_mut(&key(1)).unwrap().allowed_ips.clear(),
            &["set 1 peer"],
        ),
        (
            "keepalive set",
            |o| o.device.as_mut().unwrap().peers.get_mut(&key(1)).unwrap().keepalive = Some(25),
            &["set 1 peer"],
        ),
        (
            "peer roamed",
            |o| {
                let live = o.device.as_mut().unwrap().peers.get_mut(&key(2)).unwrap();
                live.endpoint = Some("198.51.100.77:9".parse().unwrap());
            },
            &[],
        ),
        (
            "forwarding off",
            |o| drop(o.sysctls.insert(Sysctl::Ipv4Forward, "0".into())),
            &["set net.ipv4.ip_forward = 1"],
        ),
        ("table gone", |o| o.table = None, &["write the nftables table `inet relay`"]),
        ("program gone", |o| o.attached = None, &["load and attach the fast path"]),
        ("switched off", |o| o.maps.as_mut().unwrap().enabled = false, &["switch the fast path on"]),
        (
            "map entry lost",
            |o| {
                let phone: IpAddr = "10.9.0.3".parse().unwrap();
                assert!(o.maps.as_mut().unwrap().hosts.remove(&phone).is_some());
            },
            &["change 1 entry of the fast path"],
        ),
    ];
    let desired = desired();
    for (what, drift, expected) in rows {
        let mut observed = settled(&desired);
        drift(&mut observed);
        assert_eq!(words(&todo(&desired, &observed)), *expected, "{what}");
    }
}

#[test]
fn peers_are_told_by_name_while_there_are_few() {
    let set = |desired: &Desired, keys: &[u8]| {
        Change::SetPeers(keys.iter().map(|&n| key(n)).collect()).told(desired)
    };
    let mut desired = desired();
    assert_eq!(set(&desired, &[2]), "set the peer phone");
    assert_eq!(set(&desired, &[1, 2]), "set the peers home, phone");
    for n in 3..6 {
        desired.peers.insert(key(n), peer(&format!("guest{n}"), "10.9.0.9", None));
    }
    assert_eq!(set(&desired, &[1, 2, 3, 4]), "set 4 peers");
    assert_eq!(Change::SetUp.told(&desired), Change::SetUp.to_string());
}

#[test]
fn a_peer_leaves_the_fast_path_before_it_leaves_wireguard() {
    let before = desired();
    let observed = settled(&before);
    let mut after = before;
    after.peers.remove(&key(1));
    let steps = todo(&after, &observed);
    let at = |wanted: fn(&Change) -> bool| steps.iter().position(wanted).expect("the step is there");
    let withdraw = at(|change| matches!(change, Change::SetMaps(changes) if changes.iter().all(takes_away)));
    let remove = at(|change| matches!(change, Change::RemovePeers(_)));
    let route = at(|change| matches!(change, Change::RemoveRoute(_)));
    assert!(withdraw < remove && remove < route, "{:?}", words(&steps));
}

#[test]
fn a_reload_touches_only_the_peer_it_is_about() {
    let before = desired();
    let observed = settled(&before);
    let mut after = before;
    after.peers.insert(key(3), peer("laptop", "10.9.0.4", None));
    let steps = todo(&after, &observed);
    assert!(steps.contains(&Change::SetPeers([key(3)].into())), "{:?}", words(&steps));
    assert!(!steps.iter().any(|step| matches!(step, Change::RemovePeers(_) | Change::Configure { .. })));
}

#[test]
fn off_takes_the_program_away_and_asks_for_nothing_else() {
    let mut desired = desired();
    let mut observed = settled(&desired);
    desired.role = Role::Hub(Hub {
        listen_port: 51820,
        endpoint: None,
        fast_path: FastPathMode::Off,
        uplink: Uplink::default(),
    });
    let off = Standing::off("test");
    assert_eq!(plan(&desired, Backend::Kernel, &observed, &off).changes, [Change::UnloadFastPath]);
    observed.maps = None;
    observed.attached = None;
    observed.fast_path_pinned = false;
    assert_eq!(plan(&desired, Backend::Kernel, &observed, &off).changes, []);
}

#[test]
fn kept_by_the_firewall_means_switched_off_and_still_loaded() {
    let desired = desired();
    let observed = settled(&desired);
    let changes = plan(&desired, Backend::Kernel, &observed, &Standing::off("a drop policy")).changes;
    assert_eq!(words(&changes), ["switch the fast path off"]);
}

#[test]
fn the_guard_stands_before_any_way_into_the_tunnel() {
    for forwarding in ["0", "1"] {
        let observed =
            Observed { sysctls: [(Sysctl::Ipv4Forward, forwarding.into())].into(), ..Observed::default() };
        let steps = todo(&desired(), &observed);
        let guard = steps.iter().position(|step| *step == Change::ReplaceTable);
        let way = steps.iter().position(Change::opens_a_way);
        assert!(guard.is_some() && way.is_some() && guard < way, "{:?}", words(&steps));
    }
}

#[test]
fn router_advertisements_are_kept_and_not_switched_on() {
    for (accept_ra, expected) in [
        ("0", &["set net.ipv6.conf.all.forwarding = 1"][..]),
        ("1", &["set net.ipv6.conf.eth0.accept_ra = 2", "set net.ipv6.conf.all.forwarding = 1"]),
        ("2", &["set net.ipv6.conf.all.forwarding = 1"]),
    ] {
        let desired = desired();
        let mut observed = settled(&desired);
        let eth0 = "eth0".parse::<InterfaceName>().unwrap();
        observed.sysctls.insert(Sysctl::Ipv6Forward, "0".into());
        observed.sysctls.insert(Sysctl::AcceptRa(eth0.clone()), accept_ra.into());
        observed.router_advertised.insert(eth0);
        assert_eq!(words(&todo(&desired, &observed)), expected, "accept_ra = {accept_ra}");
    }
}

#[test]
fn no_change_can_print_a_key() {
    let mut desired = desired();
    desired.peers.get_mut(&key(1)).unwrap().preshared_key = Some(crate::key::PresharedKey::new([3; 32]));
    let secrets =
        [desired.private_key.expose_base64(), crate::key::PresharedKey::new([3; 32]).expose_base64()];
    let text = format!("{:?} {desired:?}", todo(&desired, &Observed::default()));
    assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())));
    assert!(!text.contains("[3, 3"), "bytes of the preshared key");
}

#[test]
fn a_userspace_hub_sends_no_redirects_either() {
    let desired = desired();
    let mut observed = settled(&desired);
    observed.sysctls.insert(Sysctl::all_send_redirects(), "1".into());
    let todo = |backend| words(&plan(&desired, backend, &observed, &Standing::on("test")).changes);
    assert_eq!(todo(Backend::Kernel), [""; 0]);
    assert_eq!(todo(Backend::Userspace), ["set net.ipv4.conf.all.send_redirects = 0"]);
}

#[test]
fn a_renamed_interface_gets_its_name_back_and_nothing_else_happens() {
    let desired = desired();
    let mut observed = settled(&desired);
    let renamed = Link { name: "old0".into(), ..observed.link.take().unwrap() };
    observed.renamed = Some(renamed.clone());
    let changes = plan(&desired, Backend::Kernel, &observed, &Standing::on("")).changes;
    assert_eq!(changes, [Change::TakeBack(renamed)]);
}

#[test]
fn a_fast_path_without_pins_is_loaded_anew() {
    let desired = desired();
    let observed = Observed { fast_path_pinned: false, ..settled(&desired) };
    assert_eq!(plan(&desired, Backend::Kernel, &observed, &Standing::on("")).changes, [Change::LoadFastPath]);
}

#[test]
fn a_full_tunnel_gets_its_exit_and_loses_it_with_its_time() {
    let mut desired = desired();
    let mut observed = settled(&desired);
    observed.uplinks.insert(Version::V4, "eth0".into());
    let phone = desired.peers.get_mut(&key(2)).unwrap();
    phone.full_tunnel = true;
    phone.expires = Some("2026-12-24T18:00:00Z".parse().unwrap());
    let to_do = |desired: &Desired, observed: &Observed| {
        plan(desired, Backend::Kernel, observed, &Standing::on("free")).changes
    };
    assert_eq!(to_do(&desired, &observed), [Change::ReplaceTable]);
    observed.table = Some(wanted_table(&desired, &observed));
    assert_eq!(to_do(&desired, &observed), []);

    let [before, due] = ["2026-12-24T17:59:59.999Z", "2026-12-24T18:00:00Z"].map(|at| at.parse().unwrap());
    assert_eq!(to_do(&desired.in_force(before), &observed), []);
    assert!(desired.expired(before).is_empty());
    let late = to_do(&desired.in_force(due), &observed);
    assert!(late.contains(&Change::RemovePeers([key(2)].into())), "{late:?}");
    assert!(late.contains(&Change::ReplaceTable), "{late:?}");
    assert_eq!(desired.expired(due), [&"phone".parse().unwrap()]);
    // Without a way to the internet there is none to open.
    observed.uplinks.clear();
    assert_eq!(to_do(&desired, &observed), [Change::ReplaceTable]);
}
