//! Faults of peers.

use Level::{Fault, Warning};

use super::*;

const ROWS: &[Row] = &[
    (
        "a LAN that is elsewhere",
        |f| host(f).observed.routes.push(route("192.168.40.128/25", 2, 4)),
        Check::Networks,
        Fault,
        "192.168.40.128/25",
    ),
    (
        "a LAN that is refused",
        |f| {
            let refusing = KernelRoute { kind: 6, interface: None, ..route("192.168.40.128/25", 2, 4) };
            host(f).observed.routes.push(refusing);
        },
        Check::Networks,
        Fault,
        "ip route delete blackhole 192.168.40.128/25",
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
    ("one never", |f| live(f, PHONE).latest_handshake = None, Check::Handshake, Warning, "does not knock"),
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
        "a home without a keepalive of its own",
        |f| counts(f, HOME, 7200, 0),
        Check::Handshake,
        Fault,
        "is `PersistentKeepalive = 25` in its own file",
    ),
    (
        "a home that is dialled and silent",
        |f| {
            rewrite(f, "name = \"home\"", "name = \"home\"\nendpoint = \"192.0.2.9:51820\"");
            counts(f, HOME, 7200, 0);
            behind(f, false, Behind::NotForwarded);
        },
        Check::Handshake,
        Fault,
        "the hub dials it at 192.0.2.9:51820",
    ),
    (
        "a peer whose clock went back",
        |f| {
            counts(f, HOME, 600, 0);
            hears(f, Ok((HOME, before(4200))));
        },
        Check::Initiation,
        Fault,
        "its clock is 1 h behind this host's, and went back since",
    ),
    (
        "a peer whose clock was ahead and was set right",
        |f| {
            counts(f, HOME, 600, 0);
            hears(f, Ok((HOME, before(4))));
        },
        Check::Initiation,
        Fault,
        "it was ahead then and was set right",
    ),
    (
        "a peer whose clock was ahead and is still, by less",
        |f| {
            counts(f, HOME, 600, 0);
            hears(f, Ok((HOME, now() + Duration::from_secs(3600))));
        },
        Check::Initiation,
        Fault,
        "1 h ahead of this host's, and was farther ahead then",
    ),
    (
        "the way back after a clock",
        |f| {
            counts(f, HOME, 600, 0);
            hears(f, Ok((HOME, before(4200))));
        },
        Check::Initiation,
        Fault,
        "`wg set wg0 peer AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI= remove`",
    ),
    (
        "an old one played again",
        |f| {
            live(f, HOME).endpoint = Some("192.0.2.77:1".parse().expect("an address"));
            hears(f, Ok((HOME, before(4200))));
        },
        Check::Initiation,
        Warning,
        "plays an old handshake again",
    ),
    (
        "answers that do not arrive",
        |f| {
            counts(f, PHONE, 90_000, 148);
            hears(f, Ok((PHONE, before(4))));
        },
        Check::Initiation,
        Fault,
        "does not take the hub's answers",
    ),
    (
        "answers that do not arrive at one whose clock is slow",
        |f| {
            counts(f, PHONE, 90_000, 148);
            hears(f, Ok((PHONE, before(4200))));
        },
        Check::Initiation,
        Fault,
        "does not take the hub's answers",
    ),
    (
        "a key that only one of them shares",
        |f| {
            counts(f, PHONE, 90_000, 148);
            hears(f, Ok((PHONE, before(4))));
        },
        Check::Initiation,
        Fault,
        "its own file must have no PresharedKey, since relay has none for it",
    ),
    (
        "something that drops what WireGuard never sees",
        |f| {
            live(f, PHONE).received = 0;
            host(f).observed.device = f.device.clone();
            hears(f, Ok((PHONE, before(4))));
        },
        Check::Initiation,
        Fault,
        "reverse path filtering",
    ),
    (
        "no packet socket",
        |f| f.ears = Ears::Deaf("EPERM".into()),
        Check::Initiation,
        Warning,
        "was not looked at",
    ),
    (
        "one never, and no packet socket",
        |f| {
            live(f, PHONE).latest_handshake = None;
            f.ears = Ears::Deaf("EPERM".into());
        },
        Check::Handshake,
        Warning,
        "whether it knocks was not looked at",
    ),
    (
        "a flood",
        |f| f.ears = Ears::Listened { heard: Vec::new(), whole: false },
        Check::Initiation,
        Warning,
        "floods the port",
    ),
    (
        "one never, in a flood",
        |f| {
            live(f, PHONE).latest_handshake = None;
            f.ears = Ears::Listened { heard: Vec::new(), whole: false };
        },
        Check::Handshake,
        Warning,
        "cannot be told among so many",
    ),
    (
        "no raw socket",
        |f| f.probes.get_mut("home").expect("home's").failed = Some("EPERM".into()),
        Check::Tunnel,
        Warning,
        "CAP_NET_RAW",
    ),
    (
        "answers that do not arrive, in userspace",
        |f| {
            counts(f, HOME, 9, 148);
            live(f, HOME).latest_handshake = Some(before(4));
            hears(f, Ok((HOME, before(4))));
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
    ("a home that says nothing", |f| behind(f, false, Behind::NotForwarded), Check::Tunnel, Fault, "no ping"),
];

#[test]
fn each_fault_is_named() {
    each_is_named(ROWS);
}
