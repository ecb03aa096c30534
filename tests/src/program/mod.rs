//! `tunnel` packet by packet: rows of (description, packet in, verdict, packet out, exactly these counters).
//!
//! A row is data. It runs on one of two benches: BPF_PROG_TEST_RUN, which shows a packet that was handed to the stack
//! as well, or a TUN device, which is the path of real packets without an Ethernet header and the only bench that
//! knows MTUs and GSO. The rows are here and not in a test program because two of those run them: `program` on the
//! object itself, and `mutants` on objects with a seeded fault.

mod bench;
mod net;
mod rows_device;
mod rows_ipv4;
mod rows_ipv6;
mod rows_mss;
mod rows_route;
mod rows_switch;
mod rows_trace;

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use relay_common::{Event, PeerCounters, PeerSlot, Trace, Traffic, Verdict};

pub use self::bench::load_with_two_capabilities;
use self::bench::{Bench, Counters};
use crate::{
    packet::{Ip, Transport},
    tun::{VnetHeader, in_new_namespace},
};

/// Cases under one name, on one bench.
#[derive(Debug)]
pub struct Row {
    /// What the row proves; mutants name the row that must catch them by it.
    pub name: &'static str,
    /// Where it runs.
    pub setup: Setup,
    /// What is sent, and what must come of it.
    pub cases: Vec<Case>,
}

/// Where a row runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// BPF_PROG_TEST_RUN, on a device with the MTU of `bench::MTU`.
    TestRun,
    /// A TUN device of this MTU; with `offload`, merged packets come out whole.
    Tun {
        /// Bytes.
        mtu: u32,
        /// Whether the reader does checksums and segmentation.
        offload: bool,
    },
}

/// One packet.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is particular about it.
    pub label: String,
    /// What the program is given.
    pub given: Given,
    /// What it must decide.
    pub verdict: Verdict,
    /// The packet afterwards; where the stack gets it, the same as before.
    pub out: Vec<u8>,
    /// What must stand in front of it, where the bench has such headers and the case cares.
    pub out_header: Option<VnetHeader>,
    /// Whose counters must move: received from, sent to.
    pub way: Option<(PeerSlot, PeerSlot)>,
    /// How many packets must be counted.
    pub packets: u64,
    /// What a tracer must be told, its time left out.
    pub told: Option<Event>,
    /// Whether the trace must still be switched on.
    pub traced: bool,
}

/// A packet and its circumstances.
#[derive(Clone, Debug)]
pub struct Given {
    /// From the IP header on.
    pub packet: Vec<u8>,
    /// What the link layer says that it is.
    pub ethertype: u16,
    /// Whether the fast path is on.
    pub enabled: bool,
    /// Whether the table is said to have every single IPv4 address.
    pub all_direct: bool,
    /// What a tracer has asked for, and whether the trace is switched on.
    pub trace: (Trace, bool),
    /// `gso_segs` and `gso_size` of the packet, for BPF_PROG_TEST_RUN.
    pub merged: Option<(u32, u32)>,
    /// The same for a TUN.
    pub header: VnetHeader,
}

impl Case {
    /// A packet that the fast path forwards.
    fn forwarded(
        label: impl fmt::Display,
        ip: &impl Ip,
        transport: &Transport,
        way: (PeerSlot, PeerSlot),
    ) -> Self {
        let out = ip.after_hop().carry(transport);
        Self { out, way: Some(way), ..Self::punted(label, ip, transport, Verdict::Redirected) }
    }

    /// A packet that goes to the stack, unchanged.
    fn punted<I: Ip>(label: impl fmt::Display, ip: &I, transport: &Transport, verdict: Verdict) -> Self {
        Self::of_bytes(label, I::ETHERTYPE, ip.carry(transport), verdict)
    }

    /// Bytes that go to the stack, unchanged.
    fn of_bytes(label: impl fmt::Display, ethertype: u16, packet: Vec<u8>, verdict: Verdict) -> Self {
        let out = packet.clone();
        let header = VnetHeader::default();
        let trace = (Trace::default(), false);
        let given =
            Given { packet, ethertype, enabled: true, all_direct: false, trace, merged: None, header };
        Self {
            label: label.to_string(),
            given,
            verdict,
            out,
            out_header: None,
            way: None,
            packets: 1,
            told: None,
            traced: false,
        }
    }

    /// The counters that must have moved, and by how much.
    fn counters(&self) -> Counters {
        let traffic = Traffic { packets: self.packets, bytes: self.given.packet.len() as u64 };
        let mut peers = BTreeMap::<PeerSlot, PeerCounters>::new();
        if let Some((from, to)) = self.way {
            peers.entry(from).or_default().received = traffic;
            peers.entry(to).or_default().sent = traffic;
        }
        Counters { verdicts: BTreeMap::from([(self.verdict, self.packets)]), peers }
    }
}

/// Every row there is.
#[must_use]
pub fn rows() -> Vec<Row> {
    [
        rows_switch::rows(),
        rows_route::rows(),
        rows_ipv4::rows(),
        rows_ipv6::rows(),
        rows_mss::rows(),
        rows_device::rows(),
        rows_trace::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The object that `cargo xtask` built: `RELAY_EBPF_OBJECT` where that is set, else `relay.bpf.o` in `RELAY_BPF_DIR`.
///
/// # Errors
///
/// Where neither is set.
pub fn object() -> Result<PathBuf> {
    match env::var_os("RELAY_EBPF_OBJECT") {
        Some(path) => Ok(path.into()),
        None => Ok(folder()?.join("relay.bpf.o")),
    }
}

/// The object with this fault, as `cargo xtask test mutants` leaves it.
///
/// # Errors
///
/// Where `RELAY_BPF_DIR` is not set.
pub fn mutant(feature: &str) -> Result<PathBuf> {
    Ok(folder()?.join("mutants").join(format!("{feature}.bpf.o")))
}

fn folder() -> Result<PathBuf> {
    let folder = env::var_os("RELAY_BPF_DIR");
    folder
        .map(PathBuf::from)
        .context("RELAY_BPF_DIR is not set; hint: `cargo xtask test` builds and sets everything")
}

/// Runs the rows on an object and says by name what failed, and how.
///
/// # Errors
///
/// Where the object cannot be loaded or a bench cannot be made.
pub fn run(object: &Path, rows: &[Row]) -> Result<BTreeMap<&'static str, String>> {
    ensure!(
        object.exists(),
        "there is no object {}; hint: `cargo xtask test program` builds it",
        object.display()
    );
    in_new_namespace(|| {
        let mut failed = BTreeMap::new();
        let mut bench = Bench::new(object, Setup::TestRun)?;
        for row in rows {
            if bench.setup() != row.setup {
                bench = Bench::new(object, row.setup)?;
            }
            let complaints: Vec<String> =
                row.cases.iter().filter_map(|case| run_case(&mut bench, case)).collect();
            if let Some(first) = complaints.first() {
                let text = format!("{} of {} cases; {first}", complaints.len(), row.cases.len());
                failed.insert(row.name, text);
            }
        }
        Ok(failed)
    })
}

/// What is wrong with the outcome, if anything.
fn run_case(bench: &mut Bench, case: &Case) -> Option<String> {
    let complain = |what: &dyn fmt::Display| Some(format!("{}: {what}", case.label));
    let outcome = match bench.run(&case.given) {
        Ok(outcome) => outcome,
        Err(error) => return complain(&format_args!("{error:#}")),
    };
    let counters = case.counters();
    if outcome.counters != counters {
        return complain(&format_args!("counted {:?}, expected {counters:?}", outcome.counters));
    }
    let told: Vec<Event> = case.told.into_iter().collect();
    if outcome.told != told {
        return complain(&format_args!("a tracer is told {:?}, expected {told:?}", outcome.told));
    }
    if outcome.traced != case.traced {
        return complain(&format_args!(
            "the trace is switched on: {}, expected {}",
            outcome.traced, case.traced
        ));
    }
    let redirected = case.verdict == Verdict::Redirected;
    if outcome.redirected != redirected {
        let expected = if redirected { "redirect" } else { "next program" };
        return complain(&format_args!("the action is {}, expected {expected}", outcome.action));
    }
    let seen: &[(VnetHeader, Vec<u8>)] = &outcome.packets;
    match seen {
        // A TUN does not show what the stack got.
        [] if !redirected => None,
        [(header, packet)] if *packet == case.out => match case.out_header {
            // How much is linear is the kernel's affair.
            Some(expected)
                if expected != (VnetHeader { header_length: expected.header_length, ..*header }) =>
            {
                complain(&format_args!("came out with {header:?}, expected {expected:?}"))
            }
            _ => None,
        },
        _ => complain(&format_args!("came out as {}, expected {}", hex(seen), Hex(&case.out))),
    }
}

fn hex(packets: &[(VnetHeader, Vec<u8>)]) -> String {
    let packets: Vec<String> = packets.iter().map(|(_, packet)| Hex(packet).to_string()).collect();
    if packets.is_empty() { "nothing".to_owned() } else { packets.join(" and ") }
}

/// The part of a packet that a person can compare.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        for byte in self.0.iter().take(SHOWN) {
            write!(f, "{byte:02x}")?;
        }
        if self.0.len() > SHOWN { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}
