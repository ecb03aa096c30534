//! What is not for the port is left alone.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use relay_common::UplinkVerdict;
use relay_tests::{
    packet::{Ip, Ipv4, Ipv6, Tcp, Transport, flag, protocol},
    uplink::{Guard, HERE, PORT, THERE, datagram, ethernet, frame, framed, mapped},
};

use super::{guard, there};

/// No message of WireGuard, to be dropped wherever it is judged.
const JUNK: &[u8] = b"GET / HTTP/1.1\r\n";

fn v4() -> Ipv4 {
    Ipv4::new(THERE[0].parse().expect("an address"), HERE[0].parse().expect("an address"))
}

fn v6() -> Ipv6 {
    Ipv6::new(THERE[1].parse().expect("an address"), HERE[1].parse().expect("an address"))
}

fn junk() -> Transport {
    Transport::Udp(40_000, PORT, JUNK.to_vec())
}

fn expect(frames: impl IntoIterator<Item = (&'static str, Vec<u8>)>, verdict: UplinkVerdict) -> Result<()> {
    let mut guard = guard()?;
    for (what, frame) in frames {
        let found = guard.judge(&frame)?;
        ensure!(found == verdict, "{what}: {found:?}, expected {verdict:?}");
    }
    Ok(())
}

#[test]
fn other_protocols_ports_and_addresses_are_not_ours() -> Result<()> {
    let to = |address: &str, port| SocketAddr::new(address.parse().expect("an address"), port);
    let tcp = || Tcp { destination: PORT, ..Tcp::new(flag::SYN) };
    let tagged = |ether_type: u16, packet: Vec<u8>| {
        framed(0x8100, &[&[0x00, 0x07][..], &ether_type.to_be_bytes(), &packet].concat())
    };
    let arp = framed(0x0806, &[0; 28]);
    expect(
        [
            ("v4 TCP", ethernet(&v4(), &Transport::Tcp(tcp()))),
            ("v6 TCP", ethernet(&v6(), &Transport::Tcp(tcp()))),
            ("v4 ICMP", ethernet(&v4(), &Transport::Icmp(8, 0, [0; 4], JUNK.to_vec()))),
            ("v6 ICMP", ethernet(&v6(), &Transport::Icmp(128, 0, [0; 4], JUNK.to_vec()))),
            ("v4 ESP", ethernet(&v4(), &Transport::Raw(protocol::ESP, JUNK.to_vec()))),
            ("v4 port", frame(to(THERE[0], PORT), to(HERE[0], PORT + 1), JUNK)),
            ("v6 port", frame(to(THERE[1], PORT), to(HERE[1], PORT - 1), JUNK)),
            ("v4 port swapped", frame(to(THERE[0], 1), to(HERE[0], PORT.swap_bytes()), JUNK)),
            ("v4 address", frame(to(THERE[0], 1), to("198.51.100.2", PORT), JUNK)),
            ("v6 address", frame(to(THERE[1], 1), to("2001:db8:51::2", PORT), JUNK)),
            ("v4 VLAN", tagged(0x0800, v4().carry(&junk()))),
            ("v6 VLAN", tagged(0x86dd, v6().carry(&junk()))),
            ("ARP", arp),
            ("nothing", framed(0x0800, &[])),
            ("v4 cut in its header", framed(0x0800, &v4().carry(&junk())[..19])),
            ("v4 cut in UDP", framed(0x0800, &v4().carry(&junk())[..27])),
            ("v6 cut in its header", framed(0x86dd, &v6().carry(&junk())[..39])),
            ("v6 cut in UDP", framed(0x86dd, &v6().carry(&junk())[..47])),
        ],
        UplinkVerdict::NotOurs,
    )
}

#[test]
fn a_guard_without_a_port_watches_nothing() -> Result<()> {
    let mut guard = guard()?;
    for from in there() {
        ensure!(guard.knock(from, JUNK)? == UplinkVerdict::UnknownType);
    }
    guard.settings.port = 0;
    guard.apply()?;
    for from in there() {
        ensure!(guard.knock(from, JUNK)? == UplinkVerdict::NotOurs);
        let zero = frame(SocketAddr::new(from, 1), SocketAddr::new(here(from), 0), JUNK);
        ensure!(guard.judge(&zero)? == UplinkVerdict::NotOurs, "port 0 is nobody's");
    }
    Ok(())
}

fn here(from: IpAddr) -> IpAddr {
    HERE[usize::from(from.is_ipv6())].parse().expect("an address")
}

#[test]
fn fragments_are_the_stacks() -> Result<()> {
    let mut last = v6();
    last.extensions = vec![Ipv6::fragment(3, false)];
    let mut first = v6();
    first.extensions = vec![Ipv6::fragment(0, true)];
    expect(
        [
            ("v4 first", ethernet(&Ipv4 { more_fragments: true, ..v4() }, &junk())),
            ("v4 last", ethernet(&Ipv4 { fragment_offset: 185, ..v4() }, &junk())),
            ("v6 first", ethernet(&first, &junk())),
            ("v6 last", ethernet(&last, &junk())),
        ],
        UplinkVerdict::Fragment,
    )
}

/// What most comes to need not be looked up, and what is no address at all is not taken for it.
#[test]
fn an_address_that_is_usual_is_ours() -> Result<()> {
    let mut guard = guard()?;
    let to = |guard: &mut Guard, address: &str| -> Result<UplinkVerdict> {
        let to = SocketAddr::new(address.parse()?, PORT);
        let from = SocketAddr::new(THERE[usize::from(to.is_ipv6())].parse()?, 40_000);
        guard.judge(&frame(from, to, JUNK))
    };
    let usual = ["198.51.100.77", "2001:db8:51::77"];
    for address in usual.into_iter().chain(["::", "0.0.0.0"]) {
        ensure!(to(&mut guard, address)? == UplinkVerdict::NotOurs, "{address}");
    }
    guard.settings.usual = usual.map(|address| bytemuck::cast(mapped(address.parse().expect("an address"))));
    guard.apply()?;
    for address in usual.into_iter().chain(HERE) {
        ensure!(to(&mut guard, address)? == UplinkVerdict::UnknownType, "{address}");
    }
    ensure!(to(&mut guard, "198.51.100.78")? == UplinkVerdict::NotOurs);
    ensure!(to(&mut guard, "2001:db8:51::78")? == UplinkVerdict::NotOurs);
    Ok(())
}

#[test]
fn what_is_odd_is_the_stacks() -> Result<()> {
    let cut = |bytes: usize| {
        let packet = v4().carry(&Transport::Udp(1, PORT, [1, 0, 0, 0].repeat(37)));
        framed(0x0800, &packet[..packet.len() - bytes])
    };
    expect(
        [
            ("v4 options", ethernet(&Ipv4 { options: vec![1; 4], ..v4() }, &junk())),
            ("v4 of another version", ethernet(&Ipv4 { version_ihl: Some(0x65), ..v4() }, &junk())),
            ("v6 of another version", ethernet(&Ipv6 { version: 4, ..v6() }, &junk())),
            ("v4 shorter than its header", ethernet(&Ipv4 { total_length: Some(19), ..v4() }, &junk())),
            ("cut by one byte in mac1", cut(17)),
            ("cut behind its length", cut(144)),
            ("cut in its type", cut(146)),
        ],
        UplinkVerdict::Odd,
    )
}

#[test]
fn headers_in_front_of_udp_are_not_looked_behind() -> Result<()> {
    let behind = |extension| Ipv6 { extensions: vec![extension], ..v6() };
    let frames = [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION_OPTIONS]
        .map(|kind| ("v6 extension", ethernet(&behind(Ipv6::extension(kind)), &junk())));
    expect(frames, UplinkVerdict::NotOurs)
}

#[test]
fn bytes_behind_the_packet_do_not_count() -> Result<()> {
    let mut guard = guard()?;
    let mut payload = vec![0; 32];
    payload[0] = 4;
    for from in there() {
        let mut frame = datagram(from, &payload);
        frame.extend([0xaa; 18]);
        ensure!(guard.judge(&frame)? == UplinkVerdict::Data, "from {from}");
    }
    Ok(())
}
