//! Tables: what the maps shall hold, and the changes that bring them there.

mod model;

use std::net::{Ipv6Addr, SocketAddr};

use relay_common::Direct6;

use self::model::Model;
use super::{changes::diff_within, *};
use crate::{
    desired::{BackendChoice, FastPathMode, Firewall, Hub, Peer, Role, Uplink},
    key::PrivateKey,
    maps::{AllDirect, DatapathState, MapChange},
    observed::DevicePeer,
};

/// The maps of a tunnel that relay keeps.
fn desired_maps(
    desired: &Desired,
    device: Option<&Device>,
    ifindex: u32,
    routes: &[KernelRoute],
    slots: &BTreeMap<PublicKey, PeerSlot>,
) -> Maps {
    super::desired_maps(&Tunnel::from(desired), device, ifindex, routes, slots)
}

const WG0: u32 = 7;
const ETH0: u32 = 2;
/// `RTN_LOCAL`, `RTN_BROADCAST`, `RTN_BLACKHOLE`.
const LOCAL: u8 = 2;
const BROADCAST: u8 = 3;
const BLACKHOLE: u8 = 6;

fn key(number: u8) -> PublicKey {
    PublicKey::new([number; 32])
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn peer(number: u8, addresses: &[&str], lans: &[&str]) -> (PublicKey, Peer) {
    let peer = Peer {
        name: format!("peer{number}").parse().expect("a name"),
        preshared_key: None,
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        lans: lans.iter().map(|text| net(text)).collect(),
        endpoint: None,
        keepalive: None,
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    };
    (key(number), peer)
}

fn hub(peers: impl IntoIterator<Item = (PublicKey, Peer)>) -> Desired {
    Desired {
        interface: "wg0".parse().expect("a name"),
        backend: BackendChoice::Auto,
        mtu: 1420,
        addresses: [net("10.9.0.1/24"), net("fd52:1a9::1/64")].into(),
        private_key: PrivateKey::new([1; 32]),
        role: Role::Hub(Hub {
            listen_port: 51820,
            endpoint: None,
            fast_path: FastPathMode::Auto,
            uplink: Uplink::default(),
        }),
        firewall: Firewall::default(),
        peers: peers.into_iter().collect(),
    }
}

/// Home (1) with a LAN, phone (2).
fn home_and_phone() -> Desired {
    hub([
        peer(1, &["10.9.0.2", "fd52:1a9::2"], &["192.168.40.0/24", "fd40::/56"]),
        peer(2, &["10.9.0.3", "fd52:1a9::3"], &[]),
    ])
}

fn device(with_endpoint: &[u8], without: &[u8]) -> Device {
    let endpoint: SocketAddr = "203.0.113.9:51820".parse().expect("an endpoint");
    let known =
        |number: &u8| (key(*number), DevicePeer { endpoint: Some(endpoint), ..DevicePeer::default() });
    let unknown = |number: &u8| (key(*number), DevicePeer::default());
    Device {
        public_key: None,
        listen_port: 51820,
        fwmark: 0,
        peers: with_endpoint.iter().map(known).chain(without.iter().map(unknown)).collect(),
    }
}

fn route(destination: &str, interface: Option<u32>, kind: u8) -> KernelRoute {
    KernelRoute {
        destination: net(destination),
        interface,
        gateway: None,
        protocol: 2,
        metric: 0,
        kind,
        table: if kind == LOCAL || kind == BROADCAST { 255 } else { 254 },
        mtu: None,
        narrowed: false,
    }
}

fn via(destination: &str, interface: u32, gateway: &str) -> KernelRoute {
    KernelRoute {
        gateway: Some(gateway.parse().expect("a gateway")),
        ..route(destination, Some(interface), 1)
    }
}

/// What the kernel has on a hub in order.
fn ordinary_routes() -> Vec<KernelRoute> {
    vec![
        via("0.0.0.0/0", ETH0, "198.51.100.1"),
        route("198.51.100.0/24", Some(ETH0), UNICAST),
        route("10.9.0.0/24", Some(WG0), UNICAST),
        route("192.168.40.0/24", Some(WG0), UNICAST),
        route("fd40::/56", Some(WG0), UNICAST),
        route("fd52:1a9::/64", Some(WG0), UNICAST),
        route("10.9.0.1/32", Some(WG0), LOCAL),
        route("10.9.0.255/32", Some(WG0), BROADCAST),
        route("127.0.0.0/8", Some(1), LOCAL),
    ]
}

/// The maps as `prefix → slot` or `prefix → stack`, one a line, sorted by text.
fn shown(maps: &Maps) -> Vec<String> {
    let hosts = maps.hosts.iter().map(|(&address, route)| (IpNet::from(address), route));
    let all = hosts.chain(maps.lans.iter().map(|(lan, route)| (*lan, route)));
    let mut lines: Vec<_> = all
        .map(|(prefix, route)| {
            format!("{prefix} {}", route.slot().map_or("stack".to_owned(), |slot| slot.to_string()))
        })
        .collect();
    lines.sort();
    lines
}

const HUBS_OWN: [&str; 4] =
    ["10.9.0.1/32 stack", "10.9.0.255/32 stack", "fd52:1a9::/128 stack", "fd52:1a9::1/128 stack"];
const HOMES: [&str; 4] = ["10.9.0.2/32 0", "192.168.40.0/24 0", "fd40::/56 0", "fd52:1a9::2/128 0"];
const PHONES: [&str; 2] = ["10.9.0.3/32 1", "fd52:1a9::3/128 1"];

#[test]
fn what_the_maps_hold() {
    let both = device(&[1, 2], &[]);
    let more_routes = |extra: &[KernelRoute]| [ordinary_routes(), extra.to_vec()].concat();
    let instead = |out: &[&'static str], add: &[&'static str]| {
        let all = [&HUBS_OWN[..], &HOMES, &PHONES].concat();
        all.into_iter().filter(|line| !out.contains(line)).chain(add.iter().copied()).collect::<Vec<_>>()
    };
    type Row = (&'static str, Option<Device>, Vec<KernelRoute>, Vec<&'static str>);
    let rows: Vec<Row> = vec![
        ("both reachable", Some(both.clone()), ordinary_routes(), instead(&[], &[])),
        ("no route observed yet", Some(both.clone()), vec![], instead(&[], &[])),
        ("no device", None, ordinary_routes(), HUBS_OWN.to_vec()),
        ("peers that the device does not have", Some(device(&[], &[])), ordinary_routes(), HUBS_OWN.to_vec()),
        (
            "home without an endpoint",
            Some(device(&[2], &[1])),
            ordinary_routes(),
            [&HUBS_OWN[..], &PHONES].concat(),
        ),
        (
            "a route elsewhere equal to the LAN",
            Some(both.clone()),
            more_routes(&[route("192.168.40.0/24", Some(ETH0), UNICAST)]),
            instead(&["192.168.40.0/24 0"], &["192.168.40.0/24 stack"]),
        ),
        (
            "a route into the tunnel by a gateway",
            Some(both.clone()),
            more_routes(&[via("192.168.40.0/24", WG0, "10.9.0.3")]),
            instead(&["192.168.40.0/24 0"], &["192.168.40.0/24 stack"]),
        ),
        (
            "a route into the tunnel with an MTU of its own",
            Some(both.clone()),
            more_routes(&[KernelRoute { mtu: Some(1300), ..route("192.168.40.0/24", Some(WG0), UNICAST) }]),
            instead(&["192.168.40.0/24 0"], &["192.168.40.0/24 stack"]),
        ),
        (
            "the subnet's route with an MTU of its own",
            Some(both.clone()),
            more_routes(&[KernelRoute { mtu: Some(1300), ..route("fd52:1a9::/64", Some(WG0), UNICAST) }]),
            instead(
                &["fd52:1a9::2/128 0", "fd52:1a9::3/128 1"],
                &["fd52:1a9::2/128 stack", "fd52:1a9::3/128 stack"],
            ),
        ),
        (
            "holes in the LAN",
            Some(both.clone()),
            more_routes(&[
                route("192.168.40.64/26", Some(ETH0), UNICAST),
                route("192.168.40.7/32", None, BLACKHOLE),
            ]),
            instead(&[], &["192.168.40.64/26 stack", "192.168.40.7/32 stack"]),
        ),
        (
            "one of the VPS's own addresses in the LAN",
            Some(both.clone()),
            more_routes(&[route("192.168.40.9/32", Some(ETH0), LOCAL)]),
            instead(&[], &["192.168.40.9/32 stack"]),
        ),
        (
            "a wider route elsewhere",
            Some(both.clone()),
            more_routes(&[route("192.168.0.0/16", Some(ETH0), UNICAST)]),
            instead(&[], &[]),
        ),
        (
            "half of the tunnel's subnet elsewhere",
            Some(both.clone()),
            more_routes(&[route("10.9.0.0/25", Some(ETH0), UNICAST)]),
            instead(&["10.9.0.2/32 0", "10.9.0.3/32 1"], &["10.9.0.2/32 stack", "10.9.0.3/32 stack"]),
        ),
        (
            "a peer's address elsewhere",
            Some(both.clone()),
            more_routes(&[route("fd52:1a9::2/128", None, BLACKHOLE)]),
            instead(&["fd52:1a9::2/128 0"], &["fd52:1a9::2/128 stack"]),
        ),
        (
            "a second route into the tunnel",
            Some(both),
            more_routes(&[route("192.168.40.128/25", Some(WG0), UNICAST)]),
            instead(&[], &[]),
        ),
    ];
    for (name, device, routes, mut expected) in rows {
        let maps = desired_maps(&home_and_phone(), device.as_ref(), WG0, &routes, &BTreeMap::new());
        expected.sort_unstable();
        assert_eq!(shown(&maps), expected, "{name}");
        assert_eq!(maps.slots, BTreeMap::from([(key(1), 0), (key(2), 1)]), "{name}");
        assert_eq!(maps.overflow, 0, "{name}");
    }
}

#[test]
fn addresses_that_are_the_hubs_or_nobodys() {
    for (subnet, expected) in [
        ("10.9.0.1/24", vec!["10.9.0.1/32 stack", "10.9.0.255/32 stack"]),
        ("10.9.0.0/31", vec!["10.9.0.0/32 stack"]),
        ("10.9.0.1/32", vec!["10.9.0.1/32 stack"]),
        ("fd52:1a9::1/64", vec!["fd52:1a9::/128 stack", "fd52:1a9::1/128 stack"]),
        ("fd52:1a9::1/126", vec!["fd52:1a9::/128 stack", "fd52:1a9::1/128 stack"]),
        ("fd52:1a9::1/127", vec!["fd52:1a9::1/128 stack"]),
        ("fd52:1a9::1/128", vec!["fd52:1a9::1/128 stack"]),
    ] {
        let mut desired = hub([]);
        desired.addresses = [net(subnet)].into();
        assert_eq!(shown(&desired_maps(&desired, None, WG0, &[], &BTreeMap::new())), expected, "{subnet}");
    }
}

#[test]
fn a_peer_cannot_have_the_routers_address() {
    let desired = hub([peer(1, &["fd52:1a9::"], &["fd52:1a9:0:1::/64"])]);
    let maps = desired_maps(&desired, Some(&device(&[1], &[])), WG0, &[], &BTreeMap::new());
    let mut expected = [&HUBS_OWN[..], &["fd52:1a9:0:1::/64 0"]].concat();
    expected.sort_unstable();
    assert_eq!(shown(&maps), expected);
}

/// Maps of four entries each.
fn small(_: Kind) -> usize {
    4
}

#[test]
fn what_finds_no_room_goes_to_the_stack() {
    let peers = |numbers: std::ops::Range<u8>| numbers.map(|n| (format!("10.9.0.{n}/32"), Route::peer(0)));
    let holes = |numbers: std::ops::Range<u8>| numbers.map(|n| (format!("10.9.1.{n}/32"), Route::STACK));
    let others = || [("192.168.40.0/24", Route::peer(1)), ("fd52::2/128", Route::peer(1))];
    // Peers' addresses and exceptions in one map of four; how many of each stay, and how many of the others.
    for (addresses, exceptions, expected) in [
        (2, 2, (2, 2, 2, 0)),
        (4, 0, (4, 0, 2, 0)),
        (5, 0, (4, 0, 2, 1)),
        (3, 3, (1, 3, 2, 2)),
        (2, 4, (0, 4, 2, 2)),
        // The LAN goes with its exceptions; the other family stays.
        (2, 5, (0, 0, 1, 3)),
    ] {
        let entries = peers(0..addresses).chain(holes(0..exceptions));
        let mut ways: Vec<(IpNet, Route)> = entries
            .map(|(prefix, route)| (net(&prefix), route))
            .chain(others().map(|(prefix, route)| (net(prefix), route)))
            .collect();
        let left_out = fit(&mut ways, small);
        let count = |wanted: Route| ways.iter().filter(|(_, route)| *route == wanted).count();
        let found = (count(Route::peer(0)), count(Route::STACK), count(Route::peer(1)), left_out);
        assert_eq!(found, expected, "{addresses} addresses, {exceptions} exceptions");
    }
}

#[test]
fn a_map_without_room_for_both_is_changed_while_off() {
    let hosts = |numbers: std::ops::Range<u8>, route: Route| {
        numbers.map(move |number| (IpAddr::from([10, 9, 0, number]), route))
    };
    let slots = BTreeMap::from([(key(1), 0)]);
    let start = DatapathState {
        slots: slots.clone(),
        hosts: hosts(0..3, Route::peer(0)).chain(hosts(3..4, Route::STACK)).collect(),
        enabled: true,
        ..DatapathState::default()
    };
    let maps = Maps {
        slots: slots.clone(),
        hosts: hosts(2..4, Route::peer(0)).chain(hosts(4..6, Route::STACK)).collect(),
        ..Maps::default()
    };
    let changes = diff_within(small, &maps, true, &start);
    let before = Model::of(&diff(
        &Maps { slots, hosts: start.hosts.clone(), ..Maps::default() },
        true,
        &DatapathState::default(),
    ));
    for steps in 1..=changes.len() {
        let state = before.after(&changes[..steps]).state();
        assert!(state.hosts.len() <= small(Kind { v4: true, single: true }), "{changes:?}");
        let still = state.hosts == start.hosts || state.hosts == maps.hosts;
        assert!(!state.enabled || still, "on in between: {changes:?}");
    }
    let state = before.after(&changes).state();
    assert!(state.enabled);
    assert_eq!(state.hosts, maps.hosts);
    assert_eq!(diff_within(small, &maps, true, &state), []);
}

#[test]
fn who_stands_in_the_hash_map_leaves_it_for_a_free_place() {
    let address = |text: &&str| -> IpAddr { text.parse().expect(text) };
    let hosts =
        |list: &[&str]| list.iter().map(|text| (address(text), Route::STACK)).collect::<BTreeMap<_, _>>();
    // Of which family the hash map is asked.
    let [asked, asked6, both_asked, not_asked] =
        [(false, true), (true, false), (false, false), (true, true)].map(|(v4, v6)| AllDirect { v4, v6 });
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], AllDirect, &'a [&'a str]);
    let rows: [Row<'_>; 14] = [
        ("nothing to say", &[], &[], &[], not_asked, &[]),
        ("fresh maps", &[], &[], &[], both_asked, &["not asked"]),
        (
            "two of one place",
            &["10.9.0.2", "10.77.0.2"],
            &["10.9.0.2", "10.77.0.2"],
            &["10.77.0.2"],
            asked,
            &[],
        ),
        (
            "it is not true",
            &["10.9.0.2", "10.77.0.2"],
            &["10.9.0.2", "10.77.0.2"],
            &["10.77.0.2"],
            not_asked,
            &["asked"],
        ),
        ("one goes", &["10.9.0.2", "10.77.0.2"], &["10.77.0.2"], &["10.77.0.2"], asked, &["- 10.9.0.2"]),
        ("one is gone", &["10.77.0.2"], &["10.77.0.2"], &["10.77.0.2"], asked, &["+ 10.77.0.2"]),
        (
            "one is gone, one comes",
            &["10.77.0.2"],
            &["10.8.0.2", "10.77.0.2"],
            &["10.77.0.2"],
            asked,
            &["+ 10.8.0.2"],
        ),
        (
            "it goes itself",
            &["10.9.0.2", "10.77.0.2"],
            &["10.9.0.2"],
            &["10.77.0.2"],
            asked,
            &["- 10.77.0.2"],
        ),
        ("0.0.0.0 has no place", &["0.0.0.0"], &["0.0.0.0"], &["0.0.0.0"], asked, &[]),
        (
            "an address of each family",
            &["10.9.0.2", "fd52:1a9::2"],
            &["10.9.0.2", "fd52:1a9::2"],
            &[],
            not_asked,
            &[],
        ),
        (
            "two of one place in the network",
            &["fd52:1a9::2", "fd52:1a9::7:2"],
            &["fd52:1a9::2", "fd52:1a9::7:2"],
            &["fd52:1a9::7:2"],
            asked6,
            &[],
        ),
        (
            "one of them is gone",
            &["fd52:1a9::7:2"],
            &["fd52:1a9::7:2"],
            &["fd52:1a9::7:2"],
            asked6,
            &["+ fd52:1a9::7:2"],
        ),
        (
            "two of one place, either of which may stand in it already",
            &["fd52:1a9::2", "fd52:1a9::7:2"],
            &["fd52:1a9::2", "fd52:1a9::7:2"],
            &["fd52:1a9::2", "fd52:1a9::7:2"],
            asked6,
            &["+ fd52:1a9::2", "+ fd52:1a9::7:2"],
        ),
        ("another network has no place", &["fd52::2"], &["fd52::2"], &["fd52::2"], asked6, &[]),
    ];
    for (name, held, wanted, crowded, said, expected) in rows {
        let crowded = crowded.iter().map(address).collect();
        let state = DatapathState {
            hosts: hosts(held),
            all_direct: said,
            crowded,
            network6: Some(Direct6::network("fd52:1a9::".parse::<Ipv6Addr>().expect("a network").octets())),
            ..DatapathState::default()
        };
        let changes = diff(&Maps { hosts: hosts(wanted), ..Maps::default() }, false, &state);
        let words = changes.iter().map(|change| match change {
            MapChange::AllDirect(all) if *all == not_asked => "not asked".to_owned(),
            MapChange::AllDirect(all) if *all == asked => "asked".to_owned(),
            MapChange::SetHost(address, _) => format!("+ {address}"),
            MapChange::RemoveHost(address) => format!("- {address}"),
            other => format!("{other:?}"),
        });
        assert_eq!(words.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn the_network_of_the_table_is_that_of_most_addresses_and_stays() {
    let network = |text: &str| Direct6::network(text.parse::<Ipv6Addr>().expect(text).octets());
    // Name, the hub's own addresses, its peers' one each, the network.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let rows: [Row<'_>; 7] = [
        ("nobody of IPv6", &["10.9.0.1/24"], &["10.9.0.2"], None),
        ("the hub's own", &["10.9.0.1/24", "fd52:1a9::1/64"], &["10.9.0.2"], Some("fd52:1a9::")),
        (
            "that of its peers",
            &["fd52:1ab::1/48", "fe80::1/64", "fe80::2/64"],
            &["fd52:1a9::2", "fd52:1a9::3"],
            Some("fd52:1a9::"),
        ),
        ("of two the larger one", &[], &["fd52:1a9::2", "fd52:1a9::3", "fd52:1aa::2"], Some("fd52:1a9::")),
        (
            "a LAN is no single address",
            &["fd52:1a9::1/64"],
            &["fd40::/64", "fd40:1::/48"],
            Some("fd52:1a9::"),
        ),
        ("link-local ones are never forwarded", &["fe80::1/64"], &["fe80::2"], None),
        ("zeros are no network", &["::1:2:3:4/64"], &[], None),
    ];
    for (name, own, peers, expected) in rows {
        let expected = expected.map(network);
        let peers = (1..).zip(peers).map(|(number, prefix)| match prefix.contains('/') {
            true => peer(number, &[], &[*prefix]),
            false => peer(number, &[*prefix], &[]),
        });
        let mut hub = hub(peers);
        hub.addresses = own.iter().map(|text| text.parse().expect(text)).collect();
        // Before anybody has an endpoint.
        let maps = desired_maps(&hub, None, WG0, &[], &BTreeMap::new());
        assert_eq!(maps.network6, expected, "{name}");
        let empty = DatapathState::default();
        let changes = diff(&maps, true, &empty);
        let chosen = |change: &MapChange| matches!(change, MapChange::Network6(_));
        let first = |change: &MapChange| matches!(change, MapChange::AllDirect(_));
        let at = changes.iter().position(chosen);
        assert_eq!(at, expected.map(|_| 1), "{name}: before all that goes by it");
        assert!(changes.first().is_some_and(first), "{name}");
        // Whatever it is of, it stays.
        let state = DatapathState { network6: Some(network("fd99::")), ..empty };
        assert!(!diff(&maps, true, &state).iter().any(chosen), "{name}");
    }
}

#[test]
fn slots() {
    let wanted = |numbers: &[u8]| hub(numbers.iter().map(|&n| peer(n, &[&format!("10.9.0.{n}")], &[])));
    type Slots = Vec<(u8, PeerSlot)>;
    let rows: [(&str, &[u8], Slots, Slots); 6] = [
        ("all new", &[2, 3, 4], vec![], vec![(2, 0), (3, 1), (4, 2)]),
        ("known ones stay", &[2, 3], vec![(2, 9), (3, 4)], vec![(2, 9), (3, 4)]),
        ("a removed one's slot is free", &[3, 4], vec![(2, 0), (3, 1)], vec![(3, 1), (4, 0)]),
        ("the lowest free one", &[2, 3, 4], vec![(3, 0), (4, 2)], vec![(2, 1), (3, 0), (4, 2)]),
        ("two with one slot", &[2, 3], vec![(2, 5), (3, 5)], vec![(2, 5), (3, 0)]),
        ("out of range", &[2], vec![(2, MAX_PEERS)], vec![(2, 0)]),
    ];
    let slots = |slots: Slots| slots.into_iter().map(|(n, slot)| (key(n), slot)).collect::<BTreeMap<_, _>>();
    for (name, numbers, held, expected) in rows {
        let maps = desired_maps(&wanted(numbers), None, WG0, &[], &slots(held));
        assert_eq!(maps.slots, slots(expected), "{name}");
    }
}

#[test]
fn peers_beyond_the_last_slot_are_counted() {
    let many = MAX_PEERS + 3;
    let keys: Vec<_> = (0..many)
        .map(|number| {
            let mut bytes = [1; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            PublicKey::new(bytes)
        })
        .collect();
    let (slots, overflow) = assign(&keys.iter().map(|key| (*key, ())).collect(), &BTreeMap::new());
    assert_eq!((slots.len(), overflow), (MAX_PEERS as usize, 3));
    assert_eq!(slots.values().collect::<BTreeSet<_>>().len(), MAX_PEERS as usize);
}

/// The peers of each state, and what the kernel routes elsewhere.
fn states() -> Vec<(Desired, Device, Vec<KernelRoute>)> {
    let all = device(&[1, 2, 3], &[]);
    let home = || peer(1, &["10.9.0.2"], &["192.168.40.0/24"]);
    vec![
        (hub([]), all.clone(), vec![]),
        (hub([home(), peer(2, &["10.9.0.3"], &[])]), all.clone(), vec![]),
        (hub([home(), peer(2, &["10.9.0.3"], &[])]), device(&[2], &[1]), vec![]),
        (hub([peer(3, &["10.9.0.2"], &["192.168.40.0/24"])]), all.clone(), vec![]),
        (
            hub([peer(2, &["10.9.0.2"], &[]), peer(3, &["10.9.0.3"], &["192.168.40.0/25"])]),
            all.clone(),
            vec![],
        ),
        (hub([home()]), all.clone(), vec![route("192.168.40.64/26", Some(ETH0), UNICAST)]),
        (hub([home()]), all.clone(), vec![route("192.168.40.0/24", Some(ETH0), UNICAST)]),
        (hub([peer(2, &["10.9.0.2"], &["192.168.40.0/26"])]), all.clone(), vec![]),
        // Addresses that end alike have one place, in the LAN of another too.
        (
            hub([peer(1, &["10.77.0.2"], &["192.168.0.0/16"]), peer(2, &["192.168.0.2"], &[])]),
            all.clone(),
            vec![],
        ),
        (
            hub([home(), peer(2, &["10.77.0.2"], &[]), peer(3, &["10.9.0.3", "10.77.0.3"], &[])]),
            all.clone(),
            vec![],
        ),
        // The same in one network of IPv6, and in another one.
        (
            hub([
                peer(1, &["fd52:1a9::2", "fd52:1a9::3"], &["fd40::/64"]),
                peer(2, &["fd52:1a9::7:2", "fd52:1aa::2"], &[]),
            ]),
            all.clone(),
            vec![],
        ),
        (
            hub([
                peer(1, &["fd52:1a9::7:2"], &["fd52:1aa::/64"]),
                peer(2, &["fd52:1aa::2", "fd52:1aa::7:3", "fd40::2"], &[]),
                peer(3, &["fd52:1aa::3", "fd52:1aa::4"], &[]),
            ]),
            all,
            vec![],
        ),
    ]
}

#[test]
fn every_step_is_harmless_and_the_last_one_arrives() {
    let addresses: Vec<IpAddr> =
        ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.77.0.2", "10.77.0.3", "10.9.0.255", "192.168.40.1"]
            .iter()
            .chain(&["192.168.40.70", "192.168.40.200", "192.168.0.2"])
            .chain(&["fd52:1a9::2", "fd52:1a9::3", "fd52:1a9::7:2", "fd52:1aa::2", "fd52:1aa::3"])
            .chain(&["fd52:1aa::7:3", "fd40::2", "fd40::1:2"])
            .map(|text| text.parse().expect("an address"))
            .collect();
    for (from, (before, before_device, before_routes)) in states().iter().enumerate() {
        let empty = DatapathState::default();
        let maps = desired_maps(before, Some(before_device), WG0, before_routes, &empty.slots);
        let begun = Model::of(&diff(&maps, true, &empty));
        let start = begun.state();
        for (to, (after, after_device, after_routes)) in states().iter().enumerate() {
            let maps = desired_maps(after, Some(after_device), WG0, after_routes, &start.slots);
            for enabled in [true, false] {
                let changes = diff(&maps, enabled, &start);
                let ended = begun.after(&changes);
                let end = ended.state();
                let wanted = DatapathState {
                    slots: maps.slots.clone(),
                    hosts: maps.hosts.clone(),
                    lans: maps.lans.clone(),
                    enabled,
                    ..end.clone()
                };
                assert_eq!(end, wanted, "{from} to {to}");
                // Who can leave the hash map gets a place next, then leaves it, and then it need not be asked.
                let look = |model: &Model| model.after(&diff(&maps, enabled, &model.state()));
                let settled = look(&look(&look(&ended))).state();
                assert_eq!(diff(&maps, enabled, &settled), [], "{from} to {to}, once more");
                let places: BTreeSet<_> = maps.hosts.keys().filter_map(|host| settled.place(*host)).collect();
                let crowded = maps.hosts.len() - places.len();
                assert_eq!(settled.crowded.len(), crowded, "{from} to {to}: {settled:?}");
                let all_direct = AllDirect::but_for(&settled.crowded);
                assert_eq!(settled.all_direct, all_direct, "{from} to {to}: {settled:?}");
                for steps in 0..=changes.len() {
                    let moment = begun.after(&changes[..steps]);
                    for &address in &addresses {
                        let leads = moment.leads_to(address);
                        let fine = [None, begun.leads_to(address), ended.leads_to(address)];
                        assert!(
                            fine.contains(&leads),
                            "{from} to {to}, {address} after {steps} of {changes:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_slot_that_changes_hands_is_never_led_to_meanwhile() {
    let first = hub([peer(1, &["10.9.0.2"], &[])]);
    let second = hub([peer(2, &["10.9.0.2"], &[])]);
    let both = device(&[1, 2], &[]);
    let empty = DatapathState::default();
    let maps = desired_maps(&first, Some(&both), WG0, &[], &empty.slots);
    let start = Model::of(&diff(&maps, true, &empty)).state();
    let maps = desired_maps(&second, Some(&both), WG0, &[], &start.slots);
    let address: IpAddr = "10.9.0.2".parse().expect("an address");
    assert_eq!(
        diff(&maps, true, &start),
        [
            MapChange::RemoveHost(address),
            MapChange::FreeSlot(key(1)),
            MapChange::AssignSlot(key(2), 0),
            MapChange::SetHost(address, Route::peer(0)),
        ]
    );
}

/// A tunnel that somebody else keeps: what the kernel routes into it decides, whatever the allowed IPs say.
#[test]
fn a_tunnel_of_somebody_elses() {
    let nets = |list: &[&str]| list.iter().map(|text| net(text)).collect::<Vec<_>>();
    let home = ["10.9.0.2/32", "192.168.40.0/24"];
    let inward = |prefix: &str| route(prefix, Some(WG0), UNICAST);
    let subnet = || inward("10.9.0.0/24");
    let default = || via("0.0.0.0/0", ETH0, "198.51.100.1");
    const PHONE: &str = "10.9.0.3/32 1";
    type Row<'a> = (&'a str, &'a [&'a str], &'a [u8], Vec<KernelRoute>, Vec<&'a str>);
    let rows: Vec<Row<'_>> = vec![
        (
            "the LAN has a route",
            &home,
            &[1, 2],
            vec![default(), subnet(), inward("192.168.40.0/24")],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 0", PHONE],
        ),
        (
            "the LAN has a wider route",
            &home,
            &[1, 2],
            vec![default(), subnet(), inward("192.168.0.0/16")],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 0", PHONE],
        ),
        (
            "the LAN has none",
            &home,
            &[1, 2],
            vec![default(), subnet()],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 stack", PHONE],
        ),
        (
            "a part of the LAN has one",
            &home,
            &[1, 2],
            vec![default(), subnet(), inward("192.168.40.0/25")],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 stack", PHONE],
        ),
        (
            "the LAN's route is another's as well",
            &home,
            &[1, 2],
            vec![subnet(), inward("192.168.40.0/24"), route("192.168.40.0/24", Some(ETH0), UNICAST)],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 stack", PHONE],
        ),
        (
            "the wider route is overruled by a narrower one elsewhere",
            &home,
            &[1, 2],
            vec![subnet(), inward("192.168.0.0/16"), route("192.168.32.0/20", Some(ETH0), UNICAST)],
            vec!["10.9.0.2/32 0", "192.168.40.0/24 stack", PHONE],
        ),
        (
            "the interface is down: it has no routes",
            &home,
            &[1, 2],
            vec![default()],
            vec!["10.9.0.2/32 stack", "192.168.40.0/24 stack", "10.9.0.3/32 stack"],
        ),
        (
            "a way to the internet that nothing is routed to",
            &["10.9.0.2/32", "0.0.0.0/0"],
            &[1, 2],
            vec![default(), subnet()],
            vec!["0.0.0.0/0 stack", "10.9.0.2/32 0", PHONE],
        ),
        (
            "a peer within another's LAN",
            &["10.9.0.0/28"],
            &[1, 2],
            vec![default(), subnet()],
            vec!["10.9.0.0/28 0", PHONE],
        ),
        (
            "a peer within another's LAN, without an endpoint",
            &["10.9.0.0/28"],
            &[1],
            vec![default(), subnet()],
            vec!["10.9.0.0/28 0", "10.9.0.3/32 stack"],
        ),
        (
            "a peer without an endpoint",
            &home,
            &[2],
            vec![default(), subnet(), inward("192.168.40.0/24")],
            vec![PHONE],
        ),
    ];
    for (name, first, with_endpoint, routes, expected) in rows {
        let tunnel = Tunnel {
            addresses: [net("10.9.0.1/24")].into(),
            peers: [(key(1), nets(first)), (key(2), nets(&["10.9.0.3/32"]))].into(),
            routes: Routes::SomebodyElse,
        };
        let without: Vec<u8> = [1, 2].into_iter().filter(|peer| !with_endpoint.contains(peer)).collect();
        let device = device(with_endpoint, &without);
        let maps = super::desired_maps(&tunnel, Some(&device), WG0, &routes, &BTreeMap::new());
        let mut expected = [&["10.9.0.1/32 stack", "10.9.0.255/32 stack"][..], &expected].concat();
        expected.sort_unstable();
        assert_eq!(shown(&maps), expected, "{name}");
    }
}
