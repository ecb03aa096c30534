//! `uplink` loaded for tests: its maps filled, frames run through it by BPF_PROG_TEST_RUN, and what it counted.

pub mod message;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, PerCpuArray, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions, Xdp, XdpMode, xdp::XdpLink},
};
use ipnet::IpNet;
use relay_common::{
    UplinkVerdict,
    mac1::MacKey,
    map, program,
    uplink::{PrefixRule, SourceKey, UplinkSettings, UplinkSource},
};

use crate::packet::{Ip, Ipv4, Ipv6, Transport};

/// The machine whose port is watched: its port, its private key (see [`message::public_key`]) and addresses.
pub const PORT: u16 = 51_820;
/// See [`PORT`].
pub const KEY: u8 = 7;
/// See [`PORT`].
pub const HERE: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];
/// Who knocks, in each family.
pub const THERE: [&str; 2] = ["203.0.113.9", "2001:db8:99::9"];

/// linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Settings as words.
type SettingsWords = [u64; size_of::<UplinkSettings>() / 8];

/// The program, loaded and not attached.
pub struct Guard {
    ebpf: Ebpf,
    /// What it goes by; [`Guard::apply`] gives it to the program.
    pub settings: UplinkSettings,
    seen: BTreeMap<UplinkVerdict, u64>,
}

impl Guard {
    /// Watches [`PORT`] on [`HERE`] with [`KEY`].
    ///
    /// # Errors
    /// The object cannot be loaded.
    pub fn new(object: &Path) -> Result<Self> {
        let mut ebpf =
            EbpfLoader::new().load_file(object).with_context(|| format!("loading {}", object.display()))?;
        xdp(&mut ebpf)?.load().context("loading the program")?;
        let mut settings = UplinkSettings::watching(PORT);
        settings.has_key[0] = 1;
        settings.keys[0] = MacKey::of(&message::public_key(KEY));
        let mut guard = Self { ebpf, settings, seen: BTreeMap::new() };
        for address in HERE {
            let mut local: HashMap<_, [u8; 16], u32> = guard.map(map::UPLINK_LOCAL)?.try_into()?;
            local.insert(mapped(address.parse()?), 1, 0)?;
        }
        guard.apply()?;
        Ok(guard)
    }

    /// Gives the settings to the program.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn apply(&mut self) -> Result<()> {
        let settings = bytemuck::cast::<_, SettingsWords>(self.settings);
        let mut map: Array<_, SettingsWords> = self.map(map::UPLINK_SETTINGS)?.try_into()?;
        Ok(map.set(0, settings, 0)?)
    }

    /// Has it know its addresses by comparison.
    ///
    /// # Panics
    /// Never: the addresses of [`HERE`] are ones.
    pub fn usual(&mut self) {
        self.settings.usual =
            HERE.map(|address| bytemuck::cast(mapped(address.parse().expect("an address"))));
    }

    /// Puts it on an interface whose driver takes XDP programs, until what this gives is dropped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, interface: &str) -> Result<XdpLink> {
        let xdp = xdp(&mut self.ebpf)?;
        let link = xdp.attach(interface, XdpMode::Driver);
        let link = link.with_context(|| format!("putting the guard on {interface}"))?;
        Ok(xdp.take_link(link)?)
    }

    /// Gives a prefix a rule.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn rule(&mut self, prefix: IpNet, rule: PrefixRule) -> Result<()> {
        let bits = u32::from(prefix.prefix_len()) + if prefix.addr().is_ipv4() { 96 } else { 0 };
        let mut rules: LpmTrie<_, [u8; 16], u32> = self.map(map::UPLINK_PREFIXES)?.try_into()?;
        rules.insert(&Key::new(bits, mapped(prefix.addr())), bytemuck::cast::<_, u32>(rule), 0)?;
        self.settings.has_prefixes = 1;
        self.apply()
    }

    /// Says that a source has a live session.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn live(&mut self, source: IpAddr) -> Result<()> {
        let mut live: HashMap<_, [u8; 8], u64> = self.map(map::UPLINK_LIVE)?.try_into()?;
        Ok(live.insert(key(source).0, 0, 0)?)
    }

    /// What is remembered of a source.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn source(&mut self, source: IpAddr) -> Result<Option<UplinkSource>> {
        let sources: HashMap<_, [u8; 8], [u64; 4]> = self.map(map::UPLINK_SOURCES)?.try_into()?;
        match sources.get(&key(source).0, 0) {
            Ok(words) => Ok(Some(bytemuck::cast(words))),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a frame; the verdict is the one whose counter moved, and the action must be that verdict's.
    ///
    /// # Errors
    /// Not one counter moved, the action is another one, or the frame was changed.
    pub fn judge(&mut self, frame: &[u8]) -> Result<UplinkVerdict> {
        let dropped = self.drops(frame)?;
        let moved = self.moved()?;
        let Some((&verdict, 1)) = moved.iter().next().filter(|_| moved.len() == 1) else {
            bail!("counted {moved:?}, expected one packet under one verdict");
        };
        ensure!(dropped == verdict.drops(), "{verdict:?} and dropped: {dropped}");
        Ok(verdict)
    }

    /// Runs a datagram to the port, as [`Guard::judge`].
    ///
    /// # Errors
    /// As for that.
    pub fn knock(&mut self, from: IpAddr, payload: &[u8]) -> Result<UplinkVerdict> {
        self.judge(&datagram(from, payload))
    }

    /// Whether a frame is dropped; its counter moves with it.
    ///
    /// # Errors
    /// It is neither dropped nor passed, or was changed.
    pub fn drops(&mut self, frame: &[u8]) -> Result<bool> {
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = xdp(&mut self.ebpf)?.test_run(options).context("running the program")?;
        ensure!(out == frame, "the frame came out changed");
        match result.return_value {
            XDP_DROP => Ok(true),
            XDP_PASS => Ok(false),
            other => bail!("the action is {other}, neither drop nor pass"),
        }
    }

    /// How long the program takes for a frame, in nanoseconds, on average over so many runs.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn nanoseconds(&mut self, frame: &[u8], times: u32) -> Result<u64> {
        let options = TestRunOptions { data_in: Some(frame), repeat: times, ..TestRunOptions::default() };
        let result = xdp(&mut self.ebpf)?.test_run(options).context("running the program")?;
        Ok(u64::try_from(result.duration.as_nanos())?)
    }

    /// The counters that moved since the last look, and by how much.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn moved(&mut self) -> Result<BTreeMap<UplinkVerdict, u64>> {
        let counters: PerCpuArray<_, u64> = self.map(map::UPLINK_VERDICTS)?.try_into()?;
        let mut now = BTreeMap::new();
        for &verdict in UplinkVerdict::ALL {
            now.insert(verdict, counters.get(&(verdict as u32), 0)?.iter().sum());
        }
        let before = std::mem::replace(&mut self.seen, now.clone());
        let moved = now.into_iter().map(|(verdict, count): (_, u64)| {
            (verdict, count - before.get(&verdict).copied().unwrap_or_default())
        });
        Ok(moved.filter(|(_, count)| *count > 0).collect())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut(program::UPLINK).context("the object has no program `uplink`")?;
    program.try_into().context("`uplink` as an XDP program")
}

/// An address in 16 bytes.
#[must_use]
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An address as a source.
#[must_use]
pub fn key(address: IpAddr) -> SourceKey {
    match address {
        IpAddr::V4(address) => SourceKey::v4(address.octets()),
        IpAddr::V6(address) => SourceKey::v6(address.octets()),
    }
}

/// A datagram from an address to [`PORT`] on the address of [`HERE`] that has its family.
#[must_use]
pub fn datagram(from: IpAddr, payload: &[u8]) -> Vec<u8> {
    let here = HERE[usize::from(from.is_ipv6())].parse::<IpAddr>().expect("an address");
    frame(SocketAddr::new(from, 40_000), SocketAddr::new(here, PORT), payload)
}

/// A datagram in an Ethernet frame.
///
/// # Panics
/// The addresses are of two families.
#[must_use]
pub fn frame(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = Transport::Udp(from.port(), to.port(), payload.to_vec());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet(&Ipv4::new(from, to), &udp),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet(&Ipv6::new(from, to), &udp),
        _ => panic!("{from} to {to}"),
    }
}

/// A packet in an Ethernet frame.
#[must_use]
pub fn ethernet<I: Ip>(ip: &I, transport: &Transport) -> Vec<u8> {
    framed(I::ETHERTYPE, &ip.carry(transport))
}

/// Bytes in an Ethernet frame.
#[must_use]
pub fn framed(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}
