//! Random packets from a seed: most of them nearly plain, each with a few things changed.

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_tests::{
    packet::{Ip as _, Ipv4, Ipv6, Tcp, Transport, checksum, protocol},
    tun::VnetHeader,
};

use crate::hub::{MTU, Sent};

/// `RELAY_SEED`, or the one that everybody has: a test says the same on every run, and who searches gives other seeds.
pub(crate) fn seed() -> u64 {
    const SEED: u64 = 1812;
    std::env::var("RELAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// So many packets.
pub(crate) fn packets(seed: u64, count: usize) -> Vec<Sent> {
    let mut random = Random(seed);
    (0..count).map(|_| if random.one_in(2) { v4(&mut random) } else { v6(&mut random) }).collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly the first half of a list, where the ordinary values stand.
    fn pick_ordinary<T: Copy>(&mut self, ordinary: &[T], odd: &[T]) -> T {
        if self.one_in(8) { self.pick(odd) } else { self.pick(ordinary) }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Addresses that the maps know, and others.
const KNOWN4: [[u8; 4]; 6] =
    [[10, 9, 0, 2], [10, 9, 0, 3], [192, 168, 40, 10], [192, 168, 40, 255], [10, 9, 0, 3], [10, 9, 0, 2]];
/// None that an `unreachable` route covers: IPv4 answers to those are rationed by time, without a switch (`ip_error`).
const OTHERS4: [[u8; 4]; 13] = [
    [10, 9, 0, 1],
    [10, 9, 0, 255],
    [10, 9, 0, 77],
    [192, 168, 40, 70],
    [192, 168, 50, 1],
    [8, 8, 8, 8],
    [127, 0, 0, 1],
    [0, 0, 0, 0],
    [224, 0, 0, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
    [169, 254, 9, 9],
    [198, 51, 100, 2],
];
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 255);
const KNOWN6: [&str; 4] = ["fd52:1a9::2", "fd52:1a9::3", "fd40:0:0:1::10", "fd52:1a9::3"];
const OTHERS6: [&str; 10] = [
    "fd52:1a9::1",
    "fd52:1a9::77",
    "fd40::dead",
    "2001:4860:4860::8888",
    "::1",
    "::",
    "ff02::1",
    "fe80::9",
    "::ffff:10.9.0.2",
    "2001:db8::2",
];

fn v4(random: &mut Random) -> Sent {
    let address = |random: &mut Random| Ipv4Addr::from(random.pick_ordinary(&KNOWN4, &OTHERS4));
    let mut ip = Ipv4::new(address(random), address(random));
    if ip.source == BROADCAST {
        // Answers to it go to all of the subnet, so the kernel hands the hub a copy: another packet for the program.
        ip.source = Ipv4Addr::BROADCAST;
    }
    ip.ttl = random.pick_ordinary(&[64, 63, 2, 255, 128], &[0, 1]);
    ip.tos = random.next() as u8;
    ip.id = random.next() as u16;
    ip.dont_fragment = !random.one_in(3);
    if random.one_in(12) {
        // Small offsets for other hosts only: what the hub itself collects would depend on what came before.
        (ip.more_fragments, ip.fragment_offset) = (random.one_in(2), random.pick(&[0, 0, 1, 100, 8191]));
    }
    if random.one_in(12) {
        let words = random.below(10) + 1;
        ip.options =
            random.pick(&[[1_u8, 1, 1, 1], [148, 4, 0, 0], [7, 4, 4, 0], [0x9e, 4, 9, 9]]).repeat(words);
    }
    if random.one_in(20) {
        ip.total_length = Some(random.below(200) as u16);
    }
    if random.one_in(20) {
        ip.checksum = Some(random.next() as u16);
    }
    let to_hub = is_hubs(ip.destination.into());
    let transport = transport(random, protocol::ICMP, to_hub);
    let mut bytes = ip.carry(&transport);
    if random.one_in(10) {
        damage(random, &mut bytes);
        if random.one_in(2) && bytes.len() >= 20 {
            bytes[10..12].fill(0);
            let check = checksum(&bytes[..20]);
            bytes[10..12].copy_from_slice(&check.to_be_bytes());
        }
    }
    finish(bytes)
}

fn v6(random: &mut Random) -> Sent {
    let address = |random: &mut Random| {
        random.pick_ordinary(&KNOWN6, &OTHERS6).parse::<Ipv6Addr>().expect("an address")
    };
    let mut ip = Ipv6::new(address(random), address(random));
    ip.hop_limit = random.pick_ordinary(&[64, 63, 2, 255, 128], &[0, 1]);
    ip.traffic_class = random.next() as u8;
    ip.flow_label = random.next() as u32 & 0xf_ffff;
    while random.one_in(8) {
        let kind = random.pick(&[protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION_OPTIONS, 44]);
        let extension = if kind == protocol::FRAGMENT {
            Ipv6::fragment(random.pick(&[0, 0, 1, 100]), random.one_in(2))
        } else {
            Ipv6::extension(kind)
        };
        ip.extensions.push(extension);
    }
    if random.one_in(20) {
        ip.payload_length = Some(random.below(200) as u16);
    }
    let to_hub = is_hubs(ip.destination.into());
    let transport = transport(random, protocol::ICMPV6, to_hub);
    let mut bytes = ip.carry(&transport);
    if random.one_in(10) {
        damage(random, &mut bytes);
    }
    finish(bytes)
}

fn is_hubs(address: std::net::IpAddr) -> bool {
    ["10.9.0.1", "198.51.100.2", "fd52:1a9::1", "2001:db8::2"].iter().any(|own| *own == address.to_string())
}

fn transport(random: &mut Random, icmp: u8, to_hub: bool) -> Transport {
    let size = match random.below(10) {
        // Around the MTU, whatever the headers take.
        0 => usize::from(MTU) - 80 + random.below(100),
        1 => random.below(4000),
        _ => random.below(200),
    };
    match random.below(6) {
        0 | 1 => Transport::Udp(random.next() as u16, random.next() as u16, random.bytes(size)),
        2 | 3 => Transport::Tcp(tcp(random, size)),
        // An echo: other messages to the hub may be answered with the time, or change what it believes.
        4 if to_hub => {
            Transport::Icmp(if icmp == protocol::ICMP { 8 } else { 128 }, 0, [1; 4], random.bytes(size))
        }
        4 => Transport::Icmp(random.next() as u8, random.next() as u8 & 0xf, [0; 4], random.bytes(size)),
        _ => Transport::Raw(random.next() as u8, random.bytes(size)),
    }
}

fn tcp(random: &mut Random, size: usize) -> Tcp {
    let mut tcp = Tcp::new(random.pick_ordinary(&[0x10, 0x18, 0x02, 0x12, 0xc2], &[0x03, 0x06, 0x00, 0xff]));
    tcp.payload = random.bytes(size);
    if random.one_in(2) {
        tcp.options = Tcp::syn(random.pick(&[1460, 1381, 1380, 1360, 1300, 65535])).options;
    }
    if random.one_in(6) {
        tcp.options = random.pick(&[[1_u8, 1, 1, 1], [2, 4, 5, 180], [4, 2, 1, 1], [2, 6, 5, 180]]).repeat(2);
    }
    if random.one_in(12) {
        tcp.data_offset = Some(random.next() as u8 & 0xf);
    }
    tcp
}

/// Cuts, lengthens, or changes some bytes behind the first, which tells the device what the packet is.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(4) {
        0 => bytes.truncate(1 + random.below(bytes.len())),
        1 => bytes.extend(vec![0; 1 + random.below(20)]),
        _ => {
            for _ in 0..=random.below(3) {
                // The addresses stay, so that nothing reaches the hub by chance and changes what it believes.
                let at = random.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
                if at < bytes.len() {
                    bytes[at] = random.next() as u8;
                }
            }
        }
    }
}

fn finish(bytes: Vec<u8>) -> Sent {
    Sent { header: VnetHeader::default(), bytes }
}
