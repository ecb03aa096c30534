//! `bench forward`: every way through the hub with every kind of packet, in turn, again and again.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    kinds::{self, Kind},
    lane::{Lane, Run},
    machine,
    net::Routes,
    rules::Through,
    spread::Spread,
};

/// How often everything is measured, and with how many packets each time.
pub(crate) const ROUNDS: usize = 31;
pub(crate) const PACKETS: u32 = 32_768;

/// The same where the clock counts instructions, in an emulated machine.
const COUNTING_ROUNDS: usize = 3;
const COUNTING_PACKETS: u32 = 2_048;

/// The same where only the working is asked about.
pub(crate) const QUICK_ROUNDS: usize = 1;
pub(crate) const QUICK_PACKETS: u32 = 640;

/// Between two runs, so that a process with a real-time priority leaves the CPU to others now and then.
pub(crate) const BREATH: Duration = Duration::from_millis(2);

/// What was measured of one way with one kind, in the order of the rounds.
type Runs = BTreeMap<(usize, usize), Vec<Run>>;

/// The measurement, in nanoseconds; where the clock is `counting`, these are instructions.
pub(crate) fn run(objects: &Path, counting: bool, quick: bool) -> Result<Value> {
    let (rounds, packets) = match (quick, counting) {
        (true, _) => (QUICK_ROUNDS, QUICK_PACKETS),
        (false, true) => (COUNTING_ROUNDS, COUNTING_PACKETS),
        (false, false) => (ROUNDS, PACKETS),
    };
    let machine = machine::describe();
    let mut unavailable = Vec::new();
    let mut lanes = Vec::new();
    for path in Through::ALL {
        match Lane::new(path, objects, &Routes::of_two()) {
            Ok(lane) => lanes.push(lane),
            // What a kernel was built without is a fact about it.
            Err(error) if path == Through::Flowtable => {
                unavailable.push(json!({ "path": path.name(), "why": format!("{error:#}") }));
            }
            Err(error) => return Err(error).with_context(|| path.name()),
        }
    }
    let scheduling = machine::hold_one_cpu()?;
    let mut runs = Runs::new();
    for round in 0..rounds {
        for (column, kind) in kinds::ALL.into_iter().enumerate() {
            for turn in 0..lanes.len() {
                // Each round begins with another one.
                let row = (turn + round) % lanes.len();
                let run = lanes[row].run(kind, packets).with_context(|| lanes[row].path.name())?;
                runs.entry((row, column)).or_default().push(run);
                std::thread::sleep(BREATH);
            }
        }
        if (round + 1) % 5 == 0 {
            eprintln!("    round {} of {rounds}", round + 1);
        }
    }
    let mut rows = Vec::new();
    for (column, kind) in kinds::ALL.into_iter().enumerate() {
        for (row, lane) in lanes.iter().enumerate() {
            rows.push(result(&runs, &lanes, kind, column, row).with_context(|| lane.path.name())?);
        }
    }
    Ok(json!({
        "bench": "forward", "machine": machine, "scheduling": scheduling, "rounds": rounds, "packets": packets,
        "rows": rows, "unavailable": unavailable,
    }))
}

/// A row of the results: each run less the baseline of its round, and how much of the fast path that is.
fn result(runs: &Runs, lanes: &[Lane], kind: Kind, column: usize, row: usize) -> Result<Value> {
    let of = |path: Through| {
        let row = lanes.iter().position(|lane| lane.path == path).context("a way is missing")?;
        runs.get(&(row, column)).context("no runs")
    };
    let (baseline, fast) = (of(Through::Baseline)?, of(Through::FastPath)?);
    let own = runs.get(&(row, column)).context("no runs")?;
    let path = lanes[row].path;
    let gross = Spread::of(own.iter().map(|run| run.nanoseconds)).context("no runs")?;
    let less = |runs: &[Run]| {
        Spread::of(runs.iter().zip(baseline).map(|(run, base)| run.nanoseconds - base.nanoseconds))
    };
    let net = less(own).context("no runs")?;
    let ratio = net.over(less(fast).context("no runs")?);
    let is_baseline = path == Through::Baseline;
    let lost: u64 = own.iter().chain(baseline).map(|run| run.lost).sum();
    Ok(json!({
        "path": path.name(),
        "kind": kind.name,
        "gross": gross.json(),
        "net": (!is_baseline).then(|| net.json()),
        "of_fast_path": (!is_baseline).then(|| ratio.json()),
        "lost": lost,
    }))
}
