//! Another relay takes over: one whose program is another, one whose layout is another, and the old one again.

use anyhow::{Result, ensure};
use relay_common::LAYOUT;
use relay_tests::{
    lab::{Relay, World, relay},
    netns::wait_for,
};

use crate::{Case, DEADLINE, Survives, hook, nobody_notices};

/// What the new relay's feature `next-layout` makes of it.
const NEXT_LAYOUT: u32 = LAYOUT + 1;

/// How the daemon ends that the other one follows.
type End = fn(&mut Relay<'_>) -> Result<()>;
const STOPPED: End = |relay| relay.stop();
const KILLED: End = |relay| relay.kill();

#[test]
fn upgraded_and_downgraded() -> Result<()> {
    let case = |name, happens| Case { name, survives: Survives::WithKernelWireGuard, happens };
    nobody_notices(&[
        case("restart as another program, and back", |world, relay| another_program(world, relay, STOPPED)),
        case("kill -9, another program, and back", |world, relay| another_program(world, relay, KILLED)),
        case("restart with another layout, and back", |world, relay| another_layout(world, relay, STOPPED)),
        case("kill -9, another layout, and back", |world, relay| another_layout(world, relay, KILLED)),
    ])
}

/// The new program takes the maps over as they are, and so does the old one.
fn another_program(world: &World, relay: &mut Relay<'_>, end: End) -> Result<()> {
    let old = hook::running(world, LAYOUT)?;
    let counted = relay.stats()?;
    end(relay)?;
    relay.upgrade(relay::next("next-program")?);
    relay.up()?;
    let new = hook::running(world, LAYOUT)?;
    ensure!(new.tag != old.tag, "the hook runs the old program, {old:x?}");
    ensure!(new.maps == old.maps, "other maps: {old:?}, then {new:?}");
    goes_on(relay, counted.redirected()?)?;

    end(relay)?;
    relay.upgrade(relay::binary()?);
    relay.up()?;
    let back = hook::running(world, LAYOUT)?;
    ensure!(back == old, "the hook runs {back:x?}, not {old:x?}");
    goes_on(relay, counted.redirected()?)
}

/// The new program gets maps of its own, whose counters start anew; of the old ones nothing is left, neither pinned nor
/// in the kernel.
fn another_layout(world: &World, relay: &mut Relay<'_>, end: End) -> Result<()> {
    let old = hook::running(world, LAYOUT)?;
    end(relay)?;
    relay.upgrade(relay::next("next-layout")?);
    relay.up()?;
    let counted = relay.stats()?.redirected()?;
    let new = hook::running(world, NEXT_LAYOUT)?;
    ensure!(new.tag != old.tag, "the hook runs the old program, {old:x?}");
    ensure!(new.maps.is_disjoint(&old.maps), "maps of both: {old:?}, then {new:?}");
    hook::gone(&old.maps)?;
    goes_on(relay, counted)?;

    end(relay)?;
    relay.upgrade(relay::binary()?);
    relay.up()?;
    let back = hook::running(world, LAYOUT)?;
    ensure!(back.tag == old.tag, "the hook runs {back:x?}, not {old:x?}");
    ensure!(back.maps.is_disjoint(&old.maps), "the maps of before were not gone: {old:?}, then {back:?}");
    hook::gone(&new.maps)?;
    goes_on(relay, 0)
}

/// Waits until more packets than that have been redirected, and home and phone have their share in them.
fn goes_on(relay: &Relay<'_>, counted: u64) -> Result<()> {
    wait_for("redirected packets", DEADLINE, || {
        let stats = relay.stats()?;
        let redirected = stats.redirected()?;
        ensure!(redirected > counted, "{redirected} redirected, {counted} were before");
        for name in ["home", "phone"] {
            let fast = &stats.peer(name)?["fast_path"];
            let moved = |way: &str| fast[way]["packets"].as_u64().is_some_and(|packets| packets > 0);
            ensure!(moved("received") && moved("sent"), "{name}: {fast}");
        }
        Ok(())
    })
}
