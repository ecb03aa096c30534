//! IPv4, and ICMP in it.

use relay_tests::packet::{Tcp, flag, protocol};

use super::*;

pub(super) fn rows() -> Vec<Row> {
    [plain(), headers(), addresses(), sizes(), fragments(), icmp()].concat()
}

fn plain() -> Vec<Row> {
    let raw = |number| v4(|_| {}).carry(&Transport::Raw(number, vec![7; 40]));
    vec![
        fast("v4 udp", udp4(|_| {})),
        fast("v4 udp without payload", v4(|_| {}).carry(&udp(0))),
        fast(
            "v4 tcp data",
            v4(|_| {}).carry(&Transport::Tcp(Tcp { payload: vec![9; 100], ..Tcp::new(flag::ACK) })),
        ),
        fast("v4 to the phone", Ipv4::new(NAS, PHONE).carry(&udp(32))),
        fast("v4 peer to peer", Ipv4::new(PHONE, HOME).carry(&udp(32))),
        fast("v4 gre", raw(47)),
        fast("v4 esp", raw(protocol::ESP)),
        fast("v4 protocol 255", raw(255)),
        fast("v4 protocol 0", raw(0)),
        fast("v4 without anything in it", v4(|_| {}).carry(&Transport::Raw(protocol::NO_NEXT, vec![]))),
        fast("v4 udp with a wrong checksum, which is its receiver's affair", {
            let mut bytes = udp4(|_| {});
            bytes[26] ^= 0x55;
            bytes
        }),
    ]
}

fn headers() -> Vec<Row> {
    let ttl = |ttl| udp4(|ip| ip.ttl = ttl);
    let tos = |tos| udp4(|ip| ip.tos = tos);
    let options = |options: &[u8]| udp4(|ip| ip.options = options.to_vec());
    let mut rows = vec![
        stack("v4 ttl 0", Verdict::TtlExpired, ttl(0)),
        stack("v4 ttl 1", Verdict::TtlExpired, ttl(1)),
        fast("v4 ttl 2", ttl(2)),
        fast("v4 ttl 255", ttl(255)),
        fast("v4 dscp EF", tos(0xb8)),
        fast("v4 ecn ECT(0)", tos(0x02)),
        fast("v4 ecn ECT(1)", tos(0x01)),
        fast("v4 ecn CE", tos(0x03)),
        fast("v4 dscp CS7 and CE", tos(0xe3)),
        fast("v4 without DF", udp4(|ip| ip.dont_fragment = false)),
        fast("v4 identification 0", udp4(|ip| ip.id = 0)),
        fast("v4 reserved flag", {
            let mut bytes = udp4(|_| {});
            bytes[6] |= 0x80;
            refresh(bytes)
        }),
        stack("v4 option no operation", Verdict::Options, options(&[1, 1, 1, 0])),
        stack("v4 option record route", Verdict::Options, options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        stack(
            "v4 option timestamp without room for another",
            Verdict::Options,
            options(&[68, 8, 9, 0, 1, 2, 3, 4]),
        ),
        stack("v4 option loose source route", Verdict::Options, options(&[131, 7, 4, 10, 9, 0, 2, 0])),
        stack("v4 option strict source route", Verdict::Options, options(&[137, 7, 4, 10, 9, 0, 2, 0])),
        stack("v4 option router alert", Verdict::Options, options(&[148, 4, 0, 0])),
        stack("v4 option of a wrong length", Verdict::Options, options(&[7, 40, 4, 0])),
        stack("v4 option unknown", Verdict::Options, options(&[0x9e, 4, 1, 2])),
        stack("v4 checksum off by one", Verdict::Checksum, {
            let mut bytes = udp4(|_| {});
            bytes[11] ^= 1;
            bytes
        }),
        stack("v4 checksum zero", Verdict::Checksum, udp4(|ip| ip.checksum = Some(0))),
        stack("v4 header length 4 words", Verdict::Malformed, udp4(|ip| ip.version_ihl = Some(0x44))),
        stack("v4 header length 0", Verdict::Malformed, udp4(|ip| ip.version_ihl = Some(0x40))),
        stack("v4 header longer than the packet", Verdict::Options, {
            v4(|ip| ip.version_ihl = Some(0x4f)).carry(&Transport::Raw(17, vec![0; 4]))
        }),
        stack("v4 total length too long", Verdict::Malformed, udp4(|ip| ip.total_length = Some(61))),
        stack("v4 bytes behind its end", Verdict::Malformed, udp4(|ip| ip.total_length = Some(59))),
        stack(
            "v4 total length shorter than the header",
            Verdict::Malformed,
            udp4(|ip| ip.total_length = Some(19)),
        ),
        stack("v4 total length 0", Verdict::Malformed, udp4(|ip| ip.total_length = Some(0))),
        stack("v4 cut inside the header", Verdict::Malformed, udp4(|_| {})[..19].to_vec()),
        stack("v4 of one byte", Verdict::Malformed, vec![0x45]),
    ];
    // Both zeros of one's complement: only the first is ever computed (RFC 1624 3), and either is right.
    rows.push(fast("v4 checksum 0x0000", with_checksum(0)));
    rows.push(fast("v4 checksum 0xffff in place of 0x0000", {
        let mut bytes = with_checksum(0);
        bytes[10..12].fill(0xff);
        bytes
    }));
    // The checksum's own carries: it comes out as every value around zero.
    let names = ["v4 checksum 0xfffe", "v4 checksum 0xfeff", "v4 checksum 0x0001", "v4 checksum 0x0100"];
    let wanted = [0xfffe_u16, 0xfeff, 0x0001, 0x0100];
    rows.extend(names.into_iter().zip(wanted).map(|(name, wanted)| fast(name, with_checksum(wanted))));
    rows
}

/// A good packet whose header checksum is this, by choice of its identification: what makes the sum right.
fn with_checksum(wanted: u16) -> Vec<u8> {
    let mut bytes = udp4(|ip| ip.id = 0);
    bytes[10..12].copy_from_slice(&wanted.to_be_bytes());
    let id = relay_tests::packet::checksum(&bytes[..20]);
    let bytes = udp4(|ip| ip.id = id);
    assert_eq!(bytes[10..12], wanted.to_be_bytes());
    bytes
}

/// The same packet with its header checksum made right.
fn refresh(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[10..12].fill(0);
    let check = relay_tests::packet::checksum(&bytes[..20]);
    bytes[10..12].copy_from_slice(&check.to_be_bytes());
    bytes
}

fn addresses() -> Vec<Row> {
    let from = |name, verdict, source: [u8; 4]| stack(name, verdict, udp4(|ip| ip.source = source.into()));
    let to = |name, verdict, target: [u8; 4]| stack(name, verdict, udp4(|ip| ip.destination = target.into()));
    use Verdict::{Local, Martian, SamePeer, UnknownDestination, UnknownSource};
    vec![
        from("v4 from 0.0.0.0", Martian, [0, 0, 0, 0]),
        from("v4 from 0.1.2.3", Martian, [0, 1, 2, 3]),
        from("v4 from loopback", Martian, [127, 0, 0, 1]),
        from("v4 from link-local", Martian, [169, 254, 1, 1]),
        from("v4 from multicast", Martian, [224, 0, 0, 1]),
        from("v4 from class E", Martian, [240, 0, 0, 1]),
        from("v4 from limited broadcast", Martian, [255, 255, 255, 255]),
        to("v4 to 0.0.0.0", Martian, [0, 0, 0, 0]),
        to("v4 to loopback", Martian, [127, 0, 0, 1]),
        to("v4 to link-local", Martian, [169, 254, 1, 1]),
        to("v4 to multicast of this link", Martian, [224, 0, 0, 1]),
        to("v4 to multicast of the site", Martian, [239, 1, 2, 3]),
        to("v4 to class E", Martian, [240, 0, 0, 1]),
        to("v4 to limited broadcast", Martian, [255, 255, 255, 255]),
        to("v4 to the hub", Local, HUB.octets()),
        to("v4 to the subnet's broadcast", Local, [10, 9, 0, 255]),
        to("v4 to a hole in the LAN that is routed elsewhere", Local, [192, 168, 40, 70]),
        to("v4 to a hole in the LAN that is unreachable", Local, [192, 168, 40, 200]),
        to("v4 to the hub's uplink address", UnknownDestination, [198, 51, 100, 2]),
        to("v4 to the subnet's own number", UnknownDestination, [10, 9, 0, 0]),
        to("v4 to nobody in the subnet", UnknownDestination, [10, 9, 0, 77]),
        to("v4 to a peer without an endpoint", UnknownDestination, [192, 168, 50, 1]),
        to("v4 to the internet", UnknownDestination, [8, 8, 8, 8]),
        from("v4 from nobody in the subnet", UnknownSource, [10, 9, 0, 77]),
        from("v4 from the internet", UnknownSource, [8, 8, 8, 8]),
        from("v4 from the hub's own address", UnknownSource, HUB.octets()),
        from("v4 from the subnet's broadcast", UnknownSource, [10, 9, 0, 255]),
        stack("v4 home to its own LAN", SamePeer, Ipv4::new(HOME, NAS).carry(&udp(8))),
        stack("v4 home to itself", SamePeer, Ipv4::new(HOME, HOME).carry(&udp(8))),
        stack("v4 phone to itself", SamePeer, Ipv4::new(PHONE, PHONE).carry(&udp(8))),
        fast("v4 to the LAN's first address", udp4(|ip| ip.destination = [192, 168, 40, 0].into())),
        fast("v4 to the LAN's last address", udp4(|ip| ip.destination = [192, 168, 40, 255].into())),
        to("v4 to one address behind the LAN", UnknownDestination, [192, 168, 41, 0]),
    ]
}

fn sizes() -> Vec<Row> {
    let sized = |size, df| v4(|ip| ip.dont_fragment = df).carry(&udp(payload4(size)));
    let narrow = |size| v4(|ip| ip.destination = [192, 168, 40, 130].into()).carry(&udp(payload4(size)));
    vec![
        fast("v4 as long as the MTU with DF", sized(MTU, true)),
        fast("v4 as long as the MTU without DF", sized(MTU, false)),
        stack("v4 one byte too long with DF", Verdict::TooBig, sized(MTU + 1, true)),
        stack("v4 one byte too long without DF", Verdict::TooBig, sized(MTU + 1, false)),
        stack("v4 three fragments long", Verdict::TooBig, sized(3000, false)),
        stack("v4 far too long with DF", Verdict::TooBig, sized(9000, true)),
        stack("v4 too long and ttl 1", Verdict::TtlExpired, {
            v4(|ip| ip.ttl = 1).carry(&udp(payload4(MTU + 1)))
        }),
        stack("v4 as long as a narrower route's MTU", Verdict::Local, narrow(1300)),
        stack("v4 too long for a narrower route", Verdict::Local, narrow(1301)),
        stack("v4 too long for the hub", Verdict::Local, {
            v4(|ip| ip.destination = HUB).carry(&udp(payload4(MTU + 1)))
        }),
    ]
}

fn fragments() -> Vec<Row> {
    use Verdict::Fragment;
    let part = |id, offset, more, payload: usize| {
        v4(|ip| {
            (ip.id, ip.dont_fragment) = (id, false);
            (ip.fragment_offset, ip.more_fragments) = (offset, more);
        })
        .carry(&Transport::Raw(protocol::UDP, vec![1; payload]))
    };
    let whole = |name, parts: Vec<Vec<u8>>| Row {
        name,
        packets: parts.into_iter().map(Sent::from).collect(),
        path: Path::Stack(Fragment),
        fragments: false,
    };
    let mut rows = vec![
        whole(
            "v4 three fragments of one packet",
            vec![part(1, 0, true, 800), part(1, 100, true, 800), part(1, 200, false, 80)],
        ),
        // A hub that tracks connections has to see all of them, or it waits in vain for those that it does not.
        whole(
            "v4 fragments of one packet, the first too long",
            vec![part(2, 0, true, 1440), part(2, 180, false, 80)],
        ),
        whole(
            "v4 fragments of one packet, the last first",
            vec![part(3, 100, false, 80), part(3, 0, true, 800)],
        ),
    ];
    let parts = [
        stack("v4 first fragment", Fragment, part(4, 0, true, 800)),
        stack("v4 middle fragment", Fragment, part(5, 100, true, 800)),
        stack("v4 last fragment", Fragment, part(6, 200, false, 80)),
        stack("v4 last fragment of one byte", Fragment, part(7, 8000, false, 1)),
        stack("v4 fragment beyond 65,535 bytes", Fragment, part(8, 0x1fff, false, 100)),
        stack("v4 fragment too long", Fragment, part(9, 100, true, 2000)),
        stack("v4 fragment with ttl 1", Verdict::TtlExpired, {
            v4(|ip| (ip.ttl, ip.fragment_offset, ip.more_fragments) = (1, 100, true)).carry(&udp(8))
        }),
        stack("v4 first fragment with ttl 1", Verdict::TtlExpired, {
            v4(|ip| (ip.ttl, ip.more_fragments) = (1, true)).carry(&udp(8))
        }),
        stack("v4 fragment for the hub", Verdict::Local, {
            v4(|ip| (ip.destination, ip.more_fragments) = (HUB, true)).carry(&udp(8))
        }),
    ];
    rows.extend(parts.map(fragment));
    rows
}

fn icmp() -> Vec<Row> {
    let echo = |target| {
        v4(|ip| ip.destination = target).carry(&Transport::Icmp(8, 0, [0x12, 0x34, 0, 1], vec![5; 56]))
    };
    let about = |inner: Vec<u8>, kind, code, rest| {
        Ipv4::new(NAS, PHONE).carry(&Transport::Icmp(
            kind,
            code,
            rest,
            inner[..inner.len().min(548)].to_vec(),
        ))
    };
    let expiring = |transport: &Transport| v4(|ip| ip.ttl = 1).carry(transport);
    vec![
        fast("icmp echo request", echo(NAS)),
        fast(
            "icmp echo reply",
            Ipv4::new(NAS, PHONE).carry(&Transport::Icmp(0, 0, [0x12, 0x34, 0, 1], vec![5; 56])),
        ),
        fast("icmp port unreachable inside", about(udp4(|_| {}), 3, 3, [0; 4])),
        fast("icmp fragmentation needed inside", about(udp4(|_| {}), 3, 4, [0, 0, 5, 0])),
        fast("icmp time exceeded inside", about(udp4(|_| {}), 11, 0, [0; 4])),
        fast("icmp redirect inside", about(udp4(|_| {}), 5, 1, [10, 9, 0, 9])),
        fast("icmp with a wrong checksum", {
            let mut bytes = echo(NAS);
            bytes[22] ^= 1;
            bytes
        }),
        stack("icmp echo request to the hub", Verdict::Local, echo(HUB)),
        stack("icmp echo request to the broadcast", Verdict::Local, echo([10, 9, 0, 255].into())),
        stack("icmp echo request with ttl 1", Verdict::TtlExpired, {
            expiring(&Transport::Icmp(8, 0, [0, 1, 0, 2], vec![5; 56]))
        }),
        stack("icmp error with ttl 1, about which there is none", Verdict::TtlExpired, {
            expiring(&Transport::Icmp(3, 3, [0; 4], udp4(|_| {})[..28].to_vec()))
        }),
        stack(
            "icmp long packet with ttl 1, of which 576 bytes come back",
            Verdict::TtlExpired,
            expiring(&udp(1200)),
        ),
        stack("icmp error too long, about which there is none", Verdict::TooBig, {
            v4(|_| {}).carry(&Transport::Icmp(3, 3, [0; 4], vec![5; 2000]))
        }),
    ]
}
