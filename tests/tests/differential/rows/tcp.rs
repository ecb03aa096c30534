//! TCP's SYNs: their MSS must come out as the stack's rule would have it.

use relay_tests::{
    packet::{Tcp, flag},
    tun::VnetHeader,
};

use super::*;

/// What the rule makes of an MSS that is too large: the MTU less two headers.
const LIMIT4: u16 = MTU - 40;
const LIMIT6: u16 = MTU - 60;

pub(super) fn rows() -> Vec<Row> {
    let tcp4 = |tcp| v4(|_| {}).carry(&Transport::Tcp(tcp));
    let tcp6 = |tcp| v6(|_| {}).carry(&Transport::Tcp(tcp));
    let options = |flags, options: &[u8]| Tcp { options: options.to_vec(), ..Tcp::new(flags) };
    let syn = |options_: &[u8]| options(flag::SYN, options_);
    let flagged = |flags, mss| Tcp { flags, ..Tcp::syn(mss) };
    let (ece, cwr) = (0x40, 0x80);
    let mut rows = vec![
        fast("syn mss 1460", tcp4(Tcp::syn(1460))),
        fast("syn mss one too large", tcp4(Tcp::syn(LIMIT4 + 1))),
        fast("syn mss just right", tcp4(Tcp::syn(LIMIT4))),
        fast("syn mss 1300", tcp4(Tcp::syn(1300))),
        fast("syn mss 536", tcp4(Tcp::syn(536))),
        fast("syn mss 0", tcp4(Tcp::syn(0))),
        fast("syn mss 1", tcp4(Tcp::syn(1))),
        fast("syn mss 65535", tcp4(Tcp::syn(65535))),
        fast("syn mss alone", tcp4(syn(&[2, 4, 5, 180]))),
        fast("syn without options", tcp4(Tcp::new(flag::SYN))),
        fast("syn with data", tcp4(Tcp { payload: vec![3; 99], ..Tcp::syn(1460) })),
        fast("syn with two MSS options, of which the first counts", tcp4(syn(&[2, 4, 5, 180, 2, 4, 5, 180]))),
        fast("syn+ack mss 1460", tcp4(flagged(flag::SYN | flag::ACK, 1460))),
        fast("syn with ecn", tcp4(flagged(flag::SYN | ece | cwr, 1460))),
        fast("syn with the ecn nonce's bit, and reserved ones", {
            let mut bytes = tcp4(Tcp::syn(1460));
            bytes[32] |= 0x0f;
            bytes
        }),
        fast("syn+psh", tcp4(flagged(flag::SYN | flag::PSH, 1460))),
        fast("ack with something like an MSS", tcp4(options(flag::ACK, &[2, 4, 5, 180]))),
        fast("fin", tcp4(Tcp::new(flag::FIN | flag::ACK))),
        fast("rst", tcp4(Tcp::new(flag::RST))),
        fast("no flags", tcp4(Tcp::new(0))),
        fast("syn from the LAN", Ipv4::new(NAS, PHONE).carry(&Transport::Tcp(Tcp::syn(1460)))),
        fast("syn with ttl 2", v4(|ip| ip.ttl = 2).carry(&Transport::Tcp(Tcp::syn(1460)))),
        stack("syn mss second", Verdict::Mss, tcp4(syn(&[1, 1, 1, 1, 2, 4, 5, 180]))),
        stack("syn mss at an odd place", Verdict::Mss, tcp4(syn(&[1, 2, 4, 5, 180, 0, 0, 0]))),
        stack(
            "syn mss after timestamps",
            Verdict::Mss,
            tcp4(syn(&[8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 4, 5, 180, 0])),
        ),
        stack("syn without mss, with other options", Verdict::Mss, tcp4(syn(&[4, 2, 1, 1]))),
        stack("syn mss option of a wrong length", Verdict::Mss, tcp4(syn(&[2, 6, 5, 180, 0, 0, 0, 0]))),
        stack("syn option of length 0", Verdict::Mss, tcp4(syn(&[9, 0, 5, 180]))),
        stack("syn end of options, then mss", Verdict::Mss, tcp4(syn(&[0, 0, 0, 0, 2, 4, 5, 180]))),
        stack("syn+fin", Verdict::Mss, tcp4(flagged(flag::SYN | flag::FIN, 1460))),
        stack("syn+rst", Verdict::Mss, tcp4(flagged(flag::SYN | flag::RST, 1460))),
        stack("syn whose header ends behind the packet", Verdict::Malformed, {
            tcp4(Tcp { data_offset: Some(15), ..Tcp::syn(1460) })
        }),
        stack("syn whose header is too short", Verdict::Malformed, {
            tcp4(Tcp { data_offset: Some(4), ..Tcp::syn(1460) })
        }),
        stack("syn for the hub", Verdict::Local, {
            v4(|ip| ip.destination = HUB).carry(&Transport::Tcp(Tcp::syn(1460)))
        }),
        stack("tcp cut inside its header", Verdict::Malformed, {
            v4(|_| {}).carry(&Transport::Raw(6, vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1]))
        }),
        fast("v6 syn mss 1460", tcp6(Tcp::syn(1460))),
        fast("v6 syn mss one too large", tcp6(Tcp::syn(LIMIT6 + 1))),
        fast("v6 syn mss just right", tcp6(Tcp::syn(LIMIT6))),
        fast("v6 syn mss 1220", tcp6(Tcp::syn(1220))),
        fast("v6 syn without options", tcp6(Tcp::new(flag::SYN))),
        fast("v6 syn+ack", tcp6(flagged(flag::SYN | flag::ACK, 1460))),
        stack("v6 syn mss second", Verdict::Mss, tcp6(syn(&[1, 1, 1, 1, 2, 4, 5, 180]))),
        stack("v6 syn+fin", Verdict::Mss, tcp6(flagged(flag::SYN | flag::FIN, 1460))),
        stack("v6 tcp cut inside its header", Verdict::Malformed, {
            v6(|_| {}).carry(&Transport::Raw(6, vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1]))
        }),
    ];
    rows.extend(
        [
            stack("syn in a first fragment", Verdict::Fragment, {
                v4(|ip| (ip.dont_fragment, ip.more_fragments) = (false, true))
                    .carry(&Transport::Tcp(Tcp::syn(1460)))
            }),
            stack("no syn in a first fragment", Verdict::Fragment, {
                v4(|ip| (ip.dont_fragment, ip.more_fragments) = (false, true))
                    .carry(&Transport::Tcp(Tcp { payload: vec![1; 4], ..Tcp::new(flag::ACK) }))
            }),
            stack("what looks like a syn in a later fragment", Verdict::Fragment, {
                v4(|ip| (ip.dont_fragment, ip.fragment_offset) = (false, 90))
                    .carry(&Transport::Tcp(Tcp::syn(1460)))
            }),
        ]
        .map(fragment),
    );
    rows.extend(unfinished_checksums());
    rows
}

/// SYNs of a neighbour that left the checksum to the device (CHECKSUM_PARTIAL): the field holds a part of the sum.
fn unfinished_checksums() -> Vec<Row> {
    let header = |start| VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        checksum_start: start,
        checksum_offset: 16,
        ..VnetHeader::default()
    };
    let tcp = |mss| Transport::Tcp(Tcp { checksum_offloaded: true, ..Tcp::syn(mss) });
    let four = |mss| Sent { header: header(20), bytes: v4(|_| {}).carry(&tcp(mss)) };
    let six = |mss| Sent { header: header(40), bytes: v6(|_| {}).carry(&tcp(mss)) };
    vec![
        fast("syn mss 1460 with an unfinished checksum", four(1460)),
        fast("syn mss 1300 with an unfinished checksum", four(1300)),
        fast("v6 syn mss 1460 with an unfinished checksum", six(1460)),
        fast("v6 syn mss 1300 with an unfinished checksum", six(1300)),
    ]
}
