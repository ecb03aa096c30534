//! Snapshots of whole configurations: what is printed is a promise.

use super::*;
use crate::desired::{BackendChoice, FastPathMode, Firewall, Hub, Role, Uplink};

fn key(number: u8) -> PublicKey {
    PublicKey::new([number; 32])
}

fn peer(name: &str, addresses: &[&str], lans: &[&str]) -> Peer {
    Peer {
        name: name.parse().expect("name"),
        preshared_key: None,
        addresses: addresses.iter().map(|address| address.parse().expect("address")).collect(),
        lans: lans.iter().map(|lan| lan.parse().expect("net")).collect(),
        endpoint: None,
        keepalive: (!lans.is_empty()).then_some(25),
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    }
}

fn hub(addresses: &[&str], peers: &[Peer]) -> Desired {
    Desired {
        interface: "wg0".parse().expect("name"),
        backend: BackendChoice::Auto,
        mtu: 1420,
        addresses: addresses.iter().map(|net| net.parse().expect("net")).collect(),
        private_key: PrivateKey::new([200; 32]),
        role: Role::Hub(Hub {
            listen_port: 51820,
            endpoint: None,
            fast_path: FastPathMode::Auto,
            uplink: Uplink::default(),
        }),
        firewall: Firewall::default(),
        peers: (1..).map(key).zip(peers.iter().cloned()).collect(),
    }
}

fn picture() -> Desired {
    hub(
        &["10.9.0.1/24", "fd52:1a9::1/64"],
        &[
            peer("home", &["10.9.0.2", "fd52:1a9::2"], &["192.168.40.0/24", "fd00:40::/64"]),
            peer("phone", &["10.9.0.3", "fd52:1a9::3"], &[]),
            peer("cabin", &["10.9.0.4", "fd52:1a9::4"], &["192.168.50.0/24"]),
        ],
    )
}

fn print(desired: &Desired, number: u8, private_key: Option<&PrivateKey>) -> Zeroizing<String> {
    wg_quick(desired, Some("vps.example.net:51820"), &key(number), &desired.peers[&key(number)], private_key)
}

#[test]
fn phone() {
    let text = print(&picture(), 2, Some(&PrivateKey::new([100; 32])));
    insta::assert_snapshot!(text.as_str());
}

#[test]
fn phone_that_sends_everything() {
    let mut desired = picture();
    let phone = desired.peers.get_mut(&key(2)).expect("phone");
    phone.full_tunnel = true;
    phone.mtu = Some(1280);
    phone.keepalive = Some(30);
    phone.dns = ["192.168.40.1", "fd00:40::1", "home.arpa"]
        .map(|text| crate::config::resolver(text).expect("a resolver"))
        .to_vec();
    insta::assert_snapshot!(print(&desired, 2, Some(&PrivateKey::new([100; 32]))).as_str());
}

#[test]
fn phone_with_a_key_of_its_own() {
    let mut desired = picture();
    desired.peers.get_mut(&key(2)).expect("phone").preshared_key =
        Some(crate::key::PresharedKey::new([9; 32]));
    let text = print(&desired, 2, None);
    insta::assert_snapshot!(text.as_str());
}

#[test]
fn home_with_two_families_and_a_preshared_key() {
    let mut desired = picture();
    desired.peers.get_mut(&key(1)).expect("home").preshared_key =
        Some(crate::key::PresharedKey::new([9; 32]));
    let text = print(&desired, 1, Some(&PrivateKey::new([100; 32])));
    insta::assert_snapshot!(text.as_str());
}

#[test]
fn ipv4_only_peers_get_no_ipv6_prefix() {
    let mut desired = picture();
    desired.peers.insert(key(9), peer("old", &["10.9.0.9"], &[]));
    let text = print(&desired, 9, None);
    let allowed = text.lines().find(|line| line.starts_with("AllowedIPs")).expect("a line");
    assert_eq!(allowed, "AllowedIPs = 10.9.0.0/24, 192.168.40.0/24, 192.168.50.0/24");
}

#[test]
fn hooks_survive_how_wg_quick_reads_a_line() {
    let text = print(&picture(), 1, None);
    let hooks: Vec<&str> = text.lines().filter(|line| line.starts_with("Post")).collect();
    assert_eq!(hooks.len(), 8, "forwarding, table, LAN and PostDown, of each family");
    for hook in hooks {
        assert!(!hook.contains('#'), "wg-quick takes the rest for a comment: {hook}");
        assert_eq!(
            hook.replace("relay-%i", "").matches("%i").count(),
            usize::from(hook.contains("|lo|%i)")),
            "{hook}"
        );
    }
}

#[test]
fn a_lan_of_one_address_asks_for_that_address() {
    let desired =
        hub(&["10.9.0.1/24"], &[peer("home", &["10.9.0.2"], &["192.168.40.7/32", "192.168.41.0/31"])]);
    let text = print(&desired, 1, None);
    assert!(text.contains("fibmatch 192.168.40.7 "), "{}", text.as_str());
    assert!(text.contains("fibmatch 192.168.41.0 "), "{}", text.as_str());
}
