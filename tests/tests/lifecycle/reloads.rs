//! The configuration changes under a daemon that goes on running.

use anyhow::{Result, ensure};
use relay_tests::{
    lab::{Relay, Stats, World, relay::programs_on},
    netns::wait_for,
};

use crate::{Case, DEADLINE, Survives, nobody_notices};

#[test]
fn reloaded() -> Result<()> {
    nobody_notices(&[
        Case {
            name: "reload, a peer added and one removed",
            survives: Survives::Always,
            happens: peers_come_and_go,
        },
        Case { name: "reload, fast path off and on", survives: Survives::Always, happens: off_and_on },
    ])
}

fn peers_come_and_go(_: &World, relay: &mut Relay<'_>) -> Result<()> {
    relay.run(&["peer", "add", "laptop", "--lan", "192.168.77.0/24"])?;
    relay.run(&["peer", "add", "tablet"])?;
    relay.run(&["peer", "remove", "laptop"])?;
    relay.run(&["reload"])?;
    relay.run(&["peer", "remove", "tablet"]).map(drop)
}

fn off_and_on(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    let auto = relay.insert_after("[interface]\n", "fast_path = \"off\"\n")?;
    let off = relay.edit("fast_path = \"off\"", "fast_path = \"off\"")?;
    for (file, on) in [(&off, false), (&auto, true), (&off, false), (&auto, true)] {
        relay.write(file)?;
        relay.run(&["reload"])?;
        let before = relay.stats()?;
        ensure!(before.fast_path_is_on() == on, "after reload: {}", before.0["fast_path"]);
        let programs = programs_on(&world.vps, "wg0")?;
        ensure!(programs == usize::from(on), "{programs} programs on the hook, {}", before.0["fast_path"]);
        // Until packets went that way.
        wait_for("packets", DEADLINE, || {
            let stats = relay.stats()?;
            let received =
                |stats: &Stats| stats.peer("phone").map(|phone| phone["received"]["bytes"].as_u64());
            ensure!(
                received(&stats)? > received(&before)?.map(|bytes| bytes + 10_000),
                "{}",
                stats.0["peers"]
            );
            let (fast, _) = stats.since(&before)?;
            ensure!((fast > 0) == on, "{fast} packets took the fast path");
            Ok(())
        })?;
    }
    Ok(())
}
