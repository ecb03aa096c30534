//! The daemon ends, in every way a process can, and is started again.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use relay_tests::{
    guest::patience,
    lab::{Relay, World, web},
    netns::wait_for,
};

use crate::{Case, DEADLINE, Survives, nobody_notices};

#[test]
fn killed_and_started_again() -> Result<()> {
    nobody_notices(&[
        Case { name: "kill -9, three times", survives: Survives::WithKernelWireGuard, happens: three_times },
        Case {
            name: "kill -9 while starting",
            survives: Survives::WithKernelWireGuard,
            happens: while_starting,
        },
        Case {
            name: "kill -9 at random moments",
            survives: Survives::WithKernelWireGuard,
            happens: at_random,
        },
        Case { name: "restart", survives: Survives::WithKernelWireGuard, happens: restart },
        Case { name: "up twice", survives: Survives::Always, happens: up_twice },
    ])
}

fn three_times(_: &World, relay: &mut Relay<'_>) -> Result<()> {
    for _ in 0..3 {
        relay.kill()?;
        relay.up()?;
    }
    Ok(())
}

fn while_starting(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    relay.kill()?;
    // Wherever the start has got to: before the maps are open, between attach and pin, after the last step.
    for milliseconds in [5, 20, 60, 120, 250] {
        kill_after(world, relay, patience(Duration::from_millis(milliseconds)))?;
    }
    relay.up()
}

/// `RELAY_SEED`, or the one that everybody has.
fn seed() -> u64 {
    const SEED: u64 = 1905;
    std::env::var("RELAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// How late a kill may come; a start takes 250 ms on the host.
const LATEST: Duration = Duration::from_millis(400);
/// Kills of a starting daemon, and as many of one that reloads.
const KILLS: usize = 5;

fn at_random(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    let seed = seed();
    println!("seed {seed} (RELAY_SEED sets it)");
    let noise = web::noise(seed, 2 * 2 * KILLS);
    let mut delays = noise.chunks_exact(2).map(|two| {
        let share = f64::from(u16::from_le_bytes([two[0], two[1]])) / f64::from(u16::MAX);
        patience(LATEST).mul_f64(share)
    });
    let mut delay = || delays.next().context("a delay for each kill");

    relay.kill()?;
    for _ in 0..KILLS {
        kill_after(world, relay, delay()?)?;
    }
    for _ in 0..KILLS {
        relay.up()?;
        // Each reload has something to do: a peer comes, or goes if it is there.
        let there = relay.run(&["peer", "list"])?.contains("tablet");
        let verb = if there { "remove" } else { "add" };
        let reload = relay.spawn(&["peer", verb, "tablet"])?;
        thread::sleep(delay()?);
        relay.kill()?;
        // Whether the daemon was there to hear of it is not what this is about; the file is whole or as it was.
        let _ = wait_for("the command to end", DEADLINE, || world.vps.ended(reload)?.context("it runs"))?;
    }
    relay.up()?;
    // There or not: where the last kill came in time, relay took the change back.
    let _ = relay.run(&["peer", "remove", "tablet"]);
    Ok(())
}

/// Starts the daemon and kills it, however far it has got by then.
fn kill_after(world: &World, relay: &Relay<'_>, delay: Duration) -> Result<()> {
    let daemon = relay.spawn(&["up"])?;
    thread::sleep(delay);
    world.vps.kill(daemon)
}

fn restart(_: &World, relay: &mut Relay<'_>) -> Result<()> {
    relay.stop()?;
    relay.up()
}

fn up_twice(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    for _ in 0..3 {
        let second = relay.spawn(&["up"])?;
        let ended =
            wait_for("the second one to end", DEADLINE, || world.vps.ended(second)?.context("it runs"))?;
        if ended.success() {
            bail!("a second daemon was let in");
        }
    }
    Ok(())
}
