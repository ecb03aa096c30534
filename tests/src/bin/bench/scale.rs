//! `bench scale` and `bench memory`: what grows with the number of peers and LANs, and what does not.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use relay_tests::tun::in_new_namespace;
use serde_json::{Value, json};

use crate::{
    daemon::{self, Size},
    forward::{BREATH, PACKETS, QUICK_PACKETS, QUICK_ROUNDS, ROUNDS},
    kinds::small,
    lane::{Lane, Run},
    machine,
    net::{Routes, lan4, peer4},
    rules::Through,
    spread::Spread,
    tunnel::Tunnel,
};

/// Hubs by the number of their peers, and by that of their LANs.
const SIZES: [Size; 7] = [
    Size { peers: 2, lans: 1 },
    Size { peers: 10, lans: 1 },
    Size { peers: 100, lans: 1 },
    Size { peers: 1_000, lans: 1 },
    Size { peers: 1_000, lans: 16 },
    Size { peers: 1_000, lans: 256 },
    Size { peers: 10_000, lans: 256 },
];

const MEMORY: [Size; 3] =
    [Size { peers: 2, lans: 1 }, Size { peers: 100, lans: 1 }, Size { peers: 10_000, lans: 256 }];

const QUICK: [Size; 1] = [Size { peers: 2, lans: 1 }];

/// TTL of the packets that the program alone is measured with, and how often it sees each: every time takes one off.
const TTL: u8 = 255;
const REPEAT: u32 = 250;

/// How many such series there are.
const SERIES: usize = 400;

/// How many different packets are sent in turn, at most.
const FRAMES: usize = 4096;

/// The measurement.
pub(crate) fn run(objects: &Path, relay: &Path, daemon_alone: bool, quick: bool) -> Result<Value> {
    let machine = machine::describe();
    let sizes: &[Size] = if quick { &QUICK } else { &SIZES };
    let packets = if daemon_alone { Value::Null } else { packets(objects, sizes, quick)? };
    Ok(json!({ "bench": "scale", "machine": machine, "packets": packets, "daemon": daemons(relay, sizes)? }))
}

/// The daemon's memory and the maps', at rest and after work.
pub(crate) fn memory(relay: &Path, quick: bool) -> Result<Value> {
    let machine = machine::describe();
    let sizes: &[Size] = if quick { &QUICK } else { &MEMORY };
    Ok(json!({ "bench": "memory", "machine": machine, "daemon": daemons(relay, sizes)? }))
}

fn daemons(relay: &Path, sizes: &[Size]) -> Result<Vec<Value>> {
    let one = |size: &Size| {
        eprintln!("    {} peers, {} LANs", size.peers, size.lans);
        daemon::measure(relay, *size).with_context(|| format!("{} peers, {} LANs", size.peers, size.lans))
    };
    sizes.iter().map(one).collect()
}

/// What a packet costs on hubs of these sizes, in turn. On a thread of its own, so that the daemons, which are measured
/// later, are on no CPU in particular.
fn packets(objects: &Path, sizes: &[Size], quick: bool) -> Result<Value> {
    let (rounds, packets) = if quick { (QUICK_ROUNDS, QUICK_PACKETS) } else { (ROUNDS, PACKETS) };
    in_new_namespace(|| {
        let mut hubs = Vec::new();
        for size in sizes {
            let routes = Routes::of(size.peers, size.lans);
            hubs.push(Hub {
                size: *size,
                alone: Tunnel::load(objects, ETHERNET, &routes)?,
                baseline: Lane::new(Through::Baseline, objects, &routes)?,
                fast_path: Lane::new(Through::FastPath, objects, &routes)?,
                seen: [const { Vec::new() }; 3],
            });
        }
        let scheduling = machine::hold_one_cpu()?;
        for round in 0..rounds {
            for turn in 0..hubs.len() {
                let hub = (turn + round) % hubs.len();
                hubs[hub].round(packets)?;
            }
        }
        let rows = hubs.iter_mut().map(Hub::result).collect::<Result<Vec<_>>>()?;
        Ok(json!({ "scheduling": scheduling, "rounds": rounds, "packets": packets, "rows": rows }))
    })
}

/// What BPF_PROG_TEST_RUN puts in front of a packet, in bytes.
const ETHERNET: u32 = 14;

/// A hub whose program is measured.
struct Hub {
    size: Size,
    alone: Tunnel,
    baseline: Lane,
    fast_path: Lane,
    /// Nanoseconds: the program alone, a packet by turns among all peers, and a packet to the LANs.
    seen: [Vec<f64>; 3],
}

impl Hub {
    fn round(&mut self, packets: u32) -> Result<()> {
        for _ in 0..SERIES / ROUNDS {
            let took = self.program()?;
            self.seen[0].push(took);
        }
        for (place, frames) in [(1, among_peers(self.size)), (2, to_lans(self.size))] {
            let baseline = whole(self.baseline.run_frames(&frames, packets)?)?;
            std::thread::sleep(BREATH);
            let fast_path = whole(self.fast_path.run_frames(&frames, packets)?)?;
            std::thread::sleep(BREATH);
            self.seen[place].push(fast_path - baseline);
        }
        Ok(())
    }

    /// The program alone, with one packet between two peers.
    fn program(&mut self) -> Result<f64> {
        let frame = small(peer4(0), peer4(1), TTL);
        let result = self
            .alone
            .program()?
            .test_run(TestRunOptions { data_in: Some(&frame), repeat: REPEAT, ..TestRunOptions::default() })
            .context("running the program")?;
        ensure!(
            result.return_value == TC_ACT_REDIRECT,
            "the program answers {}",
            result.return_value.cast_signed()
        );
        Ok(result.duration.as_nanos() as f64)
    }

    fn result(&mut self) -> Result<Value> {
        let spread = |values: &[f64]| Spread::of(values.iter().copied()).map(Spread::json);
        let [program, peers, lans] = &self.seen;
        Ok(json!({
            "peers": self.size.peers, "lans": self.size.lans,
            "program_ns": spread(program), "among_peers_ns": spread(peers), "to_lans_ns": spread(lans),
        }))
    }
}

/// linux/pkt_cls.h.
const TC_ACT_REDIRECT: u32 = 7;

/// A run with loss is no result.
fn whole(run: Run) -> Result<f64> {
    ensure!(run.lost == 0, "{} packets were lost", run.lost);
    Ok(run.nanoseconds)
}

/// Packets from every peer to another one, in an order in which neighbours do not follow each other.
fn among_peers(size: Size) -> Vec<Vec<u8>> {
    let stride = (size.peers / 2).max(1);
    let pair = |turn: usize| {
        let from = turn * 7919 % size.peers;
        small(peer4(from), peer4((from + stride) % size.peers), 64)
    };
    (0..FRAMES.min(size.peers)).map(pair).collect()
}

/// Packets to every LAN, each from a peer that it does not belong to.
fn to_lans(size: Size) -> Vec<Vec<u8>> {
    let packet = |lan: usize| small(peer4((lan % size.peers + 1) % size.peers), lan4(lan, 10), 64);
    (0..size.lans).map(packet).collect()
}
