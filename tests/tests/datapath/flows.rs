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
        let ends4 = [word(PHONE4, NAS4)];
        let ends6 = [PHONE6, HOME6].map(|address| word(&address.octets()[8..], []));
        let udp = |from| Transport::Udp(from, 80, vec![1; 64]);
        let tcp = Transport::Tcp(Tcp { payload: vec![7; 900], ..Tcp::new(flag::ACK) });
        let ping = Transport::Icmp(8, 0, [0, 9, 0, 1], vec![2; 56]);
        let other = Transport::Raw(protocol::ESP, vec![3; 64]);
        let both = [
            ("UDP", udp(40_000), ports(protocol::UDP, 40_000, 80)),
            ("UDP of another port", udp(40_001), ports(protocol::UDP, 40_001, 80)),
            ("TCP of the same ports", tcp, ports(protocol::TCP, 40_000, 80)),
            ("another protocol", other, ports(protocol::ESP, 0, 0)),
        ];
        for (what, transport, ports) in &both {
            each_has(flow::hash(ends4, *ports), &mut tunnel, &v4, transport)
                .with_context(|| format!("IPv4, {what}"))?;
            each_has(flow::hash(ends6, *ports), &mut tunnel, &Ipv6::new(PHONE6, HOME6), transport)
                .with_context(|| format!("IPv6, {what}"))?;
        }
        let pings = flow::hash(ends4, ports(protocol::ICMP, 0, 0));
        each_has(pings, &mut tunnel, &v4, &ping).context("a ping")?;
        // The filter does look: what has another hash than it was told of is dropped.
        only(!pings)?;
        tunnel.send(&v4.carry(&ping))?;
        let dropped = output("tc -s qdisc show dev wg0 clsact")?;
        ensure!(dropped.contains("dropped 1,"), "{dropped}");
        Ok(())
    });
}

/// Packets of one flow go out, with that hash. What differs between them is no part of it.
fn each_has(hash: u32, tunnel: &mut Tun, ip: &impl Ip, transport: &Transport) -> Result<()> {
    only(hash)?;
    for ip in [ip.clone(), ip.with_hops(9), ip.with_class(0xb8)] {
        let packet = ip.carry(transport);
        tunnel.send(&packet)?;
        let (_, arrived) = tunnel.receive()?;
        ensure!(arrived.len() == packet.len(), "{} bytes arrived of {}", arrived.len(), packet.len());
    }
    Ok(())
}
