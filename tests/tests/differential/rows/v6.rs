//! IPv6, and ICMPv6 in it.

use relay_tests::packet::{Tcp, flag, protocol};

use super::*;

pub(super) fn rows() -> Vec<Row> {
    [plain(), headers(), extensions(), addresses(), sizes(), icmp()].concat()
}

fn plain() -> Vec<Row> {
    let raw = |number| v6(|_| {}).carry(&Transport::Raw(number, vec![7; 40]));
    vec![
        fast("v6 udp", udp6(|_| {})),
        fast("v6 udp without payload", v6(|_| {}).carry(&udp(0))),
        fast(
            "v6 tcp data",
            v6(|_| {}).carry(&Transport::Tcp(Tcp { payload: vec![9; 100], ..Tcp::new(flag::ACK) })),
        ),
        fast("v6 to the phone", Ipv6::new(NAS6, PHONE6).carry(&udp(32))),
        fast("v6 peer to peer", Ipv6::new(PHONE6, HOME6).carry(&udp(32))),
        fast("v6 esp", raw(protocol::ESP)),
        fast("v6 sctp", raw(132)),
        fast("v6 protocol 255", raw(255)),
        fast("v6 no next header", raw(protocol::NO_NEXT)),
        fast(
            "v6 no next header and nothing behind it",
            v6(|_| {}).carry(&Transport::Raw(protocol::NO_NEXT, vec![])),
        ),
    ]
}

fn headers() -> Vec<Row> {
    let hops = |hops| udp6(|ip| ip.hop_limit = hops);
    let class = |class| udp6(|ip| ip.traffic_class = class);
    vec![
        stack("v6 hop limit 0", Verdict::TtlExpired, hops(0)),
        stack("v6 hop limit 1", Verdict::TtlExpired, hops(1)),
        fast("v6 hop limit 2", hops(2)),
        fast("v6 hop limit 255", hops(255)),
        fast("v6 dscp EF", class(0xb8)),
        fast("v6 ecn ECT(0)", class(0x02)),
        fast("v6 ecn CE", class(0x03)),
        fast("v6 flow label 0", udp6(|ip| ip.flow_label = 0)),
        fast("v6 flow label 0xfffff", udp6(|ip| ip.flow_label = 0xf_ffff)),
        stack("v6 payload length too long", Verdict::Malformed, udp6(|ip| ip.payload_length = Some(41))),
        stack("v6 bytes behind its end", Verdict::Malformed, udp6(|ip| ip.payload_length = Some(39))),
        stack("v6 payload length 0", Verdict::Malformed, udp6(|ip| ip.payload_length = Some(0))),
        stack("v6 cut inside the header", Verdict::Malformed, udp6(|_| {})[..39].to_vec()),
        stack("v6 of one byte", Verdict::Malformed, vec![0x60]),
        stack("v6 jumbogram", Verdict::Malformed, {
            let jumbo = (protocol::HOP_BY_HOP, vec![0, 0xc2, 4, 0, 0, 0, 48]);
            v6(|ip| (ip.extensions, ip.payload_length) = (vec![jumbo], Some(0))).carry(&udp(32))
        }),
    ]
}

fn extensions() -> Vec<Row> {
    use Verdict::Fragment;
    let with = |extensions: &[(u8, Vec<u8>)]| udp6(|ip| ip.extensions = extensions.to_vec());
    let one = |kind| with(&[Ipv6::extension(kind)]);
    let syn = Transport::Tcp(Tcp::syn(1460));
    let behind = |extension, transport: &Transport| v6(|ip| ip.extensions = vec![extension]).carry(transport);
    let part = |offset, more| with(&[Ipv6::fragment(offset, more)]);
    let mut rows = vec![
        stack("v6 hop-by-hop options", Verdict::Options, one(protocol::HOP_BY_HOP)),
        stack("v6 hop-by-hop option that must be refused", Verdict::Options, {
            with(&[(protocol::HOP_BY_HOP, vec![0, 0x9e, 4, 0, 0, 0, 0])])
        }),
        stack("v6 hop-by-hop router alert", Verdict::Options, {
            with(&[(protocol::HOP_BY_HOP, vec![0, 5, 2, 0, 0, 1, 0])])
        }),
        stack("v6 routing header", Verdict::Options, one(protocol::ROUTING)),
        stack("v6 destination options", Verdict::Options, one(protocol::DESTINATION_OPTIONS)),
        stack("v6 destination options before a syn", Verdict::Options, {
            behind(Ipv6::extension(protocol::DESTINATION_OPTIONS), &syn)
        }),
        stack("v6 authentication header", Verdict::Options, {
            with(&[(
                protocol::AUTHENTICATION,
                vec![4, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )])
        }),
        stack("v6 hop-by-hop options with hop limit 1", Verdict::TtlExpired, {
            udp6(|ip| (ip.hop_limit, ip.extensions) = (1, vec![Ipv6::extension(protocol::HOP_BY_HOP)]))
        }),
        stack("v6 hop-by-hop options cut off", Verdict::Options, {
            v6(|_| {}).carry(&Transport::Raw(protocol::HOP_BY_HOP, vec![17]))
        }),
    ];
    let fragments = [
        stack("v6 first fragment", Fragment, part(0, true)),
        stack("v6 middle fragment", Fragment, part(100, true)),
        stack("v6 last fragment", Fragment, part(200, false)),
        stack("v6 atomic fragment", Fragment, part(0, false)),
        stack(
            "v6 later fragment of tcp",
            Fragment,
            behind(Ipv6::fragment(100, true), &Transport::Tcp(Tcp::new(flag::ACK))),
        ),
        stack("v6 first fragment of a syn", Fragment, behind(Ipv6::fragment(0, true), &syn)),
        stack("v6 atomic fragment of a syn", Fragment, behind(Ipv6::fragment(0, false), &syn)),
        stack("v6 fragment of a fragment", Fragment, {
            with(&[Ipv6::fragment(0, true), Ipv6::fragment(0, true)])
        }),
        stack("v6 fragment of destination options", Fragment, {
            with(&[Ipv6::fragment(0, true), Ipv6::extension(protocol::DESTINATION_OPTIONS)])
        }),
        stack("v6 fragment header cut off", Fragment, {
            v6(|_| {}).carry(&Transport::Raw(protocol::FRAGMENT, vec![17, 0, 0, 1]))
        }),
        stack("v6 fragment with hop limit 1", Verdict::TtlExpired, {
            udp6(|ip| (ip.hop_limit, ip.extensions) = (1, vec![Ipv6::fragment(100, true)]))
        }),
    ];
    rows.extend(fragments.map(fragment));
    // TCP in two fragments, the first with the header and 492 bytes behind it.
    let segment = Transport::Tcp(Tcp { payload: vec![4; 492], ..Tcp::new(flag::ACK) });
    let rest = Transport::Raw(protocol::TCP, vec![4; 80]);
    let parts = [behind(Ipv6::fragment(0, true), &segment), behind(Ipv6::fragment(64, false), &rest)];
    rows.push(Row {
        name: "v6 two fragments of one segment",
        packets: parts.map(Sent::from).into(),
        path: Path::Stack(Fragment),
        fragments: false,
    });
    rows
}

fn addresses() -> Vec<Row> {
    let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
    let from = |name, verdict, text| stack(name, verdict, udp6(|ip| ip.source = address(text)));
    let to = |name, verdict, text| stack(name, verdict, udp6(|ip| ip.destination = address(text)));
    use Verdict::{Local, Martian, SamePeer, UnknownDestination, UnknownSource};
    vec![
        from("v6 from ::", Martian, "::"),
        from("v6 from loopback", Martian, "::1"),
        from("v6 from multicast", Martian, "ff02::1"),
        from("v6 from link-local", Martian, "fe80::1"),
        from("v6 from a mapped address", Martian, "::ffff:10.9.0.3"),
        from("v6 from a compatible address", Martian, "::10.9.0.3"),
        to("v6 to ::", Martian, "::"),
        to("v6 to loopback", Martian, "::1"),
        to("v6 to multicast of this link", Martian, "ff02::1"),
        to("v6 to multicast of the site", Martian, "ff05::1"),
        to("v6 to link-local", Martian, "fe80::1"),
        to("v6 to a mapped address", Martian, "::ffff:10.9.0.2"),
        to("v6 to a compatible address", Martian, "::10.9.0.2"),
        to("v6 to the hub", Local, "fd52:1a9::1"),
        to("v6 to a hole in the LAN that is unreachable", Local, "fd40::dead"),
        to("v6 to the routers of the subnet", Local, "fd52:1a9::"),
        to("v6 to the hub's uplink address", UnknownDestination, "2001:db8::2"),
        to("v6 to nobody in the subnet", UnknownDestination, "fd52:1a9::77"),
        to("v6 to the internet", UnknownDestination, "2001:4860:4860::8888"),
        to("v6 to a phone by 6to4", UnknownDestination, "2002:a09:3::1"),
        from("v6 from a phone by 6to4", UnknownSource, "2002:a09:3::1"),
        to("v6 to one address behind the LAN", UnknownDestination, "fd40:0:0:100::"),
        from("v6 from nobody in the subnet", UnknownSource, "fd52:1a9::77"),
        from("v6 from the internet", UnknownSource, "2001:4860:4860::8888"),
        from("v6 from the hub's own address", UnknownSource, "fd52:1a9::1"),
        stack("v6 home to its own LAN", SamePeer, Ipv6::new(HOME6, NAS6).carry(&udp(8))),
        stack("v6 phone to itself", SamePeer, Ipv6::new(PHONE6, PHONE6).carry(&udp(8))),
        fast("v6 to the LAN's first address", udp6(|ip| ip.destination = address("fd40::"))),
        fast(
            "v6 to the LAN's last address",
            udp6(|ip| ip.destination = address("fd40:0:0:ff:ffff:ffff:ffff:ffff")),
        ),
    ]
}

fn sizes() -> Vec<Row> {
    let sized = |size| v6(|_| {}).carry(&udp(payload6(size)));
    let target = "fd40:0:0:80::1".parse().expect("an address");
    let narrow = |size| v6(|ip| ip.destination = target).carry(&udp(payload6(size)));
    vec![
        fast("v6 as long as the MTU", sized(MTU)),
        stack("v6 one byte too long", Verdict::TooBig, sized(MTU + 1)),
        stack("v6 far too long", Verdict::TooBig, sized(9000)),
        stack("v6 as long as a narrower route's MTU", Verdict::Local, narrow(1300)),
        stack("v6 too long for a narrower route", Verdict::Local, narrow(1301)),
        stack("v6 too long and hop limit 1", Verdict::TtlExpired, {
            v6(|ip| ip.hop_limit = 1).carry(&udp(payload6(MTU + 1)))
        }),
    ]
}

fn icmp() -> Vec<Row> {
    let echo = |target| {
        v6(|ip| ip.destination = target).carry(&Transport::Icmp(128, 0, [0x12, 0x34, 0, 1], vec![5; 56]))
    };
    let about =
        |kind, code, rest| Ipv6::new(NAS6, PHONE6).carry(&Transport::Icmp(kind, code, rest, udp6(|_| {})));
    let neighbour = |kind, target: Ipv6Addr| {
        v6(|ip| (ip.hop_limit, ip.destination) = (255, HUB6)).carry(&Transport::Icmp(
            kind,
            0,
            [0; 4],
            target.octets().into(),
        ))
    };
    vec![
        fast("icmpv6 echo request", echo(NAS6)),
        fast("icmpv6 echo reply", {
            Ipv6::new(NAS6, PHONE6).carry(&Transport::Icmp(129, 0, [0x12, 0x34, 0, 1], vec![5; 56]))
        }),
        fast("icmpv6 packet too big inside", about(2, 0, [0, 0, 5, 0])),
        fast("icmpv6 unreachable inside", about(1, 4, [0; 4])),
        fast("icmpv6 time exceeded inside", about(3, 0, [0; 4])),
        fast("icmpv6 parameter problem inside", about(4, 1, [0, 0, 0, 6])),
        stack("icmpv6 echo request to the hub", Verdict::Local, echo(HUB6)),
        stack("icmpv6 neighbour solicitation to the hub", Verdict::Local, neighbour(135, HUB6)),
        stack("icmpv6 router solicitation to the hub", Verdict::Local, {
            v6(|ip| (ip.hop_limit, ip.destination) = (255, HUB6)).carry(&Transport::Icmp(
                133,
                0,
                [0; 4],
                vec![],
            ))
        }),
        stack("icmpv6 echo request with hop limit 1", Verdict::TtlExpired, {
            v6(|ip| ip.hop_limit = 1).carry(&Transport::Icmp(128, 0, [0, 1, 0, 2], vec![5; 56]))
        }),
        stack("icmpv6 error with hop limit 1, about which there is none", Verdict::TtlExpired, {
            v6(|ip| ip.hop_limit = 1).carry(&Transport::Icmp(1, 4, [0; 4], udp6(|_| {})))
        }),
        stack("icmpv6 error too long, about which there is none", Verdict::TooBig, {
            v6(|_| {}).carry(&Transport::Icmp(1, 4, [0; 4], vec![5; 2000]))
        }),
    ]
}
