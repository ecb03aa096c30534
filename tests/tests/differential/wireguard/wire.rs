//! The far ends of the hub's tunnel: packets go in at the phone's or the home's WireGuard, and what comes out of either is
//! read. WireGuard works in queues, but keeps the order for each peer: behind the packets of a case follow sentinels,
//! and once they have all come, whatever the case caused has come before them.
//!
//! The hub must not redirect a sentinel. The kernel hands up to eight packets that have come together (`gro_normal_batch`)
//! to the program, one after the other, before the stack sees the first of them: what is redirected overtakes what is not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use relay_common::Verdict;
use relay_tests::{
    guest::patience,
    packet::{Ip as _, Ipv4, Transport, protocol},
    packet_socket::PacketSocket,
    tun::VnetHeader,
};

use super::carried::{Refusal, Spoke, carry, sender};
use crate::hub::{FastPath, Observation, Out, Sent};

/// How long a sentinel may be on its way, the first handshake included. Measured: at most
/// 0.4 s, in one guest among others.
const DEADLINE: Duration = Duration::from_secs(10);

const PHONE: [u8; 4] = [10, 9, 0, 3];
const HOME: [u8; 4] = [10, 9, 0, 2];
const HUB: [u8; 4] = [10, 9, 0, 1];

/// Both far ends.
pub(crate) struct Wire {
    phone: PacketSocket,
    home: PacketSocket,
    /// How many times sentinels follow a case. Where a hub merges segments, it holds them back until it has looked at
    /// all that came with them: the first sentinels overtake them there, and the second do not.
    rounds: u64,
    number: u64,
}

/// A numbered packet that says where it has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sentinel {
    /// From this spoke to the other one, by UDP and with an IP option: behind whatever the hub forwards.
    Crosses(Spoke),
    /// From this spoke to the hub and back, by ping: behind whatever the hub answers.
    Returns(Spoke),
}

impl Wire {
    pub(crate) fn new(phone: PacketSocket, home: PacketSocket, merging: bool) -> Self {
        Self { phone, home, rounds: if merging { 2 } else { 1 }, number: 0 }
    }

    /// Lets both spokes shake hands with the hub, one after the other.
    pub(crate) fn greet(&mut self) -> Result<()> {
        for spoke in [Spoke::Phone, Spoke::Home] {
            let nothing =
                self.round(&[Sentinel::Returns(spoke)]).with_context(|| format!("greeting of {spoke:?}"))?;
            ensure!(nothing.is_empty(), "something came before the greeting's answer: {nothing:?}");
        }
        Ok(())
    }

    /// Sends the packets of a case, each from the spoke whose it is, and returns what came out at the phone and at home.
    pub(crate) fn pass(&mut self, case: &[Sent]) -> Result<Vec<Out>> {
        for sent in case {
            let refused = match self.socket(sender(sent)).send(sent.header, &sent.bytes) {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => true,
                Err(error) => return Err(error).context("sending a packet by WireGuard"),
            };
            let expected = carry(sent) == Err(Refusal::NoHeader);
            ensure!(refused == expected, "that WireGuard refuses to send it is {refused}, not {expected}");
        }
        let sentinels = Sentinel::behind(case);
        let mut out = Vec::new();
        for _ in 0..self.rounds {
            out.extend(self.round(&sentinels)?);
        }
        // What came to one of them, in its order.
        out.sort_by_key(|out| out.device);
        Ok(out)
    }

    /// Takes what the sentinels of a case moved out of the hub's counters.
    pub(crate) fn without_sentinels(
        &self,
        case: &[Sent],
        mut seen: Observation,
        fast_path: FastPath,
    ) -> Result<Observation> {
        // As many cross as return.
        let each = self.rounds * Sentinel::behind(case).len() as u64 / 2;
        let moved: &[(Verdict, u64)] = match fast_path {
            FastPath::Absent => &[],
            FastPath::Off => &[(Verdict::Off, 2 * each)],
            FastPath::On => &[(Verdict::Options, each), (Verdict::Local, each)],
        };
        let counts = moved.iter().map(|(verdict, by)| (*verdict as usize, *by));
        for (at, by) in counts {
            let count = &mut seen.verdicts[at];
            *count = count.checked_sub(by).context("the program did not count the sentinels")?;
        }
        let forwarded = seen.forwarded.checked_sub(each);
        seen.forwarded = forwarded.context("the kernel did not count the sentinels")?;
        Ok(seen)
    }

    fn socket(&self, spoke: Spoke) -> &PacketSocket {
        match spoke {
            Spoke::Phone => &self.phone,
            Spoke::Home => &self.home,
        }
    }

    /// Sends sentinels, and reads until the last of them has come.
    fn round(&mut self, sentinels: &[Sentinel]) -> Result<Vec<Out>> {
        self.number += 1;
        let number = self.number;
        for sentinel in sentinels {
            let sent = self.socket(sentinel.sender()).send(VnetHeader::default(), &sentinel.packet(number));
            sent.with_context(|| format!("sending {sentinel:?}"))?;
        }
        let end = Instant::now() + patience(DEADLINE);
        let mut out = Vec::new();
        for (device, spoke) in [("phone", Spoke::Phone), ("home", Spoke::Home)] {
            let mut missing: Vec<Sentinel> =
                sentinels.iter().copied().filter(|s| s.receiver() == spoke).collect();
            while !missing.is_empty() {
                let (header, bytes) = self.socket(spoke).receive(end).with_context(|| {
                    format!("{missing:?} with number {number} do not come; before: {out:?}")
                })?;
                match Sentinel::read(spoke, &bytes) {
                    Some((sentinel, found)) if found == number => missing.retain(|other| *other != sentinel),
                    Some(late) => bail!("sentinel {late:?} came after those with number {number} were sent"),
                    None => out.push(Out { device, header: finished(header)?, bytes }),
                }
            }
        }
        Ok(out)
    }
}

/// WireGuard has decrypted it, so nothing is left to be done about its checksum; and it is not merged.
fn finished(header: VnetHeader) -> Result<VnetHeader> {
    /// VIRTIO_NET_HDR_F_DATA_VALID, include/uapi/linux/virtio_net.h.
    const VALID: u8 = 2;
    let plain = VnetHeader::default();
    ensure!(VnetHeader { flags: header.flags & !VALID, ..header } == plain, "a spoke received {header:?}");
    Ok(plain)
}

impl Sentinel {
    const MARK: [u8; 8] = *b"sentinel";

    /// Those for the spokes that have sent something; for both, if nobody has.
    fn behind(case: &[Sent]) -> Vec<Self> {
        let has_sent = |spoke| case.is_empty() || case.iter().any(|sent| sender(sent) == spoke);
        let spokes = [Spoke::Phone, Spoke::Home].into_iter().filter(|spoke| has_sent(*spoke));
        spokes.flat_map(|spoke| [Self::Crosses(spoke), Self::Returns(spoke)]).collect()
    }

    fn sender(self) -> Spoke {
        match self {
            Self::Crosses(from) | Self::Returns(from) => from,
        }
    }

    fn receiver(self) -> Spoke {
        match self {
            Self::Crosses(Spoke::Phone) | Self::Returns(Spoke::Home) => Spoke::Home,
            Self::Crosses(Spoke::Home) | Self::Returns(Spoke::Phone) => Spoke::Phone,
        }
    }

    fn packet(self, number: u64) -> Vec<u8> {
        let payload = [Self::MARK, number.to_be_bytes()].concat();
        let (own, other) = match self.sender() {
            Spoke::Phone => (PHONE, HOME),
            Spoke::Home => (HOME, PHONE),
        };
        match self {
            Self::Crosses(_) => {
                let no_operations = vec![1; 4];
                let ip = Ipv4 { options: no_operations, ..Ipv4::new(own.into(), other.into()) };
                ip.carry(&Transport::Udp(7, 7, payload))
            }
            Self::Returns(_) => {
                Ipv4::new(own.into(), HUB.into()).carry(&Transport::Icmp(8, 0, [0; 4], payload))
            }
        }
    }

    /// Which sentinel this is, and its number, if it is one. An ICMP error about one is none.
    fn read(receiver: Spoke, bytes: &[u8]) -> Option<(Self, u64)> {
        let (own, payload) = bytes.split_last_chunk::<16>().map(|(_, payload)| payload.split_at(8))?;
        let number = u64::from_be_bytes(payload.try_into().ok()?);
        let other = match receiver {
            Spoke::Phone => Spoke::Home,
            Spoke::Home => Spoke::Phone,
        };
        let sentinel = match (bytes.len(), bytes[9]) {
            (48, protocol::UDP) => Self::Crosses(other),
            (44, protocol::ICMP) => Self::Returns(receiver),
            _ => return None,
        };
        (own == Self::MARK).then_some((sentinel, number))
    }
}
