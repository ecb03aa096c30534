//! The plan of a home.

use std::collections::BTreeSet;

use super::*;
use crate::desired::Home;

const HUB: [u8; 32] = [1; 32];
const VPS: &str = "203.0.113.5:51820";
const MOVED: &str = "203.0.113.6:51820";

fn home() -> Desired {
    let allowed: BTreeSet<IpNet> = ["10.9.0.0/24", "fd52:1a9::/64"].map(|net| net.parse().unwrap()).into();
    let hub = Peer {
        addresses: BTreeSet::new(),
        lans: allowed,
        keepalive: Some(25),
        ..peer("hub", "10.9.0.1", None)
    };
    Desired {
        addresses: ["10.9.0.2/32".parse().unwrap(), "fd52:1a9::2/128".parse().unwrap()].into(),
        peers: [(PublicKey::new(HUB), hub)].into(),
        role: Role::Home(Home {
            hub: PublicKey::new(HUB),
            endpoint: "vps.example.net:51820".into(),
            lans: ["192.168.40.0/24".parse().unwrap()].into(),
            nat: true,
        }),
        ..desired()
    }
}

/// A home that is just as `desired` says, its hub heard from.
fn at_home(desired: &Desired) -> Observed {
    let mut observed = Observed {
        link: settled(desired).link,
        device: settled(desired).device,
        addresses: desired.addresses.clone(),
        routes: ["10.9.0.0/24", "fd52:1a9::/64"].map(|net| route(net, ROUTE_PROTOCOL)).into(),
        sysctls: [(Sysctl::Ipv4Forward, "1".into()), (Sysctl::Ipv6Forward, "0".into())].into(),
        ..Observed::default()
    };
    observed.table = Some(wanted_table(desired, &observed));
    live(&mut observed).keepalive = Some(25);
    live(&mut observed).endpoint = Some(VPS.parse().unwrap());
    observed
}

fn live(observed: &mut Observed) -> &mut DevicePeer {
    observed.device.as_mut().unwrap().peers.get_mut(&PublicKey::new(HUB)).unwrap()
}

fn to_do(desired: &Desired, observed: &Observed) -> Vec<String> {
    words(&plan(desired, Backend::Userspace, observed, &Standing::off("a home")).changes)
}

#[test]
fn from_nothing_to_a_home() {
    let observed = Observed {
        sysctls: [(Sysctl::Ipv4Forward, "0".into()), (Sysctl::Ipv6Forward, "0".into())].into(),
        ..Observed::default()
    };
    insta::assert_snapshot!(to_do(&home(), &observed).join("\n"), @r"
    write the nftables table `inet relay`
    create the interface (userspace WireGuard)
    set the interface's MTU to 1420
    set the private key
    set 1 peer
    add the address 10.9.0.2/32
    add the address fd52:1a9::2/128
    bring the interface up
    set net.ipv4.ip_forward = 1
    route 10.9.0.0/24 into the tunnel
    route fd52:1a9::/64 into the tunnel
    ");
}

#[test]
fn drift_at_home_heals() {
    let desired = home();
    let rows: &[Drift] = &[
        ("nothing", |_| {}, &[]),
        ("any port is good", |o| o.device.as_mut().unwrap().listen_port = 1, &[]),
        ("keepalive off", |o| live(o).keepalive = None, &["set 1 peer"]),
        ("table gone", |o| o.table = None, &["write the nftables table `inet relay`"]),
        (
            "route gone",
            |o| o.routes.retain(|route| route.destination.addr().is_ipv6()),
            &["route 10.9.0.0/24 into the tunnel"],
        ),
        (
            "forwarding off",
            |o| drop(o.sysctls.insert(Sysctl::Ipv4Forward, "0".into())),
            &["set net.ipv4.ip_forward = 1"],
        ),
        ("the hub roamed", |o| live(o).endpoint = Some("198.51.100.7:9".parse().unwrap()), &[]),
        (
            "a program of a former hub",
            |o| o.fast_path_pinned = true,
            &["take the fast path off the interface"],
        ),
    ];
    for (what, drift, expected) in rows {
        let mut observed = at_home(&desired);
        drift(&mut observed);
        assert_eq!(to_do(&desired, &observed), *expected, "{what}");
    }
}

/// (where the hub is dialled, what its name has while it is silent, where it is dialled then)
#[test]
fn a_silent_hub_is_dialled_where_its_name_leads() {
    for (endpoint, addresses, expected) in [
        (None, &[][..], None),
        (None, &[VPS], Some(VPS)),
        (Some(VPS), &[], None),
        (Some(VPS), &[MOVED], Some(MOVED)),
        (Some(VPS), &[MOVED, VPS], None),
        (Some(VPS), &["10.9.0.1:51820", MOVED], Some(MOVED)),
        (Some(VPS), &["[2001:db8::1]:51820", MOVED], Some("[2001:db8::1]:51820")),
    ] {
        let desired = home();
        let mut observed = at_home(&desired);
        live(&mut observed).endpoint = endpoint.map(|at| at.parse().unwrap());
        observed.hub_addresses = addresses.iter().map(|at| at.parse().unwrap()).collect();
        let expected: Vec<String> = expected.map(|at| format!("dial the hub at {at}")).into_iter().collect();
        assert_eq!(to_do(&desired, &observed), expected, "{endpoint:?}, {addresses:?}");
    }
}
