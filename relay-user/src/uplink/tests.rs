//! What the guard shall hold, as data.

use super::*;
use crate::desired::UplinkMode;

fn settings() -> UplinkSettings {
    UplinkSettings::watching(51820)
}

fn key(byte: u8) -> MacKey {
    MacKey::of(&[byte; 32])
}

/// The settings after these keys were wanted, one set after the other.
fn after(sets: &[&[MacKey]]) -> UplinkSettings {
    sets.iter().fold(settings(), |before, wanted| {
        let (has_key, keys) = places(wanted, &before);
        UplinkSettings { has_key, keys, ..before }
    })
}

#[test]
fn a_key_keeps_its_place_while_another_comes() {
    let (old, new) = (key(1), key(2));
    let one = after(&[&[old, old]]);
    assert_eq!((one.has_key, one.keys[0]), ([1, 0], old));
    let both = after(&[&[old, old], &[new, old]]);
    assert_eq!((both.has_key, both.keys), ([1, 1], [old, new]));
    let rotated = after(&[&[old, old], &[new, old], &[new, new]]);
    assert_eq!((rotated.has_key, rotated.keys[1]), ([0, 1], new));
    let again = after(&[&[old, old], &[new, old], &[new, new], &[key(3), new]]);
    assert_eq!((again.has_key, again.keys), ([1, 1], [key(3), new]));
    assert_eq!(after(&[&[old], &[old]]), after(&[&[old]]), "twice changes nothing");
}

/// A third key, while two are in use, waits for a place rather than take one.
#[test]
fn no_key_in_use_is_driven_out() {
    let crowded = after(&[&[key(1)], &[key(2), key(1)], &[key(2), key(1), key(3)]]);
    assert_eq!(crowded.keys, [key(1), key(2)]);
}

#[test]
fn what_differs_is_written_and_nothing_else() {
    let one: IpAddr = "198.51.100.1".parse().expect("an address");
    let other: IpAddr = "2001:db8::1".parse().expect("an address");
    let net: IpNet = "203.0.113.0/24".parse().expect("a prefix");
    let (gone, come) = (source_of(one), source_of(other));
    let before = UplinkState {
        settings: settings(),
        local: [one].into(),
        rules: [(net, PrefixRule::DENY)].into(),
        live: [gone].into(),
    };
    assert_eq!(diff(&before, &before), []);
    let wanted = UplinkState {
        settings: UplinkSettings::watching(51821),
        local: [other].into(),
        rules: [(net, PrefixRule::ALLOW)].into(),
        live: [come].into(),
    };
    let changes = diff(&wanted, &before);
    assert_eq!(
        changes,
        [
            UplinkChange::SetRule(net, PrefixRule::ALLOW),
            UplinkChange::RemoveLocal(one),
            UplinkChange::AddLocal(other),
            UplinkChange::Settings(wanted.settings),
            UplinkChange::RemoveLive(gone),
            UplinkChange::AddLive(come),
        ]
    );
    assert_eq!(changes.iter().filter(|change| change.is_routine()).count(), 2);
    let none = UplinkState { rules: BTreeMap::new(), ..before.clone() };
    assert_eq!(diff(&none, &before), [UplinkChange::RemoveRule(net)]);
}

#[test]
fn sources_in_words() {
    for (address, words) in [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:99:1:2:3:4:5", "2001:db8:99:1::/64"),
    ] {
        assert_eq!(source_in_words(source_of(address.parse().expect("an address"))), words);
    }
}

#[test]
fn whether_it_stands_and_why_not() {
    let uplink = Uplink::default();
    let device = UplinkDevice { name: "eth0".parse().expect("a name"), index: 2 };
    let at = |hook| UplinkObserved { device: Some(device.clone()), hook, ..UplinkObserved::default() };
    let said =
        |uplink: &Uplink, observed: &UplinkObserved, failure| judge(uplink, observed, failure).to_string();
    assert_eq!(said(&uplink, &at(XdpHook::Ours(UplinkMode::Native)), None), "on: native, on eth0");
    assert_eq!(said(&uplink, &at(XdpHook::Ours(UplinkMode::Generic)), None), "on: generic, on eth0");
    let foreign = said(&uplink, &at(XdpHook::Foreign(7)), None);
    assert_eq!(foreign, "off: another XDP program (7) is on eth0, which relay leaves alone");
    assert_eq!(said(&uplink, &at(XdpHook::Free), Some("no driver")), "off: no driver");
    let none = said(&uplink, &UplinkObserved::default(), None);
    assert!(none.starts_with("off: this host has no default route"), "{none}");
    let named = Uplink { interface: Some("eth9".parse().expect("a name")), ..Uplink::default() };
    let named = said(&named, &UplinkObserved::default(), None);
    assert_eq!(named, "off: there is no interface eth9, which [uplink] names");
    let off = Uplink { mode: UplinkMode::Off, ..Uplink::default() };
    assert!(said(&off, &at(XdpHook::Ours(UplinkMode::Native)), None).starts_with("off: mode"));
}

#[test]
fn the_usual_address_is_the_first_of_the_guarded_interface() {
    let route = |index, address: &str, kind| {
        let destination: IpNet = address.parse().expect("a prefix");
        KernelRoute {
            destination,
            interface: Some(index),
            gateway: None,
            protocol: 2,
            metric: 0,
            kind,
            table: 255,
            mtu: None,
            narrowed: false,
        }
    };
    let routes = [
        route(1, "127.0.0.1/32", LOCAL),
        route(2, "203.0.113.1/32", LOCAL),
        route(3, "198.51.100.9/32", LOCAL),
        route(3, "198.51.100.2/32", LOCAL),
        route(3, "198.51.100.0/24", 1),
        route(3, "fe80::1/128", LOCAL),
        route(3, "2001:db8::2/128", LOCAL),
    ];
    let device = UplinkDevice { name: "eth0".parse().expect("a name"), index: 3 };
    let words = |address: [u8; 16]| bytemuck::cast::<_, [u64; 2]>(address);
    let v4 = std::net::Ipv4Addr::new(198, 51, 100, 2).to_ipv6_mapped().octets();
    let v6: std::net::Ipv6Addr = "2001:db8::2".parse().expect("an address");
    assert_eq!(usual(&routes, Some(&device)), [words(v4), words(v6.octets())]);
    assert_eq!(usual(&routes, None), [[0; 2]; 2]);
}
