//! What is accepted, what is refused, and in which words.

mod properties;

use std::{io, path::Path};

use zeroize::Zeroizing;

use super::{meaning::mean, secret::Secret, *};
use crate::{
    desired::{AllowFrom, BackendChoice, FastPathMode},
    key::PrivateKey,
};

/// Any 32 bytes are a private key.
fn private_key() -> PrivateKey {
    PrivateKey::new([7; 32])
}

/// A valid public key for each number but 0.
fn key(number: u8) -> String {
    PublicKey::new([number; 32]).to_string()
}

fn read_key(path: &Path) -> io::Result<Secret> {
    let (text, mode) = match path.file_name().and_then(|name| name.to_str()) {
        Some("missing.key") => return Err(io::Error::from(io::ErrorKind::NotFound)),
        Some("open.key") => (private_key().expose_base64(), 0o644),
        Some("broken.key") => (Zeroizing::new("CANARY".to_owned()), 0o600),
        _ => (private_key().expose_base64(), 0o600),
    };
    Ok(Secret { text, mode })
}

fn host() -> Vec<HostNetwork> {
    [("eth0", "203.0.113.7/24"), ("docker0", "172.17.0.1/16"), ("wg0", "10.9.0.1/24"), ("eth0", "0.0.0.0/0")]
        .map(|(interface, net)| (interface.to_owned(), net.parse().expect("net")))
        .to_vec()
}

fn understand(text: &str) -> Result<Config, ConfigErrors> {
    let path = Path::new("relay.toml");
    mean(path, text, Written::parse(path, text)?, &host(), &read_key)
}

fn refusal(text: &str) -> String {
    match understand(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// An `[interface]` of three lines, then `rest`.
fn hub_and(rest: &str) -> String {
    format!("[interface]\naddresses = [\"10.9.0.1/24\", \"fd52:1a9::1/64\"]\n\n{rest}")
}

fn peer(number: u8, name: &str, addresses: &str, more: &str) -> String {
    format!(
        "[[peer]]\nname = \"{name}\"\npublic_key = \"{}\"\naddresses = [{addresses}]\n{more}\n",
        key(number)
    )
}

#[test]
fn the_least_file_gets_every_default() {
    let config = understand(&hub_and("")).expect("accepted");
    let desired = &config.desired;
    assert_eq!(desired.interface.as_str(), "wg0");
    assert_eq!((desired.listen_port(), desired.mtu), (Some(51820), 1420));
    assert_eq!((desired.backend, desired.fast_path()), (BackendChoice::Auto, FastPathMode::Auto));
    assert_eq!(desired.endpoint(), None);
    assert!(!desired.firewall.manage && desired.firewall.allow_from.is_empty() && desired.peers.is_empty());
    assert_eq!(desired.private_key, private_key());
    assert!(config.warnings.is_empty() && config.disabled.is_empty());
}

#[test]
fn what_a_peers_own_configuration_says() {
    let more =
        "mtu = 1280\ndns = [\"192.168.40.1\", \"fd00::1\", \"home.arpa\"]\nfull_tunnel = true\nexpires = ";
    for (written, expected) in [
        ("\"2026-12-24T18:00:00Z\"", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24 19:00:00+01:00", "2026-12-24T18:00:00Z"),
        ("2026-12-24", "2026-12-24T00:00:00Z"),
        ("\"2026-12-24\"", "2026-12-24T00:00:00Z"),
    ] {
        let text = hub_and(&peer(1, "a", "\"10.9.0.2\"", &format!("{more}{written}")));
        let config = understand(&text).expect("accepted");
        let peer = &config.desired.peers[&key(1).parse().expect("key")];
        assert_eq!(peer.expires, Some(expected.parse().expect("moment")), "{written}");
        assert_eq!((peer.mtu, peer.full_tunnel), (Some(1280), true));
        let dns: Vec<String> = peer.dns.iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["192.168.40.1", "fd00::1", "home.arpa"]);
        assert_eq!(
            config.written.to_toml().map(|text| understand(&text).expect("its own text").desired),
            Ok(config.desired)
        );
    }
    for (more, expected) in [
        ("expires = \"soon\"", "expires of peer \"a\": `soon` is no moment"),
        ("expires = 2026-12-24T18:00:00", "`2026-12-24T18:00:00` is no moment"),
        ("expires = 18:00:00", "`18:00:00` is no moment"),
        ("expires = 7", "expected a moment such as \"2026-12-24T18:00:00Z\""),
        ("expires_at = \"2026-12-24\"", "it is `expires`"),
        ("mtu = 575", "mtu 575 of peer \"a\" is not 576 to 65456"),
        ("mtu = -1", "mtu -1 of peer \"a\""),
        ("dns = [\"1.1.1\"]", "dns `1.1.1` of peer \"a\" is neither"),
        ("dns = [\"a b\"]", "neither an IP address nor a search domain"),
        ("dns = [\"a\\nPostUp = x\"]", "neither an IP address nor a search domain"),
    ] {
        let text = refusal(&hub_and(&peer(1, "a", "\"10.9.0.2\"", more)));
        assert!(text.contains(expected), "{more}: {text}");
    }
    let text = refusal(&hub_and(&peer(1, "a", "\"10.9.0.2\", \"fd52:1a9::2\"", "mtu = 1279")));
    assert!(text.contains("is not 1280 to 65456"), "{text}");
}

#[test]
fn every_key_is_understood() {
    let text = format!(
        r#"
        [interface]
        name = "hub"
        listen_port = 443
        addresses = ["10.8.0.1/24"]
        private_key_file = "keys/open.key"
        endpoint = "vps.example.net"
        mtu = 1280
        backend = "userspace"
        fast_path = "always"
        [firewall]
        manage = true
        allow_from = ["eth1", "198.51.100.0/24", "198.51.101.1"]
        [metrics]
        listen = "[::]:9586"
        [[peer]]
        name = "home"
        public_key = "{}"
        addresses = ["10.8.0.2/32"]
        lans = ["192.168.40.0/24", "192.168.50.9"]
        preshared_key_file = "home.psk"
        endpoint = "192.0.2.1:51820"
        [[peer]]
        name = "phone"
        public_key = "{}"
        addresses = ["10.8.0.3"]
        enabled = false
        "#,
        key(1),
        key(2)
    );
    let config = understand(&text).expect("accepted");
    let desired = &config.desired;
    assert_eq!((desired.interface.as_str(), desired.listen_port(), desired.mtu), ("hub", Some(443), 1280));
    assert_eq!((desired.backend, desired.fast_path()), (BackendChoice::Userspace, FastPathMode::Always));
    assert_eq!(desired.endpoint(), Some("vps.example.net:443"));
    assert!(desired.firewall.manage);
    let allowed: Vec<AllowFrom> = desired.firewall.allow_from.iter().cloned().collect();
    assert_eq!(
        allowed,
        [
            AllowFrom::Interface("eth1".parse().expect("name")),
            AllowFrom::Prefix("198.51.100.0/24".parse().expect("net")),
            AllowFrom::Prefix("198.51.101.1/32".parse().expect("net")),
        ]
    );
    let (_, home, enabled) = config.peer("home").expect("home");
    assert!(enabled);
    assert_eq!(home.keepalive, Some(25), "the default for a peer with LANs");
    assert!(home.preshared_key.is_some());
    assert_eq!(home.endpoint, Some("192.0.2.1:51820".parse().expect("endpoint")));
    let nets: Vec<String> = home.allowed_ips().map(|net| net.to_string()).collect();
    assert_eq!(nets, ["10.8.0.2/32", "192.168.40.0/24", "192.168.50.9/32"]);
    let (_, phone, enabled) = config.peer("phone").expect("phone");
    assert!(!enabled && phone.keepalive.is_none());
    assert_eq!(desired.peers.len(), 1);
    assert_eq!(config.metrics, Some("[::]:9586".parse().expect("address")));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[1].to_string().contains("[metrics]"), "{}", config.warnings[1]);
    assert!(config.warnings[0].to_string().contains("keys/open.key"), "{}", config.warnings[0]);
}

/// A home's file: `interface` and `rest` besides what it must have.
fn home_with(interface: &str, hub: &str, rest: &str) -> String {
    format!(
        "[interface]\naddresses = [\"10.9.0.2/32\"]\n{interface}[hub]\npublic_key = \"{}\"\n{hub}\n{rest}",
        key(1)
    )
}

#[test]
fn a_home_and_its_defaults() {
    let hub = "endpoint = \"vps.example.net\"\nallowed = [\"10.9.0.0/24\", \"192.168.50.0/24\"]";
    let config = understand(&home_with("", hub, "[home]\nlans = [\"203.0.113.0/24\"]\n")).expect("accepted");
    let home = config.desired.home().expect("a home");
    assert_eq!(home.endpoint, "vps.example.net:51820");
    assert!(home.nat && home.lans.len() == 1, "a LAN is this machine's neighbour: {home:?}");
    assert_eq!((config.desired.listen_port(), config.desired.fast_path()), (None, FastPathMode::Off));
    let peer = &config.desired.peers[&home.hub];
    assert_eq!((peer.name.as_str(), peer.keepalive, peer.allowed_ips().count()), ("hub", Some(25), 2));
    let more = format!("{hub}\nkeepalive = 0\npreshared_key_file = \"psk\"");
    let config = understand(&home_with("", &more, "[home]\nnat = false\n")).expect("accepted");
    let (_, peer, _) = config.peer("hub").expect("the hub");
    assert!(peer.keepalive.is_none() && peer.preshared_key.is_some());
    assert!(config.desired.home().is_some_and(|home| !home.nat && home.lans.is_empty()));
}

/// (what stands in `[interface]`, in `[hub]`, and after it; the refusal)
#[test]
fn what_a_home_is_refused() {
    let good = "endpoint = \"vps\"\nallowed = [\"10.9.0.0/24\"]";
    let home = "[home]\nlans = [\"192.168.40.0/24\"]\n";
    let with_peer = home.to_owned() + &peer(2, "phone", "\"10.9.0.3\"", "");
    let allowed = |net: &str| format!("endpoint = \"vps\"\nallowed = [\"{net}\"]");
    for (interface, hub, rest, expected) in [
        (
            "",
            good,
            "",
            "3:1: [hub] makes this the file of a home, and there is no [home]; add `[home]` with `lans = […]`",
        ),
        ("listen_port = 1\n", good, home, "3:15: listen_port under [interface] is a hub's, and"),
        ("endpoint = \"x\"\n", good, home, "3:12: endpoint under [interface] is a hub's, and"),
        ("fast_path = \"always\"\n", good, home, "1:1: fast_path under [interface] is a hub's, and"),
        (
            "",
            good,
            &with_peer,
            "9:1: [[peer]] is a hub's, and [hub] makes this the file of a home; add peers on the hub",
        ),
        ("", &allowed("0.0.0.0/0"), home, "6:12: allowed 0.0.0.0/0 is the whole internet; name"),
        (
            "",
            &allowed("10.9.0.1/24"),
            home,
            "6:12: allowed 10.9.0.1/24 has host bits set; the network is 10.9.0.0/24",
        ),
        ("", &allowed("ff02::/16"), home, "6:12: allowed ff02::/16 overlaps ff00::/8 (multicast), which"),
        ("", &allowed("vpn"), home, "6:12: allowed `vpn` is not a network; write"),
        (
            "",
            &allowed("192.168.0.0/16"),
            home,
            "6:12: allowed 192.168.0.0/16 overlaps the LAN 192.168.40.0/24 (line 8); it",
        ),
        (
            "",
            &allowed("172.17.1.0/24"),
            home,
            "6:12: allowed 172.17.1.0/24 overlaps 172.17.0.0/16 of docker0 on this machine; this",
        ),
        ("", "endpoint = \"vps\"\nallowed = []", home, "6:11: nothing goes through the tunnel; name"),
        (
            "",
            "endpoint = \"10.9.0.1\"\nallowed = [\"10.9.0.0/24\"]",
            home,
            "5:12: endpoint 10.9.0.1:51820 of the hub is inside of 10.9.0.0/24 (line 6); the",
        ),
        (
            "",
            "endpoint = \"a b\"\nallowed = [\"10.9.0.0/24\"]",
            home,
            "5:12: endpoint of the hub: `a b` is neither",
        ),
        ("", &format!("{good}\nkeepalive = 70000"), home, "7:13: keepalive 70000 is not 0 to 65535 seconds"),
        (
            "",
            good,
            "[home]\nlans = [\"10.9.0.0/16\"]\n",
            "8:9: LAN 10.9.0.0/16 overlaps the tunnel's own 10.9.0.2/32 (line 2); give",
        ),
        ("", good, "[home]\nlan = []\n", "8:1: unknown field `lan`"),
    ] {
        let errors = refusal(&home_with(interface, hub, rest));
        assert!(errors.contains(&format!("relay.toml:{expected}")), "expected {expected}\n     got {errors}");
    }
    let errors = refusal(&hub_and(home));
    assert!(errors.contains("[home] makes this the file of a home, and there is no [hub]"), "{errors}");
    let own = private_key().public_key().to_string();
    let errors = refusal(&home_with("", good, home).replace(&key(1), &own));
    assert!(errors.contains("the hub's public_key is this machine's own"), "{errors}");
}

#[test]
fn keys_that_are_unknown_missing_or_of_the_wrong_type() {
    for (text, expected) in [
        ("", "relay.toml:1:1: missing field `interface`"),
        ("[interface\n", "relay.toml:1:11: "),
        ("[interface]\n", "relay.toml:1:1: missing field `addresses`"),
        ("[interface]\naddresses = \"10.9.0.1/24\"\n", "relay.toml:2:13: invalid type: string"),
        ("[interface]\naddresses = [1]\n", "relay.toml:2:14: invalid type: integer `1`, expected a string"),
        ("[interface]\naddresses = []\n  colour = 1\n", "relay.toml:3:3: unknown field `colour`"),
        ("[interface]\naddresses = []\nbackend = \"magic\"\n", "relay.toml:3:11: unknown variant `magic`"),
        (&hub_and("[[peer]]\nname = \"x\"\n"), "relay.toml:4:1: missing field `public_key`"),
        (&hub_and("[[peer]]\nallowed_ips = []\n"), "relay.toml:5:1: unknown field `allowed_ips`"),
        (&hub_and("[[peer]]\nenabled = 1\n"), "relay.toml:5:11: invalid type"),
        (&hub_and("[[peer]]\nname = \"a\"\nname = \"b\"\n"), "relay.toml:6:1: duplicate key"),
    ] {
        let errors = refusal(text);
        assert!(errors.starts_with(expected), "{text}\nexpected {expected}\n     got {errors}");
    }
    let errors = refusal(&hub_and("[[peer]]\npreshared_key = \"CANARY\"\n"));
    assert!(errors.contains("preshared_key_file") && !errors.contains("CANARY"), "{errors}");
    let errors = refusal(&hub_and("").replace("addresses", "listen_port = \"CANARY\"\naddresses"));
    assert_eq!(errors, "relay.toml:2:15: invalid type: string, expected i64");
    let key = private_key().expose_base64();
    let errors =
        refusal(&hub_and("").replace("addresses", &format!("private_key_file = \"{}\"\naddresses", *key)));
    assert_eq!(
        errors,
        "relay.toml:2:20: private_key_file holds a key itself instead of the name of a file; put the key into a file \
         of mode 0600 beside this one, and its name here"
    );
}

/// (what follows the interface, the whole refusal)
#[test]
fn clashes_name_both() {
    let v4 = "\"10.9.0.2\"";
    let a = peer(1, "a", v4, "lans = [\"192.168.40.0/24\"]");
    let cases = [
        (
            a.clone() + &peer(2, "a", "\"10.9.0.3\"", ""),
            r#"relay.toml:10:8: two peers are called "a", the other on line 5; give each a name of its own"#,
        ),
        (
            a.clone() + &peer(1, "b", "\"10.9.0.3\"", ""),
            r#"relay.toml:11:14: peer "b" and peer "a" (line 6) have the same public key; each machine needs a key of its own"#,
        ),
        (
            a.clone() + &peer(2, "b", v4, ""),
            r#"relay.toml:12:14: address 10.9.0.2 of peer "b" is also address 10.9.0.2 of peer "a" (line 7); WireGuard gives each address to one peer"#,
        ),
        (
            a.clone() + &peer(2, "b", "\"10.9.0.3\"", "lans = [\"192.168.40.0/24\"]"),
            r#"relay.toml:13:9: LAN 192.168.40.0/24 of peer "b" is also LAN 192.168.40.0/24 of peer "a" (line 8); WireGuard gives each address to one peer: give one of the networks another range, or list the machines that matter, such as 192.168.40.10/32, in place of one of them"#,
        ),
        (
            a.clone() + &peer(2, "b", "\"10.9.0.3\"", "lans = [\"192.168.0.0/16\"]"),
            r#"relay.toml:13:9: LAN 192.168.0.0/16 of peer "b" overlaps LAN 192.168.40.0/24 of peer "a" (line 8); WireGuard gives each address to one peer: give one of the networks another range, or list the machines that matter, such as 192.168.40.10/32, in place of one of them"#,
        ),
        (
            a.clone() + &peer(2, "b", "\"10.9.0.3\"", "lans = [\"192.168.40.7\"]"),
            r#"relay.toml:13:9: LAN 192.168.40.7/32 of peer "b" overlaps LAN 192.168.40.0/24 of peer "a" (line 8); WireGuard gives each address to one peer: give one of the networks another range, or list the machines that matter, such as 192.168.40.10/32, in place of one of them"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"10.9.0.0/24\"]"),
            r#"relay.toml:8:9: LAN 10.9.0.0/24 of peer "a" overlaps the tunnel's own subnet 10.9.0.0/24 (line 2); give the tunnel another subnet"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"10.0.0.0/8\"]"),
            r#"relay.toml:8:9: LAN 10.0.0.0/8 of peer "a" overlaps the tunnel's own subnet 10.9.0.0/24 (line 2); give the tunnel another subnet"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"172.17.5.0/24\"]"),
            r#"relay.toml:8:9: LAN 172.17.5.0/24 of peer "a" overlaps 172.17.0.0/16 of docker0 on this host; this host could no longer reach its own neighbours: give that LAN another range, or list the machines that matter, such as 192.168.40.10/32, if none of them is this host's neighbour"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"0.0.0.0/0\"]"),
            r#"relay.toml:8:9: LAN 0.0.0.0/0 of peer "a" would send the whole internet of this host to that peer; name the networks that are behind it"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"::/0\"]"),
            r#"relay.toml:8:9: LAN ::/0 of peer "a" would send the whole internet of this host to that peer; name the networks that are behind it"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"128.0.0.0/1\"]"),
            r#"relay.toml:8:9: LAN 128.0.0.0/1 of peer "a" overlaps 169.254.0.0/16 (link-local), which is never routed"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"fe80::/64\"]"),
            r#"relay.toml:8:9: LAN fe80::/64 of peer "a" overlaps fe80::/10 (link-local), which is never routed"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"224.0.0.0/24\"]"),
            r#"relay.toml:8:9: LAN 224.0.0.0/24 of peer "a" overlaps 224.0.0.0/4 (multicast), which is never routed"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"192.168.40.1/24\"]"),
            r#"relay.toml:8:9: LAN 192.168.40.1/24 of peer "a" has host bits set; the network is 192.168.40.0/24"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"lan\"]"),
            r#"relay.toml:8:9: LAN `lan` of peer "a" is not a network; write such as 192.168.40.0/24"#,
        ),
        (
            peer(1, "a", "", ""),
            r#"relay.toml:7:13: peer "a" has no address in the tunnel; give it one of the interface's subnet, or use `relay peer add`, which finds a free one"#,
        ),
        (
            peer(1, "a", "\"10.9.1.2\"", ""),
            r#"relay.toml:7:14: address 10.9.1.2 of peer "a" is outside of the interface's 10.9.0.0/24 and fd52:1a9::/64; give it an address of the subnet, or the interface an address in that one"#,
        ),
        (
            peer(1, "a", "\"10.9.0.2/24\"", ""),
            r#"relay.toml:7:14: address 10.9.0.2/24 of peer "a" is a whole network; write 10.9.0.2; networks behind a peer are its `lans`"#,
        ),
        (
            peer(1, "a", "\"10.9.0.1\"", ""),
            r#"relay.toml:7:14: address 10.9.0.1 of peer "a" is the hub's own (line 2)"#,
        ),
        (
            peer(1, "a", "\"10.9.0.0\"", ""),
            r#"relay.toml:7:14: address 10.9.0.0 of peer "a" is the network address of 10.9.0.0/24"#,
        ),
        (
            peer(1, "a", "\"10.9.0.255\"", ""),
            r#"relay.toml:7:14: address 10.9.0.255 of peer "a" is the broadcast address of 10.9.0.0/24"#,
        ),
        (
            peer(1, "a", "\"fd52:1a9::\"", ""),
            r#"relay.toml:7:14: address fd52:1a9:: of peer "a" is the subnet-router anycast address of fd52:1a9::/64"#,
        ),
        (
            peer(1, " a", v4, ""),
            "relay.toml:5:8: ` a` is not a peer name: one line of 1 to 64 characters, no white space at its ends",
        ),
        (
            peer(1, "a", v4, "keepalive = 65536"),
            r#"relay.toml:8:13: keepalive 65536 of peer "a" is not 0 to 65535 seconds"#,
        ),
        (
            peer(1, "a", v4, "endpoint = \"home.example.net:51820\""),
            r#"relay.toml:8:12: endpoint of peer "a": `home.example.net:51820` is neither an IP address nor a host name, with or without a port; write an address and a port such as 192.0.2.1:51820, or leave it out if the peer dials the hub"#,
        ),
        (
            peer(1, "a", v4, "lans = [\"192.168.40.0/24\"]\nendpoint = \"192.168.40.1:51820\""),
            r#"relay.toml:9:12: endpoint 192.168.40.1:51820 of peer "a" is inside of LAN 192.168.40.0/24 of peer "a" (line 8); the tunnel cannot be dialled through itself: 192.168.40.0/24 leads into it"#,
        ),
        (
            peer(1, "a", v4, "preshared_key_file = \"missing.key\""),
            "relay.toml:8:22: preshared_key_file: cannot read missing.key: entity not found; `wg genpsk` makes one",
        ),
        (
            format!("[[peer]]\nname = \"a\"\npublic_key = \"short\"\naddresses = [{v4}]\n"),
            r#"relay.toml:6:14: public_key of peer "a": not a WireGuard key: expected 44 characters of base64, as `wg genkey` and `wg pubkey` print them"#,
        ),
        (
            format!(
                "[[peer]]\nname = \"a\"\npublic_key = \"{}\"\naddresses = [{v4}]\n",
                private_key().public_key()
            ),
            r#"relay.toml:6:14: peer "a" has the public key of the hub itself; write the key that `wg pubkey` prints on the peer's machine"#,
        ),
        (
            "[firewall]\nallow_from = [\"192.0.2.1/24\"]".to_owned(),
            "relay.toml:5:15: allow_from: 192.0.2.1/24 has host bits set; the network is 192.0.2.0/24",
        ),
        (
            "[firewall]\nallow_from = [\"eth 0\"]".to_owned(),
            "relay.toml:5:15: allow_from: `eth 0` is neither a prefix nor an interface",
        ),
        (
            "[firewall]\nallow_from = [\"wg0\"]".to_owned(),
            "relay.toml:5:15: allow_from: wg0 is the tunnel itself, whose peers reach one another anyway",
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(refusal(&hub_and(&rest)), expected, "{rest}");
    }
}

#[test]
fn an_interface_that_cannot_be() {
    for (lines, expected) in [
        (
            "addresses = []",
            "relay.toml:2:13: the interface has no address; give it one in a private subnet: `addresses = [\"10.9.0.1/24\"]`",
        ),
        (
            "addresses = [\"10.9.0.1\"]",
            "relay.toml:2:14: `10.9.0.1` is not an address with a prefix length; write such as 10.9.0.1/24",
        ),
        (
            "addresses = [\"fd52::1\"]",
            "relay.toml:2:14: `fd52::1` is not an address with a prefix length; write such as fd52::1/64",
        ),
        (
            "addresses = [\"10.9.0.0/24\"]",
            "relay.toml:2:14: 10.9.0.0 is the network address of 10.9.0.0/24, not a machine's",
        ),
        (
            "addresses = [\"169.254.7.1/24\"]",
            "relay.toml:2:14: the interface's subnet 169.254.7.0/24 is in 169.254.0.0/16 (link-local)",
        ),
        (
            "addresses = [\"10.9.0.1/24\", \"10.9.0.9/16\"]",
            "relay.toml:2:29: the interface's subnets 10.9.0.9/16 and 10.9.0.1/24 (line 2) overlap; one address per subnet",
        ),
        (
            "addresses = [\"203.0.113.9/28\"]",
            "relay.toml:2:14: the tunnel's subnet 203.0.113.0/28 overlaps 203.0.113.0/24 of eth0 on this host; choose a subnet that is in use nowhere near",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nname = \"much-too-long-a-name\"",
            "relay.toml:3:8: `much-too-long-a-name` is not an interface name: 1 to 15 of a-z A-Z 0-9 _ = + . - (such as wg0)",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nlisten_port = 0",
            "relay.toml:3:15: listen_port 0 is not a port: 1 to 65535",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nlisten_port = 65536",
            "relay.toml:3:15: listen_port 65536 is not a port: 1 to 65535",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nmtu = 575",
            "relay.toml:3:7: mtu 575 is below 576, the least that every host takes",
        ),
        (
            "addresses = [\"10.9.0.1/24\", \"fd52::1/64\"]\nmtu = 1279",
            "relay.toml:3:7: mtu 1279 is below 1280, the least for a tunnel with IPv6 addresses",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nmtu = 65457",
            "relay.toml:3:7: mtu 65457 is above 65456, the most that WireGuard carries",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nendpoint = \"10.9.0.1\"",
            "relay.toml:3:12: endpoint 10.9.0.1:51820 is inside of the tunnel's own subnet 10.9.0.0/24 (line 2); it is what peers dial from outside: the public address or name of this host",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nendpoint = \"vps:0\"",
            "relay.toml:3:12: endpoint: `0` is not a port: 1 to 65535; write such as vps.example.net:51820",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nprivate_key_file = \"missing.key\"",
            "relay.toml:3:20: private_key_file: cannot read missing.key: entity not found; `relay init` makes one",
        ),
        (
            "addresses = [\"10.7.0.1/24\"]\nname = \"missing\"",
            "relay.toml:1:1: private_key_file: cannot read missing.key: entity not found; `relay init` makes one",
        ),
        (
            "addresses = [\"10.9.0.1/24\"]\nprivate_key_file = \"broken.key\"",
            "relay.toml:3:20: private_key_file: broken.key: not a WireGuard key: expected 44 characters of base64, as `wg genkey` and `wg pubkey` print them",
        ),
    ] {
        assert_eq!(refusal(&format!("[interface]\n{lines}\n")), expected, "{lines}");
    }
}

#[test]
fn independent_errors_come_together_in_order() {
    let text =
        hub_and(&(peer(1, "a", "\"10.9.0.1\"", "lans = [\"0.0.0.0/0\"]") + &peer(1, "a", "\"x\"", "")))
            .replace("[interface]\n", "[interface]\nlisten_port = 0\nmtu = 1\n");
    let errors = refusal(&text);
    let lines: Vec<&str> =
        errors.lines().map(|line| line.split(':').nth(1).expect("a line number")).collect();
    assert_eq!(lines, ["2", "3", "9", "10", "12", "13", "14"], "{errors}");
}

#[test]
fn a_disabled_peer_may_hold_what_an_enabled_one_uses() {
    let lan = "lans = [\"192.168.40.0/24\"]";
    let text = hub_and(
        &(peer(1, "a", "\"10.9.0.2\"", lan)
            + &peer(2, "b", "\"10.9.0.3\"", &format!("{lan}\nenabled = false"))),
    );
    let config = understand(&text).expect("accepted");
    assert_eq!((config.desired.peers.len(), config.disabled.len()), (1, 1));
}

#[test]
fn ten_thousand_peers_are_read_at_once() {
    let mut text = hub_and("").replace("10.9.0.1/24", "10.8.0.1/16");
    for number in 2..10_002_u32 {
        let mut bytes = [1; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        let key = PublicKey::new(bytes);
        let [.., high, low] = number.to_be_bytes();
        text += &format!(
            "[[peer]]\nname = \"{number}\"\npublic_key = \"{key}\"\naddresses = [\"10.8.{high}.{low}\"]\n\
             endpoint = \"192.0.2.1:{number}\"\n"
        );
    }
    // 255 and 256·n + 255 are hosts in a /16; only the subnet's last address is not.
    assert_eq!(understand(&text).expect("accepted").desired.peers.len(), 10_000);
}

/// The file that people copy from.
#[test]
fn the_example_is_accepted_and_complete() {
    let text = include_str!("../../examples/relay.toml");
    let config = understand(text).expect("accepted");
    assert_eq!((config.desired.peers.len(), config.disabled.len()), (3, 1));
    let every_key = [
        "name",
        "listen_port",
        "addresses",
        "private_key_file",
        "endpoint",
        "mtu",
        "backend",
        "fast_path",
        "manage",
        "allow_from",
        "listen",
        "public_key",
        "lans",
        "keepalive",
        "preshared_key_file",
        "enabled",
    ];
    for key in every_key {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is missing");
    }
}

#[test]
fn a_missing_file_says_so() {
    let error = load(Path::new("/nonexistent/relay.toml"), &[]).expect_err("missing");
    assert_eq!(error.to_string(), "cannot read the configuration /nonexistent/relay.toml");
    assert!(error.hint().is_some_and(|hint| hint.contains("relay init")));
}
