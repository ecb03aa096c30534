//! What may happen to an adoption: it is killed, its interface goes and comes, its container ends.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{peer, pings::Pings, relay::programs_on},
    netns::{Netns, wait_for},
};

use crate::{
    DEADLINE,
    hub::Hub,
    world::{NAS, Pair, WgEasy, WgQuick},
};

/// Pings before something happens, and after it.
const CALM: u32 = 50;

fn redirected(hub: &Hub<'_>, pair: &Pair) -> Result<()> {
    wait_for("the fast path to carry a ping", DEADLINE, || {
        let before = hub.stats()?.redirected()?;
        pair.phone.run(&format!("ping -n -c 1 -W 2 {NAS}"))?;
        ensure!(hub.stats()?.redirected()? >= before + 2, "{}", hub.stats()?.0);
        Ok(())
    })
}

fn calm(pings: &Pings) -> Result<()> {
    pings.more(CALM, DEADLINE)
}

fn ended(vps: &Netns, keeper: u32) -> Result<std::process::ExitStatus> {
    wait_for("relay adopt to end", DEADLINE, || vps.ended(keeper)?.context("it runs"))
}

#[test]
fn it_outlives_its_keeper_and_its_interface() -> Result<()> {
    let world = WgQuick::new()?;
    let hub = world.hub()?;
    let before = hub.traces()?;
    let keeper = hub.adopt()?;
    redirected(&hub, &world.pair)?;

    let kernel = hub.status()?["backend"] == "kernel";
    let pings = Pings::start(&world.pair.phone, NAS.parse::<Ipv4Addr>()?)?;
    calm(&pings)?;
    world.vps.kill(keeper)?;
    let orphaned = hub.stats()?.redirected()?;
    calm(&pings)?;
    // Nobody keeps it, and it forwards and counts.
    ensure!(hub.stats()?.redirected()? > orphaned, "{}", hub.stats()?.0);
    let line = hub.traced()?;
    ensure!(line.contains("  redirected  ") && line.contains(NAS) && line.contains("ICMP"), "{line}");
    let counted = hub.stats()?.redirected()?;
    let keeper = hub.adopt()?;
    calm(&pings)?;
    let tally = pings.end()?;
    ensure!(hub.stats()?.redirected()? > counted, "the counters began anew");
    ensure!(programs_on(&world.vps, hub.interface)? == 1, "not one program on the hook");
    // Userspace WireGuard shares the cores with whatever else runs, and loses some in its queues.
    ensure!(tally.lost.is_empty() || !kernel, "{} of {} pings lost", tally.lost.len(), tally.sent);

    hub.wg_quick("down")?;
    wait_for("relay to miss the interface", DEADLINE, || {
        let status = hub.status()?;
        ensure!(
            status["problems"][0].as_str().is_some_and(|told| told.contains("there is no interface")),
            "{status}"
        );
        ensure!(status["fast_path"]["state"] == "off", "{status}");
        Ok(())
    })?;
    hub.wg_quick("up")?;
    for machine in [&world.pair.home, &world.pair.phone] {
        peer::new_session(machine, "wg0")?;
    }
    hub.wait_for_fast_path("on", "")?;
    redirected(&hub, &world.pair)?;
    ensure!(programs_on(&world.vps, hub.interface)? == 1, "not one program on the hook");

    // Ctrl-C leaves it, and the release needs no keeper.
    world.vps.interrupt(keeper)?;
    let status = ended(&world.vps, keeper)?;
    ensure!(status.success() && programs_on(&world.vps, hub.interface)? == 1, "{status}: {}", hub.said());
    hub.release()?;
    let after = hub.traces()?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

/// A container that ends takes its keeper with it, and relay keeps nothing of a namespace that nobody can name.
pub(crate) fn it_ends_with_its_container(hub: &Hub<'_>, easy: &WgEasy) -> Result<()> {
    let keeper = hub.adopt()?;
    let pins = hub.pins()?;
    easy.container.kill(easy.first)?;
    let status = ended(hub.vps, keeper)?;
    let said = hub.said();
    ensure!(
        !status.success() && said.contains("has ended") && said.contains("hint: adopt"),
        "{status}: {said}"
    );
    ensure!(hub.vps.inside(|| Ok(!pins.exist()))?, "pins are left");
    ensure!(programs_on(&easy.container, "wg0")? == 0, "the program is left");
    let left = hub.vps.run("find /run/relay").unwrap_or_default();
    ensure!(left.is_empty(), "{left}");
    Ok(())
}
