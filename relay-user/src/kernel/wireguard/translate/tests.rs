//! What needs no device: pieces and merging.

use super::{
    super::{PREFIXES_PER_MESSAGE, WireGuardError},
    *,
};

fn prefixes(count: u8) -> Vec<IpNet> {
    (0..count).flat_map(|a| [0, 128].map(|b| format!("10.{a}.{b}.0/24").parse().expect("prefix"))).collect()
}

fn set(allowed_ips: Vec<IpNet>) -> PeerChange {
    PeerChange::Set {
        public_key: PublicKey::new([1; KEY_LEN]),
        preshared_key: Some(PresharedKey::new([2; KEY_LEN])),
        endpoint: Some("192.0.2.1:51820".parse().expect("address")),
        allowed_ips,
        keepalive: Some(25),
    }
}

fn part(key: u8, allowed: &[&str]) -> wg::PeerInfo {
    let mut part = wg::PeerInfo::from_public_key(wg::Key([key; KEY_LEN]));
    let prefixes = allowed.iter().map(|prefix| prefix.parse().expect("prefix"));
    part.config.allowed_ips.extend(prefixes);
    part
}

#[test]
fn many_prefixes_go_in_pieces_of_which_only_the_first_replaces() {
    let pieces = pieces(&set(prefixes(150)), PREFIXES_PER_MESSAGE);
    let first = wg::PeerConfigBuilder::new(&wg::Key([1; KEY_LEN]))
        .replace_allowed_ips()
        .set_preshared_key(wg::Key([2; KEY_LEN]))
        .set_endpoint("192.0.2.1:51820".parse().expect("address"))
        .set_persistent_keepalive_interval(25);
    assert!(pieces.len() == 3);
    assert!(
        pieces[0] == with_prefixes(first, &prefixes(150)[..128]),
        "the first replaces and carries the rest"
    );
    let bare = || wg::PeerConfigBuilder::new(&wg::Key([1; KEY_LEN]));
    assert!(pieces[1] == with_prefixes(bare(), &prefixes(150)[128..256]), "the second only adds");
    assert!(pieces[2] == with_prefixes(bare(), &prefixes(150)[256..]), "the third only adds");
}

#[test]
fn no_prefixes_still_replace_and_no_preshared_key_clears() {
    let change = PeerChange::Set {
        public_key: PublicKey::new([1; KEY_LEN]),
        preshared_key: None,
        endpoint: None,
        allowed_ips: Vec::new(),
        keepalive: None,
    };
    let expected = wg::PeerConfigBuilder::new(&wg::Key([1; KEY_LEN]))
        .replace_allowed_ips()
        .unset_preshared_key()
        .unset_persistent_keepalive();
    assert!(pieces(&change, PREFIXES_PER_MESSAGE) == [expected]);
}

#[test]
fn a_removal_is_one_message() {
    let change = PeerChange::Remove(PublicKey::new([7; KEY_LEN]));
    let expected = wg::PeerConfigBuilder::new(&wg::Key([7; KEY_LEN])).remove();
    assert!(pieces(&change, PREFIXES_PER_MESSAGE) == [expected]);
}

#[test]
fn a_split_peer_is_one_peer() {
    let mut first = part(1, &["10.9.0.2/32"]);
    first.config.endpoint = Some("192.0.2.1:1000".parse().expect("address"));
    first.config.preshared_key = Some(wg::Key([0; KEY_LEN]));
    first.config.persistent_keepalive_interval = Some(0);
    first.stats.rx_bytes = 10;
    let rest = part(1, &["fd00::2/128", "192.168.40.0/24"]);
    let other = part(2, &["10.9.0.3/32"]);

    for parts in [vec![first.clone(), rest.clone(), other.clone()], vec![rest, other, first]] {
        let peers = merge_peers(parts);
        assert_eq!(peers.len(), 2);
        let peer = &peers[&PublicKey::new([1; KEY_LEN])];
        assert_eq!(peer.allowed_ips.len(), 3);
        assert_eq!(peer.endpoint, Some("192.0.2.1:1000".parse().expect("address")));
        assert_eq!(peer.preshared_key, None, "all zero is no key");
        assert_eq!(peer.keepalive, None, "zero is off");
        assert_eq!(peer.received, 10);
    }
}

#[test]
fn errors_keep_nothing_of_the_crates_text() {
    let secret = "Key(\"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=\")";
    let original = std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("peer too large: {secret}"));
    let name = "wg0".parse().expect("name");
    let error = WireGuardError::failed("change peers of WireGuard interface", &name, &original);
    for text in [format!("{error}"), format!("{error:?}"), format!("{:?}", std::error::Error::source(&error))]
    {
        assert!(!text.contains("c2Vj"), "{text}");
    }
}
