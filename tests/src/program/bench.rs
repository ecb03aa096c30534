//! The two benches: the object loaded, its maps filled, and a packet sent through it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunOptions, tc::qdisc_add_clsact},
    util::KernelVersion,
};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use relay_common::{
    Direct4, Direct6, Event, PeerCounters, PeerSlot, Switches, Verdict, global, map, program,
};
use relay_user::kernel::datapath;

use super::{Given, Setup, net};
use crate::tun::{Kind, Tun, VnetHeader, in_new_namespace};

/// The MTU of the device that BPF_PROG_TEST_RUN pretends, in bytes: WireGuard's usual one.
pub(super) const MTU: u32 = 1420;

/// How many peers the counters hold here: few, so that all of them can be looked at after each packet.
pub(super) const PEERS: u32 = 8;

/// What BPF_PROG_TEST_RUN puts in front of every packet.
const ETHERNET: usize = 14;

/// The first kernel that has TCX; older ones have clsact.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// linux/pkt_cls.h.
const TC_ACT_REDIRECT: i32 = 7;
const TC_ACT_UNSPEC: i32 = -1;

/// A loaded program with a device to run on.
pub(super) struct Bench {
    ebpf: Ebpf,
    device: Tun,
    setup: Setup,
    seen: Counters,
    records: EbpfLogger<Records>,
    /// What is in them, by and by.
    told: Records,
    /// How many events the program has counted.
    events: u64,
}

/// What aya-log hands on.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<Vec<String>>>);

impl Log for Records {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}

impl Records {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) verdicts: BTreeMap<Verdict, u64>,
    pub(super) peers: BTreeMap<PeerSlot, PeerCounters>,
}

/// What came of a packet.
pub(super) struct Outcome {
    /// For people.
    pub(super) action: String,
    pub(super) redirected: bool,
    /// What the program left of it, or what came out of the device.
    pub(super) packets: Vec<(VnetHeader, Vec<u8>)>,
    pub(super) counters: Counters,
    /// What a tracer was told, times left out.
    pub(super) told: Vec<Event>,
    /// Whether the trace is still switched on.
    pub(super) traced: bool,
}

impl Bench {
    /// Loads the object in the calling thread's namespace.
    pub(super) fn new(object: &Path, setup: Setup) -> Result<Self> {
        let (kind, mtu, l2_len) = match setup {
            // TEST_RUN's packets have an Ethernet header, and so must its device.
            Setup::TestRun => (Kind::Tap, MTU, ETHERNET as u32),
            Setup::Tun { mtu, offload } => (Kind::TunVnet { offload }, mtu, 0),
        };
        // The one before may not be gone yet: a child that another test has just forked has its file until it calls exec.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let device = Tun::new(&format!("bench{}", NUMBER.fetch_add(1, Ordering::Relaxed)), kind, mtu)?;
        let mut ebpf = EbpfLoader::new()
            .override_global(global::L2_LEN, &l2_len, true)
            .map_max_entries(map::PEER_COUNTERS, PEERS)
            .load_file(object)
            .with_context(|| format!("loading {}", object.display()))?;
        fill(&mut ebpf)?;
        let tunnel = classifier(&mut ebpf)?;
        tunnel.load().context("loading the program")?;
        if setup != Setup::TestRun {
            if KernelVersion::current()? < TCX {
                qdisc_add_clsact(device.name()).context("adding clsact")?;
            }
            tunnel.attach(device.name(), TcAttachType::Ingress).context("attaching the program")?;
        }
        let told = Records::default();
        let records =
            EbpfLogger::init_with_logger(&mut ebpf, told.clone()).context("opening the ring buffer")?;
        Ok(Self { ebpf, device, setup, seen: Counters::default(), records, told, events: 0 })
    }

    pub(super) fn setup(&self) -> Setup {
        self.setup
    }

    /// Sends one packet through the program.
    pub(super) fn run(&mut self, given: &Given) -> Result<Outcome> {
        let (trace, traced) = given.trace;
        let mut asked: Array<_, [u64; 2]> = self.map(map::TRACE)?.try_into()?;
        asked.set(0, bytemuck::cast::<_, [u64; 2]>(trace), 0)?;
        let mut switches: Array<_, [u32; 4]> = self.map(map::SWITCHES)?.try_into()?;
        let set = Switches {
            fast_path: given.enabled.into(),
            trace: traced.into(),
            all_direct4: given.all_direct.into(),
            all_direct6: given.all_direct.into(),
        };
        switches.set(0, bytemuck::cast::<_, [u32; 4]>(set), 0)?;
        let mut outcome = match self.setup {
            Setup::TestRun => self.test_run(given)?,
            Setup::Tun { .. } => self.through_device(given)?,
        };
        outcome.counters = self.moved()?;
        outcome.told = self.told()?;
        let switches: Array<_, [u32; 4]> = self.map(map::SWITCHES)?.try_into()?;
        outcome.traced = bytemuck::cast::<_, Switches>(switches.get(&0, 0)?).trace != 0;
        if self.setup != Setup::TestRun {
            if outcome.counters.verdicts.contains_key(&Verdict::Redirected) {
                outcome.packets.push(self.device.receive()?);
            }
            while let Some(packet) = self.device.try_receive()? {
                outcome.packets.push(packet);
            }
            outcome.redirected = !outcome.packets.is_empty();
        }
        Ok(outcome)
    }

    fn test_run(&mut self, given: &Given) -> Result<Outcome> {
        let mut frame = vec![0; ETHERNET - 2];
        frame.extend(given.ethertype.to_be_bytes());
        frame.extend(&given.packet);
        let mut out = vec![0; frame.len() + 256];
        let context = context(self.device.index(), given.merged);
        let result = classifier(&mut self.ebpf)?
            .test_run(TestRunOptions {
                data_in: Some(&frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            })
            .context("running the program")?;
        out.truncate(result.data_size_out as usize);
        ensure!(out.len() >= ETHERNET && out[..ETHERNET] == frame[..ETHERNET], "the Ethernet header changed");
        let action = result.return_value.cast_signed();
        ensure!(
            action == TC_ACT_REDIRECT || action == TC_ACT_UNSPEC,
            "the action is {action}, neither redirect ({TC_ACT_REDIRECT}) nor next program ({})",
            TC_ACT_UNSPEC
        );
        Ok(Outcome {
            action: action.to_string(),
            redirected: action == TC_ACT_REDIRECT,
            packets: vec![(VnetHeader::default(), out.split_off(ETHERNET))],
            counters: Counters::default(),
            told: Vec::new(),
            traced: false,
        })
    }

    fn through_device(&mut self, given: &Given) -> Result<Outcome> {
        self.device.send_merged(given.header, &given.packet)?;
        Ok(Outcome {
            action: "known by what comes out of the device".to_owned(),
            redirected: false,
            packets: Vec::new(),
            counters: Counters::default(),
            told: Vec::new(),
            traced: false,
        })
    }

    /// What the counters moved by since the last look, all of them.
    fn moved(&mut self) -> Result<Counters> {
        let verdicts: PerCpuArray<_, u64> = self.map(map::VERDICTS)?.try_into()?;
        let mut now = Counters::default();
        for &verdict in Verdict::ALL {
            let packets = verdicts.get(&(verdict as u32), 0)?.iter().sum();
            now.verdicts.insert(verdict, packets);
        }
        let peers: PerCpuArray<_, [u64; 4]> = self.map(map::PEER_COUNTERS)?.try_into()?;
        for slot in 0..PEERS {
            let values = peers.get(&slot, 0)?;
            let sum = values.iter().fold([0; 4], |sum, value| std::array::from_fn(|i| sum[i] + value[i]));
            now.peers.insert(slot, bytemuck::cast(sum));
        }
        let before = std::mem::replace(&mut self.seen, now.clone());
        Ok(difference(&now, &before))
    }

    /// What is new in the ring buffer, and that the program counted just that.
    fn told(&mut self) -> Result<Vec<Event>> {
        self.records.flush();
        let mut events = Vec::new();
        for record in self.told.take() {
            let event = datapath::decode(&record).with_context(|| format!("the record {record:?}"))?;
            ensure!(event.time > 0, "an event without its time");
            events.push(Event { time: 0, ..event });
        }
        let traced: PerCpuArray<_, u64> = self.map(map::TRACED)?.try_into()?;
        let counted: u64 = traced.get(&0, 0)?.iter().sum();
        let new = counted - std::mem::replace(&mut self.events, counted);
        ensure!(new == events.len() as u64, "{new} events are counted, {} told", events.len());
        Ok(events)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

/// Only what moved.
fn difference(now: &Counters, before: &Counters) -> Counters {
    let verdicts = now.verdicts.iter().filter_map(|(&verdict, packets)| {
        let moved = packets - before.verdicts.get(&verdict).unwrap_or(&0);
        (moved != 0).then_some((verdict, moved))
    });
    let peers = now.peers.iter().filter_map(|(&slot, counters)| {
        let old: [u64; 4] = bytemuck::cast(before.peers.get(&slot).copied().unwrap_or_default());
        let new: [u64; 4] = bytemuck::cast(*counters);
        let moved: [u64; 4] = std::array::from_fn(|i| new[i] - old[i]);
        (moved != [0; 4]).then_some((slot, bytemuck::cast(moved)))
    });
    Counters { verdicts: verdicts.collect(), peers: peers.collect() }
}

/// The first bytes of `struct __sk_buff` (linux/bpf.h) with what BPF_PROG_TEST_RUN takes from it.
fn context(ifindex: u32, merged: Option<(u32, u32)>) -> [u8; 192] {
    const IFINDEX: usize = 40;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let (segments, size) = merged.unwrap_or_default();
    let mut bytes = [0; 192];
    for (at, value) in [(IFINDEX, ifindex), (GSO_SEGS, segments), (GSO_SIZE, size)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let tunnel = ebpf.program_mut(program::TUNNEL).context("the object has no program `tunnel`")?;
    tunnel.try_into().context("`tunnel` as a classifier")
}

/// Fills the route maps with what [`net`] says.
fn fill(ebpf: &mut Ebpf) -> Result<()> {
    fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
        ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
    let mut crowded = Vec::new();
    let mut table: Array<_, u64> = map(ebpf, map::DIRECT4)?.try_into()?;
    for (address, route) in net::hosts4() {
        let place = Direct4::place(address.octets());
        match Direct4::new(address.octets(), route) {
            Some(entry) if table.get(&place, 0)? == 0 => {
                table.set(place, bytemuck::cast::<_, u64>(entry), 0)?
            }
            _ => crowded.push((address, route)),
        }
    }
    let mut hosts: HashMap<_, [u8; 4], u32> = map(ebpf, map::HOSTS4)?.try_into()?;
    for (address, route) in crowded {
        hosts.insert(address.octets(), bytemuck::cast::<_, u32>(route), 0)?;
    }
    let mut crowded = Vec::new();
    let mut table: Array<_, u64> = map(ebpf, map::DIRECT6)?.try_into()?;
    let network = Direct6::network(net::v6(net::Place::Hub).octets());
    table.set(Direct6::NETWORK, u64::from_ne_bytes(network), 0)?;
    for (address, route) in net::hosts6() {
        let place = Direct6::place(address.octets());
        let is_free = Direct6::network(address.octets()) == network && table.get(&place, 0)? == 0;
        match Direct6::new(address.octets(), route).filter(|_| is_free) {
            Some(entry) => table.set(place, bytemuck::cast::<_, u64>(entry), 0)?,
            None => crowded.push((address, route)),
        }
    }
    let mut hosts: HashMap<_, [u8; 16], u32> = map(ebpf, map::HOSTS6)?.try_into()?;
    for (address, route) in crowded {
        hosts.insert(address.octets(), bytemuck::cast::<_, u32>(route), 0)?;
    }
    let mut lans: LpmTrie<_, [u8; 4], u32> = map(ebpf, map::LANS4)?.try_into()?;
    for (lan, route) in net::lans4() {
        let key = Key::new(lan.prefix_len().into(), lan.addr().octets());
        lans.insert(&key, bytemuck::cast::<_, u32>(route), 0)?;
    }
    let mut lans: LpmTrie<_, [u8; 16], u32> = map(ebpf, map::LANS6)?.try_into()?;
    for (lan, route) in net::lans6() {
        let key = Key::new(lan.prefix_len().into(), lan.addr().octets());
        lans.insert(&key, bytemuck::cast::<_, u32>(route), 0)?;
    }
    Ok(())
}

/// Loads and attaches the object with CAP_NET_ADMIN and CAP_BPF and no other capability.
///
/// # Errors
///
/// Where the kernel asks for more.
pub fn load_with_two_capabilities(object: &Path) -> Result<()> {
    in_new_namespace(|| {
        // Capabilities belong to threads, and this one ends here. /dev/net/tun and /proc want no capability of their own.
        crate::capabilities::keep_only(&[crate::capabilities::NET_ADMIN, crate::capabilities::BPF])?;
        Bench::new(object, Setup::Tun { mtu: MTU, offload: false }).map(drop)
    })
}
