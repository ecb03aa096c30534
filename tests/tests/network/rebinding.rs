//! Carrier-grade NAT that forgets sooner than people speak, and whose own address changes. The home is back as soon as
//! it says something, and with the keepalive of the configuration that relay printed it does so every 25 s.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, World, world::HOME_PUBLIC},
    netns::wait_for,
};
use serde_json::json;

use crate::{DEADLINE, KEEPALIVE, all_fast, back, connected, endpoint, nas4, ping, seconds};

/// What the internet sees of the home after the change.
const OTHER_PUBLIC: &str = "203.0.113.3";

/// What the home sends before it is back, in bytes: a keepalive (32); or, when it had said something that got no answer
/// for 15 s, a handshake (148 and a keepalive). A slow machine may see one of them twice (whitepaper 5.4 and 6).
const FIRST_WORDS: RangeInclusive<u64> = 32..=2 * (148 + 32);

/// Waits for the home's first words by another mapping, upon which pings come back at once; the fast path carries them.
fn one_keepalive_later(
    case: &str,
    world: &World,
    relay: &Relay<'_>,
    silent: &Silent,
    public: &str,
) -> Result<()> {
    let begun = Instant::now();
    let old = &silent.endpoint;
    let new = wait_for("the home's next keepalive", KEEPALIVE + DEADLINE, || {
        let new = endpoint(relay, "home")?;
        ensure!(new != *old, "still {new}");
        Ok(new)
    })?;
    let took = begun.elapsed();
    ensure!(new.starts_with(&format!("{public}:")), "{case}: {old} became {new}");
    let words = sent(world)?.saturating_sub(silent.sent);
    let before = relay.stats()?;
    back(&world.phone, nas4(), DEADLINE).with_context(|| case.to_owned())?;
    // A machine that stands still for two seconds loses its mapping again, and gets another one as it got this.
    wait_for("pings without loss", KEEPALIVE + DEADLINE, || {
        ping::none_lost(world, 50).with_context(|| case.to_owned())
    })?;
    all_fast(relay, &before)?;
    guest::fact(&json!({ "network": case, "seconds": seconds(took), "bytes_sent_by_home": words }));
    ensure!(FIRST_WORDS.contains(&words), "{case}: it took the home {words} bytes to be heard");
    Ok(())
}

/// A home that says nothing: where the hub thinks that it is, and what it had sent by then.
struct Silent {
    endpoint: String,
    sent: u64,
}

impl Silent {
    fn of(world: &World, relay: &Relay<'_>) -> Result<Self> {
        Ok(Self { endpoint: endpoint(relay, "home")?, sent: sent(world)? })
    }
}

/// Bytes that the home has sent through the tunnel, WireGuard's own included.
fn sent(world: &World) -> Result<u64> {
    let line = world.home.run("wg show home transfer")?;
    line.split_whitespace().nth(2).context("wg tells no transfer")?.parse().with_context(|| line.clone())
}

#[test]
fn a_cgnat_that_forgets_at_once_and_changes_its_address() -> Result<()> {
    connected(Duration::from_secs(2), |world, relay| {
        // A keepalive in between is bad luck, and the next silence a better moment.
        let silent = wait_for("a home that is out of reach", 2 * KEEPALIVE, || {
            let known = world.isp.run("conntrack -L -p udp --dport 51820")?;
            ensure!(known.trim().is_empty(), "the NAT knows it: {known}");
            let silent = Silent::of(world, relay)?;
            ensure!(!ping::knock(&world.phone, nas4())?, "the NAT let a ping in");
            Ok(silent)
        })?;
        one_keepalive_later("a NAT that forgets within 2 s", world, relay, &silent, HOME_PUBLIC)?;

        let silent = Silent::of(world, relay)?;
        world.isp.run_all(&format!(
            "ip addr del {HOME_PUBLIC}/24 dev eth0
             ip addr add {OTHER_PUBLIC}/24 dev eth0
             ip route replace default via 203.0.113.1
             conntrack -F"
        ))?;
        one_keepalive_later("the CGNAT's own address changes", world, relay, &silent, OTHER_PUBLIC)
    })
}
