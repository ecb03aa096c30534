//! A hub in namespaces of its own: the tunnel and an uplink are TUN devices whose far ends this test holds.

use std::{
    fmt, fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_common::{PeerCounters, Verdict};
use relay_tests::{
    namespace::{in_namespaces, run, sysctl},
    program,
    tun::{Kind, Tun, VnetHeader},
};
use relay_user::{
    firewall::table,
    kernel::datapath::{Datapath, Hook, Interface, Pins},
    maps::MapChange,
};

use crate::peers::{self, HOME, PHONE};

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
    datapath: Option<Datapath>,
    before: Counts,
}

/// The counters that an observation is the difference of.
#[derive(Clone, Copy, Default)]
struct Counts {
    verdicts: [u64; Verdict::ALL.len()],
    peers: [PeerCounters; 2],
    forwarded: u64,
}

impl Hub {
    fn new(setup: Setup) -> Result<Self> {
        let tunnel = Tun::new("wg0", Kind::TunVnet { offload: setup.offload }, MTU.into())?;
        let uplink = Tun::new("eth0", Kind::TunVnet { offload: false }, 1500)?;
        for (name, value) in SYSCTLS {
            sysctl(name, value)?;
        }
        for line in NETWORK {
            run(line)?;
        }
        load(setup.firewall)?;
        let datapath = match setup.fast_path {
            FastPath::Absent => None,
            FastPath::Off => Some(attach(&tunnel, false)?),
            FastPath::On => Some(attach(&tunnel, true)?),
        };
        let mut hub = Self { tunnel, uplink, datapath, before: Counts::default() };
        hub.before = hub.counts()?;
        Ok(hub)
    }

    fn pass(&mut self, case: &[Sent]) -> Result<Observation> {
        for sent in case {
            self.tunnel.send_merged(sent.header, &sent.bytes)?;
        }
        // The kernel works on a packet while it is being written: whatever comes of it has come.
        let mut out = drain("wg0", &mut self.tunnel)?;
        out.extend(drain("eth0", &mut self.uplink)?);
        let (before, after) = (self.before, self.counts()?);
        self.before = after;
        let mut verdicts = after.verdicts;
        for (verdict, before) in verdicts.iter_mut().zip(before.verdicts) {
            *verdict -= before;
        }
        let mut peers: [u64; 8] = bytemuck::cast(after.peers);
        for (moved, before) in peers.iter_mut().zip(bytemuck::cast::<_, [u64; 8]>(before.peers)) {
            *moved -= before;
        }
        let peers = bytemuck::cast(peers);
        Ok(Observation { out, verdicts, peers, forwarded: after.forwarded - before.forwarded })
    }

    fn counts(&self) -> Result<Counts> {
        let mut counts = Counts { forwarded: forwarded()?, ..Counts::default() };
        let Some(datapath) = &self.datapath else { return Ok(counts) };
        let counters = datapath.maps.counters()?;
        counts.verdicts = counters.verdicts;
        counts.peers = [counters.peers[&PHONE], counters.peers[&HOME]];
        Ok(counts)
    }
}

/// What a hub has, so that TUN behaves as WireGuard does (no redirects, no link-local address), ICMP is not rationed
/// and sources are judged as WireGuard leaves them.
const SYSCTLS: [(&str, &str); 13] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/wg0/send_redirects", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/wg0/rp_filter", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/icmp/ratemask", "\n"),
    ("ipv6/conf/wg0/addr_gen_mode", "1"),
    ("ipv6/conf/eth0/addr_gen_mode", "1"),
    ("ipv6/conf/wg0/disable_ipv6", "0"),
    ("ipv6/conf/eth0/disable_ipv6", "0"),
];

const NETWORK: [&str; 15] = [
    "ip address add 10.9.0.1/24 dev wg0",
    "ip address add fd52:1a9::1/64 dev wg0 nodad",
    "ip route add 192.168.40.0/24 dev wg0",
    "ip route add 192.168.50.0/24 dev wg0",
    "ip route add fd40::/56 dev wg0",
    "ip address add 198.51.100.2/24 dev eth0",
    "ip address add 2001:db8::2/64 dev eth0 nodad",
    "ip route add default via 198.51.100.1",
    "ip route add default via 2001:db8::1 dev eth0",
    // Holes in the home's LANs, where the kernel knows better than the tunnel.
    "ip route add 192.168.40.64/26 via 198.51.100.9",
    "ip route add unreachable 192.168.40.200/32",
    "ip route add 2001:db8:40::/64 dev eth0",
    "ip route add unreachable fd40::dead/128",
    // A part of them behind a narrower way.
    "ip route add 192.168.40.128/27 dev wg0 mtu 1300",
    "ip route add fd40:0:0:80::/64 dev wg0 mtu 1300",
];

fn attach(tunnel: &Tun, enabled: bool) -> Result<Datapath> {
    let interface = Interface { name: tunnel.name().parse()?, index: tunnel.index() };
    let pins = Pins::new(interface.name.clone());
    let object = fs::read(program::object()?).context("read the eBPF object")?;
    let mut prepared = Datapath::prepare(&object, interface, pins, Hook::of_this_kernel())?;
    ensure!(prepared.maps.apply(&peers::changes(tunnel.index())?)? == 0, "the maps overflow");
    prepared.maps.apply(&[MapChange::Enable(enabled)])?;
    Ok(prepared.commit()?)
}

fn load(firewall: Firewall) -> Result<()> {
    let mut table = table::desired("wg0", &[].into(), &[]);
    if firewall == Firewall::Clamp {
        table.chains.retain(|chain| chain.name.starts_with("mss"));
    }
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("start nft")?;
    nft.stdin.take().context("stdin")?.write_all(table::script(&table).as_bytes())?;
    ensure!(nft.wait()?.success(), "nft refuses relay's table");
    Ok(())
}

/// What has left a device, except what the hub says of itself (multicast group reports).
fn drain(device: &'static str, tun: &mut Tun) -> Result<Vec<Out>> {
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

/// The kernel's count of packets that it forwarded in this thread's namespace, both families together.
fn forwarded() -> Result<u64> {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (Some(names), Some(mut values)) = (lines.next(), lines.next()) else { bail!("no Ip lines in snmp") };
    let at = names.into_iter().position(|name| name == "ForwDatagrams").context("ForwDatagrams")?;
    let v4: u64 = values.nth(at).context("ForwDatagrams")?.parse()?;
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6")?;
    let line = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
    let v6: u64 = line.context("Ip6OutForwDatagrams")?.trim().parse()?;
    Ok(v4 + v6)
}
