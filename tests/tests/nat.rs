//! What carrier-grade NAT does to an idle tunnel, in the laboratory's world with the NATs' memory and the home
//! server's keepalive cut to seconds.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, World, relay, web, with_everybody, world::NAS4},
    netns::wait_for,
};

/// Some keepalives long, since a busy machine may be late with one.
const FORGETS_AFTER: Duration = Duration::from_secs(4);
/// 30 minutes of a keepalive every 25 s.
const KEEPALIVES: u64 = 72;
/// The same in a guest, whose tests wait one after the other: ten minutes.
const KEEPALIVES_IN_GUEST: u64 = 24;
/// For what is over in 2 s.
const DEADLINE: Duration = Duration::from_secs(40);

/// Everybody connected, the NAS with a page that the phone has seen once, home's keepalive as given (0 for none).
fn idle(keepalive: u32, act: impl FnOnce(&World, &Relay<'_>) -> Result<()>) -> Result<()> {
    with_everybody(&relay::binary()?, FORGETS_AFTER, |world, relay| {
        let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec())])?;
        wait_for("the first page", DEADLINE, || page(world))?;
        keep_alive(world, keepalive)?;
        act(world, relay)
    })
}

/// Changes home's keepalive. By way of none: WireGuard sends one at once only when there was none before.
fn keep_alive(world: &World, seconds: u32) -> Result<()> {
    let hub = world.home.run("wg show home peers")?;
    world.home.run_all(&format!(
        "wg set home peer {0} persistent-keepalive 0
         wg set home peer {0} persistent-keepalive {seconds}",
        hub.trim()
    ))
}

/// The phone asks, and home did not expect it to.
fn page(world: &World) -> Result<()> {
    web::fetch(&world.phone, &format!("http://{NAS4}/")).map(drop)
}

fn endpoint(relay: &Relay<'_>) -> Result<String> {
    let stats = relay.stats()?;
    stats.peer("home")?["endpoint"].as_str().map(str::to_owned).context("the hub knows no endpoint of home")
}

/// What the NAT knows of home's tunnel; nothing when it has forgotten.
fn mapping(world: &World) -> Result<String> {
    Ok(world.isp.run("conntrack -L -p udp --dport 51820")?.trim().to_owned())
}

/// Packets that home sent by its present mapping; the NAT counts anew with each.
fn sent_by_mapping(world: &World) -> Result<u64> {
    let known = mapping(world)?;
    let count = known.split_whitespace().find_map(|word| word.strip_prefix("packets="));
    count.with_context(|| format!("the NAT knows no mapping of home's: {known:?}"))?.parse().context(known)
}

fn wait_until_forgotten(world: &World) -> Result<()> {
    wait_for("the NAT to forget home's tunnel", DEADLINE, || {
        let known = mapping(world)?;
        ensure!(known.is_empty(), "{known}");
        Ok(())
    })
}

#[test]
fn keepalives_hold_the_mapping() -> Result<()> {
    idle(1, |world, relay| {
        let keepalives = if guest::line().is_some() { KEEPALIVES_IN_GUEST } else { KEEPALIVES };
        let (mapped, before) = (endpoint(relay)?, sent_by_mapping(world)?);
        // Nobody but the keepalive speaks.
        wait_for("the keepalives", Duration::from_secs(5 * KEEPALIVES), || {
            let sent = sent_by_mapping(world)?;
            ensure!(sent >= before + keepalives, "{sent} packets by this mapping, {before} of them before");
            Ok(())
        })?;
        page(world).context("the page after the silence")?;
        let now = endpoint(relay)?;
        // A lost mapping comes back with another random port.
        ensure!(now == mapped, "the mapping was lost on the way: {mapped} became {now}");
        Ok(())
    })
}

#[test]
fn without_keepalives_the_nat_forgets_the_home() -> Result<()> {
    idle(0, |world, _| {
        // Ten seconds after the last page home may say that it got everything (whitepaper 6.5), which opens the way once more.
        let reached = wait_for("a silence", 2 * DEADLINE, || {
            wait_until_forgotten(world)?;
            let impatient = world.phone.run(&format!("curl -sS --noproxy * --max-time 3 http://{NAS4}/"));
            let spoke = !mapping(world)?.is_empty();
            ensure!(impatient.is_err() || !spoke, "home spoke of its own accord");
            Ok(impatient.is_ok())
        })?;
        ensure!(!reached, "the phone reached a home whose mapping is gone: this NAT is none");
        // One packet from inside opens the way again.
        keep_alive(world, 1)?;
        wait_for("the page once home has spoken", DEADLINE, || page(world))
    })
}

#[test]
fn a_nat_that_lost_everything_costs_one_keepalive() -> Result<()> {
    idle(1, |world, relay| {
        let mapped = endpoint(relay)?;
        world.isp.run("conntrack -F")?;
        wait_for("home to come back by another mapping", DEADLINE, || {
            let now = endpoint(relay)?;
            ensure!(now != mapped, "still {now}");
            Ok(())
        })?;
        page(world).context("the page by the new mapping")
    })
}
