//! The named packets, each with the path that it must take.

mod gso;
mod tcp;
mod v4;
mod v6;

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_common::Verdict;
use relay_tests::packet::{Ip as _, Ipv4, Ipv6, Transport};

use crate::hub::{MTU, Sent};

/// The path that a row must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Redirected by the program, past the kernel's forwarding.
    Fast,
    /// Handed to the kernel for this reason.
    Stack(Verdict),
}

/// Packets sent one after the other, all on the same path.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What is special about it.
    pub(crate) name: &'static str,
    /// What is sent.
    pub(crate) packets: Vec<Sent>,
    /// The path of each.
    pub(crate) path: Path,
    /// Whether they are fragments, without the others of their packet.
    pub(crate) fragments: bool,
}

/// Every row.
pub(crate) fn all() -> Vec<Row> {
    [v4::rows(), v6::rows(), tcp::rows(), gso::rows()].concat()
}

const PHONE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
const HOME: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const NAS: Ipv4Addr = Ipv4Addr::new(192, 168, 40, 10);
const HUB: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

const PHONE6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 3);
const HOME6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 2);
const NAS6: Ipv6Addr = Ipv6Addr::new(0xfd40, 0, 0, 1, 0, 0, 0, 0x10);
const HUB6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 1);

fn fast(name: &'static str, packet: impl Into<Sent>) -> Row {
    Row { name, packets: vec![packet.into()], path: Path::Fast, fragments: false }
}

fn stack(name: &'static str, verdict: Verdict, packet: impl Into<Sent>) -> Row {
    Row { name, packets: vec![packet.into()], path: Path::Stack(verdict), fragments: false }
}

fn fragment(row: Row) -> Row {
    Row { fragments: true, ..row }
}

/// IPv4 from the phone to the NAS, after some changes to an ordinary header.
fn v4(change: impl FnOnce(&mut Ipv4)) -> Ipv4 {
    let mut ip = Ipv4::new(PHONE, NAS);
    change(&mut ip);
    ip
}

/// IPv6 from the phone to the NAS, after some changes to an ordinary header.
fn v6(change: impl FnOnce(&mut Ipv6)) -> Ipv6 {
    let mut ip = Ipv6::new(PHONE6, NAS6);
    change(&mut ip);
    ip
}

fn udp(payload: usize) -> Transport {
    Transport::Udp(40_000, 53, (0..payload).map(|at| at as u8).collect())
}

fn udp4(change: impl FnOnce(&mut Ipv4)) -> Vec<u8> {
    v4(change).carry(&udp(32))
}

fn udp6(change: impl FnOnce(&mut Ipv6)) -> Vec<u8> {
    v6(change).carry(&udp(32))
}

/// How much UDP carries in an IPv4 packet of this size.
const fn payload4(size: u16) -> usize {
    size as usize - 28
}

/// How much UDP carries in an IPv6 packet of this size.
const fn payload6(size: u16) -> usize {
    size as usize - 48
}
