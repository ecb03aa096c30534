//! The home's clock goes back one hour. WireGuard takes a handshake only with a later time in it than the last one had
//! (whitepaper 5.1), so the home is cut off for an hour; others must not notice, and there is a way back.
//!
//! Machines of the laboratory share the kernel's clock. But the hub compares nothing but times in the messages of one
//! peer with one another, so it is all the same to it whether that peer's clock goes back, or was an hour ahead while
//! the peer shook hands.

use std::{
    net::IpAddr,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, connect_home, connect_phone, peer, pings::Pings, relay},
    netns::{Netns, checked, wait_for},
};
use serde_json::json;

use crate::{DEADLINE, HUB, all_fast, back, on_the_internet, ping, seconds, settled};

const HOUR: Duration = Duration::from_secs(3600);
/// Handshakes that the home tries in vain, one each 5 s, before we believe that it is cut off.
const TRIES: u64 = 3;
/// An initiation (whitepaper 5.4.2).
const INITIATION: u64 = 148;

/// The guest's clock, one hour ahead until this is dropped.
struct Ahead {
    wall: Duration,
    since: Instant,
}

impl Ahead {
    fn set() -> Result<Self> {
        let ahead = Self { wall: SystemTime::now().duration_since(UNIX_EPOCH)?, since: Instant::now() };
        set_clock(ahead.wall + HOUR)?;
        Ok(ahead)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Err(error) = set_clock(self.wall + self.since.elapsed()) {
            eprintln!("the clock stays an hour ahead: {error:#}");
        }
    }
}

fn set_clock(wall: Duration) -> Result<()> {
    let to = format!("@{}.{:09}", wall.as_secs(), wall.subsec_nanos());
    checked(Command::new("date").args(["--set", &to])).context("setting the clock").map(drop)
}

/// What a peer has sent, WireGuard's own messages included, in bytes.
fn sent(machine: &Netns, name: &str) -> Result<u64> {
    let line = machine.run(&format!("wg show {name} transfer"))?;
    line.split_whitespace().nth(2).context("wg tells no transfer")?.parse().with_context(|| line.clone())
}

/// The home comes back from a power cut: its port is another one, and what the CGNAT knew of the old one is forgotten.
fn restart(world: &World, config: &str) -> Result<()> {
    peer::wg_quick_down(&world.home, "home")?;
    world.isp.run("conntrack -F")?;
    peer::wg_quick_up(&world.home, "home", config)
}

#[test]
fn the_homes_clock_goes_back_one_hour() -> Result<()> {
    if guest::line().is_none() {
        guest::skip("the clock of this machine is everybody's; guests have their own");
        return Ok(());
    }
    let world = World::new(UDP_TIMEOUT)?;
    let mut relay = Relay::init(&world.vps, &relay::binary()?)?;
    relay.up()?;
    told(&world, &relay).inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))
}

fn told(world: &World, relay: &Relay<'_>) -> Result<()> {
    let ahead = Ahead::set()?;
    let config = connect_home(world, relay)?;
    let shaken = wait_for("home's handshake in the future", DEADLINE, || relay.stats()?.handshake("home"))?;
    drop(ahead);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(
        shaken > now + HOUR.as_secs() / 2,
        "home shook hands at {shaken}, and it is {now}: no hour ahead"
    );

    let laptop = on_the_internet(world, "laptop", "198.18.7")?;
    connect_phone(world, relay)?;
    let laptop_config = relay.run(&["peer", "add", "laptop"])?;
    peer::wg_quick_up(&laptop, "laptop", &laptop_config)?;
    let [home, laptop_ip] = [&config, &laptop_config].map(|config| peer::addresses(config)[0]);
    // Nobody is reached before it has spoken.
    back(&laptop, HUB.parse()?, DEADLINE)?;
    back(&world.phone, laptop_ip, DEADLINE)?;
    back(&world.phone, home, DEADLINE).context("before the home's clock goes back")?;
    settled(relay, &world.phone, laptop_ip)?;

    restart(world, &config)?;
    let (begun, before, said) = (sent(&world.home, "home")?, relay.stats()?, relay.log());
    let IpAddr::V4(laptop_ip) = laptop_ip else { bail!("the laptop's first address is {laptop_ip}") };
    let others = Pings::start(&world.phone, laptop_ip)?;
    let tries = wait_for("home's initiations", DEADLINE, || {
        let tries = (sent(&world.home, "home")? - begun) / INITIATION;
        ensure!(tries >= TRIES, "{tries} so far");
        Ok(tries)
    })?;
    let stats = relay.stats()?;
    ensure!(stats.handshake("home")? == shaken, "the hub took a handshake from the past");
    ensure!(!ping::knock(&world.phone, home)?, "the phone reached a home that is cut off");
    let pinged = others.end()?;
    ensure!(
        pinged.lost.is_empty(),
        "of {} pings between the others some were lost: {:?}",
        pinged.sent,
        pinged.lost
    );
    all_fast(relay, &before)?;
    ensure!(relay.log() == said, "relay did something about it: {}", relay.log());

    let found = relay.run_traced(&["doctor", "home"])?;
    ensure!(found.contains("it was ahead then and was set right"), "{found}");

    // What the README tells the admin to do.
    let key = stats.peer("home")?["public_key"].as_str().context("home has no key")?.to_owned();
    world.vps.run(&format!("wg set wg0 peer {key} remove"))?;
    let took = back(&world.phone, home, DEADLINE).context("the way back")?;
    let anew = relay.stats()?.handshake("home")?;
    ensure!(anew < shaken, "home is back with a handshake of {anew}, after {shaken}");
    guest::fact(&json!({
        "network": "the home's clock goes back one hour", "tries_refused": tries, "pings_of_others": pinged.sent,
        "seconds_back": seconds(took),
    }));
    Ok(())
}
