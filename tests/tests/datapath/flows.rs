//! The hash of its flow that a forwarded packet has on its way out, looked at by a filter of the kernel's own.

use std::net::Ipv6Addr;

use relay_common::flow;
use relay_tests::{
    netns::checked,
    packet::{Ip, Ipv4, Ipv6, Tcp, Transport, flag, protocol},
};

use super::*;

const PHONE4: [u8; 4] = [10, 9, 0, 3];
const NAS4: [u8; 4] = [192, 168, 40, 10];
const PHONE6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0, 0, 0, 0, 1, 0, 3);
const HOME6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0, 0, 0, 0xcafe, 0, 0, 2);

/// Drops what leaves wg0 with another hash than this one.
fn only(hash: u32) -> Result<()> {
    /// `SKF_AD_OFF + SKF_AD_RXHASH` (include/uapi/linux/filter.h): where classic BPF finds a packet's hash.
    const HASH: u32 = (-0x1000_i32 + 32).cast_unsigned();
    // Load it; if it is this one, TC_ACT_OK, else TC_ACT_SHOT.
    let code = format!("4,32 0 0 {HASH},21 0 1 {hash},6 0 0 0,6 0 0 2");
    let filter = "filter replace dev wg0 egress pref 1 handle 1 bpf direct-action bytecode";
    checked(Command::new("tc").args(filter.split(' ')).arg(code)).map(drop)
}

/// Eight bytes as one word.
fn word(high: impl AsRef<[u8]>, low: impl AsRef<[u8]>) -> u64 {
    let bytes = [high.as_ref(), low.as_ref()].concat();
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn ports(protocol: u8, from: u16, to: u16) -> u64 {
    word([protocol, 0, 0, 0], [from.to_be_bytes(), to.to_be_bytes()].concat())
}

fn tcp(source: u16, destination: u16) -> Transport {
    let (options, payload) = (Vec::new(), vec![7; 900]);
    let flags = flag::ACK;
    let (data_offset, checksum_offloaded) = (None, false);
    Transport::Tcp(Tcp {
        source,
        destination,
        sequence: 1,
        flags,
        options,
        payload,
        data_offset,
        checksum_offloaded,
    })
}

#[test]
fn a_packet_has_the_hash_of_its_flow() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, hook)?.maps;
        let ways = [(PHONE6, 0), (HOME6, 1)];
        maps.apply(&ways.map(|(address, slot)| MapChange::SetHost(address.into(), Route::peer(slot))))?;
        if hook == Hook::Tcx {
            run("tc qdisc add dev wg0 clsact")?;
        }
        let v4 = Ipv4::new(PHONE4.into(), NAS4.into());
        let v6 = Ipv6::new(PHONE6, HOME6);
        let (ends4, ends6) =
            ([word(PHONE4, NAS4)], [word(&PHONE6.octets()[8..], []), word(&HOME6.octets()[8..], [])]);
        let udp = |from, to| Transport::Udp(from, to, vec![1; 64]);
        let ping = Transport::Icmp(8, 0, [0, 9, 0, 1], vec![2; 56]);
        let other = Transport::Raw(protocol::ESP, vec![3; 64]);
        let rows4 = [
            ("UDP", udp(40_000, 80), ports(protocol::UDP, 40_000, 80)),
            ("UDP of another port", udp(40_001, 80), ports(protocol::UDP, 40_001, 80)),
            ("TCP of the same ports", tcp(40_000, 80), ports(protocol::TCP, 40_000, 80)),
            ("a ping", ping.clone(), ports(protocol::ICMP, 0, 0)),
            ("another protocol", other.clone(), ports(protocol::ESP, 0, 0)),
        ];
        for (what, transport, ports) in rows4 {
            only(flow::hash(ends4, ports))?;
            // What differs between packets of one flow is no part of it.
            for ip in [v4.clone(), v4.with_hops(9), v4.with_class(0xb8)] {
                arrives(&mut tunnel, &ip.carry(&transport)).with_context(|| format!("IPv4, {what}"))?;
            }
        }
        let rows6 = [
            ("UDP", udp(40_000, 80), ports(protocol::UDP, 40_000, 80)),
            ("TCP", tcp(40_000, 80), ports(protocol::TCP, 40_000, 80)),
            ("another protocol", other, ports(protocol::ESP, 0, 0)),
        ];
        for (what, transport, ports) in rows6 {
            only(flow::hash(ends6, ports))?;
            for ip in [v6.clone(), v6.with_hops(9), v6.with_class(0xb8)] {
                arrives(&mut tunnel, &ip.carry(&transport)).with_context(|| format!("IPv6, {what}"))?;
            }
        }
        // The filter does look: what has another hash than it was told of is dropped.
        only(!flow::hash(ends4, ports(protocol::ICMP, 0, 0)))?;
        tunnel.send(&v4.carry(&ping))?;
        let dropped = output("tc -s qdisc show dev wg0 clsact")?;
        ensure!(dropped.contains("dropped 1,"), "{dropped}");
        Ok(())
    });
}

fn arrives(tunnel: &mut Tun, packet: &[u8]) -> Result<()> {
    tunnel.send(packet)?;
    let (_, arrived) = tunnel.receive()?;
    ensure!(arrived.len() == packet.len(), "{} bytes arrived of {}", arrived.len(), packet.len());
    Ok(())
}
