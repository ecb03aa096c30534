//! A hub in namespaces of its own: the tunnel and an uplink are TUN devices whose far ends this test holds.

use std::fmt;

use anyhow::{Context as _, Result};
use relay_common::{PeerCounters, Verdict};
use relay_tests::{
    namespace::in_namespaces,
    tun::{Kind, Tun, VnetHeader},
};

use crate::{
    host::{self, Meter},
    peers,
};

/// The tunnel's MTU in bytes, WireGuard's default on an Ethernet uplink.
pub(crate) const MTU: u16 = 1420;

/// What stands on the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FastPath {
    /// No program at all: the kernel alone, which is the oracle.
    Absent,
    /// The program, switched off.
    Off,
    /// The program, switched on.
    On,
}

/// How much of relay's table is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firewall {
    /// The MSS clamp alone, so that nothing tracks connections or collects fragments.
    Clamp,
    /// All of it. Its rules look at connections' states, so the kernel tracks them and collects fragments first.
    Whole,
}

/// How a hub is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// What stands on the tunnel.
    pub(crate) fast_path: FastPath,
    /// How much of relay's table is loaded.
    pub(crate) firewall: Firewall,
    /// Whether the tunnel takes merged packets and unfinished checksums as WireGuard does; else the kernel cuts and
    /// completes them on their way out.
    pub(crate) offload: bool,
}

/// A packet for the tunnel, with what the device that received it said about it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Merged or not, and the checksum's state.
    pub(crate) header: VnetHeader,
    /// From the IP header on.
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    /// Whether it says that it is from the phone, 10.9.0.3 or fd52:1a9::3.
    pub(crate) fn is_from_phone(&self) -> bool {
        const PHONE6: [u8; 16] = [0xfd, 0x52, 1, 0xa9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        match self.bytes.first().map(|first| first >> 4) {
            Some(4) => self.bytes.get(12..16) == Some(&[10, 9, 0, 3]),
            _ => self.bytes.get(8..24) == Some(&PHONE6),
        }
    }
}

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { header: VnetHeader::default(), bytes }
    }
}

/// A packet that left the hub.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Out {
    /// By which device.
    pub(crate) device: &'static str,
    /// Merged or not, and the checksum's state.
    pub(crate) header: VnetHeader,
    /// From the IP header on.
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        packet(f, self.header, &self.bytes)
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.device)?;
        packet(f, self.header, &self.bytes)
    }
}

/// As hexadecimal text, which other tools read.
fn packet(f: &mut fmt::Formatter<'_>, header: VnetHeader, bytes: &[u8]) -> fmt::Result {
    const SHOWN: usize = 120;
    if header != VnetHeader::default() {
        write!(f, "{header:?} ")?;
    }
    for byte in bytes.iter().take(SHOWN) {
        write!(f, "{byte:02x}")?;
    }
    let rest = bytes.len().saturating_sub(SHOWN);
    if rest > 0 { write!(f, "… and {rest} bytes more") } else { Ok(()) }
}

/// What came of one case, a case being packets sent one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Everything that left, in order for each device.
    pub(crate) out: Vec<Out>,
    /// By how much each verdict's counter moved.
    pub(crate) verdicts: [u64; Verdict::ALL.len()],
    /// By how much the counters of [`PHONE`] and [`HOME`] moved.
    pub(crate) peers: [PeerCounters; 2],
    /// By how much the kernel's own count of forwarded packets moved (ForwDatagrams, Ip6OutForwDatagrams).
    pub(crate) forwarded: u64,
}

/// Sends every case through a hub of its own and says what came of each.
pub(crate) fn observe(setup: Setup, cases: &[Vec<Sent>]) -> Vec<Observation> {
    let mut observations = Vec::new();
    in_namespaces(|| {
        let mut hub = Hub::new(setup).with_context(|| format!("{setup:?}"))?;
        for case in cases {
            observations.push(hub.pass(case).with_context(|| format!("{setup:?}, {case:?}"))?);
        }
        Ok(())
    });
    observations
}

struct Hub {
    tunnel: Tun,
    uplink: Tun,
    meter: Meter,
}

impl Hub {
    fn new(setup: Setup) -> Result<Self> {
        let tunnel = Tun::new("wg0", Kind::TunVnet { offload: setup.offload }, MTU.into())?;
        let uplink = Tun::new("eth0", Kind::TunVnet { offload: false }, 1500)?;
        let meter = host::set_up(setup.fast_path, setup.firewall, &peers::heard_of()?)?;
        Ok(Self { tunnel, uplink, meter })
    }

    fn pass(&mut self, case: &[Sent]) -> Result<Observation> {
        for sent in case {
            self.tunnel.send_merged(sent.header, &sent.bytes)?;
        }
        // The kernel works on a packet while it is being written: whatever comes of it has come.
        let mut out = drain("wg0", &mut self.tunnel)?;
        out.extend(drain("eth0", &mut self.uplink)?);
        self.meter.observe(out)
    }
}

/// What has left a device, except what the hub says of itself (multicast group reports).
pub(crate) fn drain(device: &'static str, tun: &mut Tun) -> Result<Vec<Out>> {
    let mut all = Vec::new();
    while let Some((header, bytes)) = tun.try_receive()? {
        if !is_group_report(&bytes) {
            all.push(Out { device, header, bytes });
        }
    }
    Ok(all)
}

/// MLDv2 (RFC 3810 5.2): hop-by-hop options, then ICMPv6 type 143.
fn is_group_report(bytes: &[u8]) -> bool {
    bytes.len() > 48 && bytes[0] >> 4 == 6 && bytes[6] == 0 && bytes[40] == 58 && bytes[48] == 143
}
