//! The daemon is killed at its own bpf() calls, one after the other: between loading and attaching, between attaching and
//! pinning, and wherever else it may be when somebody pulls the plug.

use std::{collections::BTreeSet, os::unix::process::ExitStatusExt as _};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use relay_common::LAYOUT;
use relay_tests::{
    lab::{
        Relay, World,
        relay::{self, programs_on},
    },
    netns::wait_for,
};

use crate::{Case, DEADLINE, Survives, hook, nobody_notices};

/// At how many calls of a start the daemon is killed, those around the attach not counted.
const POINTS: usize = 2;

#[test]
fn killed_at_its_calls() -> Result<()> {
    let case = |name, happens| Case { name, survives: Survives::WithKernelWireGuard, happens };
    nobody_notices(&[
        case("kill -9 at bpf() calls, attaching", |world, relay| killed(world, relay, Start::Attaches)),
        case("kill -9 at bpf() calls, taking over", |world, relay| killed(world, relay, Start::TakesOver)),
        case("kill -9 at bpf() calls, another layout", |world, relay| killed(world, relay, Start::Upgrades)),
    ])
}

/// What the daemon finds when it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing on the hook and nothing pinned.
    Attaches,
    /// The program of the daemon before it, and its maps.
    TakesOver,
    /// The same, of another layout.
    Upgrades,
}

fn killed(world: &World, relay: &mut Relay<'_>, start: Start) -> Result<()> {
    relay.kill()?;
    let starting = if start == Start::Upgrades { relay::next("next-layout")? } else { relay::binary()? };
    start.prepare(world, relay)?;
    relay.upgrade(starting.clone());
    let calls = calls_of(world, relay)?;
    for number in points(&calls) {
        start.prepare(world, relay)?;
        relay.upgrade(starting.clone());
        at_call(world, relay, start, number)
            .with_context(|| format!("killed at call {number} of {}, {}", calls.len(), calls[number - 1]))?;
    }
    println!("killed at calls {:?} of {}", points(&calls), calls.len());
    relay.upgrade(relay::binary()?);
    relay.up()
}

impl Start {
    /// Makes the hook and the pins what the start shall find.
    fn prepare(self, world: &World, relay: &mut Relay<'_>) -> Result<()> {
        match self {
            Self::Attaches => {
                world.vps.run(&format!("rm -rf {}", hook::PINS))?;
                // Only where there is one; to delete the qdisc costs packets.
                let _ = world.vps.run("tc filter del dev wg0 ingress");
                wait_for("an empty hook", DEADLINE, || {
                    ensure!(programs_on(&world.vps, "wg0")? == 0);
                    Ok(())
                })
            }
            Self::TakesOver => Ok(()),
            Self::Upgrades => {
                // Also the way back from an upgrade that was cut short.
                relay.upgrade(relay::binary()?);
                relay.up()?;
                hook::running(world, LAYOUT)?;
                relay.kill()
            }
        }
    }
}

/// Starts the daemon, which dies before it makes that call, and looks at what it leaves.
fn at_call(world: &World, relay: &mut Relay<'_>, start: Start, number: usize) -> Result<()> {
    let daemon = relay.spawn_under(
        &[&STRACE[..], &["-e", &format!("inject=bpf:signal=KILL:when={number}")]].concat(),
        &["up"],
    )?;
    let status = wait_for("its death", DEADLINE, || world.vps.ended(daemon)?.context("it lives"))?;
    ensure!(status.signal() == Some(Signal::SIGKILL as i32), "it ended with {status}");
    let left = programs_on(&world.vps, "wg0")?;
    if start != Start::Attaches {
        // Whatever it has got to, one program runs, and alone.
        ensure!(left == 1, "{left} programs on the hook");
        return Ok(());
    }
    ensure!(left <= 1, "{left} programs on the hook");
    relay.up()?;
    hook::running(world, LAYOUT).context("after the next start")?;
    let stats = relay.stats()?;
    ensure!(stats.fast_path_is_on(), "after the next start: {}", stats.0["fast_path"]);
    relay.kill()
}

/// With strace aside, so that relay stays the test's child. It looks at the first thread alone, which makes every bpf()
/// call: following nft and the others that relay starts would take most of the time.
const STRACE: [&str; 7] = ["strace", "-D", "-qq", "-o", TRACE, "-e", "trace=bpf"];

/// In the machine's own /run.
const TRACE: &str = "/run/calls";

/// The bpf() calls that a start makes until the daemon answers, by name. The daemon is killed after that.
fn calls_of(world: &World, relay: &Relay<'_>) -> Result<Vec<String>> {
    let daemon = relay.spawn_under(&STRACE, &["up"])?;
    wait_for("relay up to answer", DEADLINE, || relay.run(&["status"]))?;
    let trace = world.vps.run(&format!("cat {TRACE}"))?;
    world.vps.kill(daemon)?;
    let calls: Vec<String> = trace
        .lines()
        .filter_map(|line| Some(line.strip_prefix("bpf(")?.split([',', ')']).next()?.to_owned()))
        .collect();
    ensure!(calls.iter().any(|call| call == "BPF_PROG_LOAD"), "a start that loads nothing: {trace}");
    Ok(calls)
}

/// Calls from all over the start, and those next to the attach: numbers from 1 on.
fn points(calls: &[String]) -> BTreeSet<usize> {
    let step = calls.len().div_ceil(POINTS).max(1);
    let mut points: BTreeSet<usize> = (1..=calls.len()).step_by(step).collect();
    let loaded = calls.iter().rposition(|call| call == "BPF_PROG_LOAD").unwrap_or(0);
    let after = |wanted: &[&str]| calls.iter().skip(loaded).position(|call| wanted.contains(&call.as_str()));
    // On TCX the attach is one of them. A filter is attached by netlink, and a look for a link's pin follows.
    let attach = after(&["BPF_LINK_CREATE", "BPF_LINK_UPDATE"])
        .map(|at| loaded + at + 1)
        .or_else(|| after(&["BPF_OBJ_GET"]).map(|at| loaded + at));
    // Before it, between it and the pin (or the look), and after that.
    points.extend(attach.into_iter().flat_map(|at| at..=(at + 2).min(calls.len())));
    points
}
