//! The laboratory: DESIGN's picture in network namespaces, with the real `relay` in the middle and a stock WireGuard
//! at both ends. [`story::tell`] is what `cargo xtask lab` shows; tests take the parts.

pub mod bus;
pub mod cabin;
pub mod echo;
pub mod peer;
pub mod pings;
pub mod received;
pub mod relay;
pub mod story;
pub mod web;
pub mod world;

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

pub use cabin::Cabin;
pub use relay::{Relay, Stats};
pub use world::World;

use crate::netns::{Netns, wait_for};

/// How long a handshake, or the daemon's notice of one, may take; a lost initiation is repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(40);

/// A little longer than the 25 s after which the printed configuration keeps a mapping alive, and as short as the
/// NATs with the worst memory in RFC 4787's survey.
pub const UDP_TIMEOUT: Duration = Duration::from_secs(30);

/// Adds home, with its LANs, and gives the printed configuration to wg-quick on the home server; returns that
/// configuration (a secret).
pub fn connect_home(world: &World, relay: &Relay<'_>) -> Result<String> {
    let [v4, v6] = world::LANS;
    let config = relay.run(&["peer", "add", "home", "--lan", v4, "--lan", v6])?;
    peer::wg_quick_up(&world.home, "home", &config)?;
    Ok(config)
}

/// Makes the home server, with its LANs, a home that runs relay itself: invited, joined, approved and up.
pub fn join_home<'a>(world: &'a World, hub: &Relay<'_>, binary: &Path) -> Result<Relay<'a>> {
    join(&world.home, "home", world::LANS, hub, binary)
}

/// The same with the cabin's server.
pub fn join_cabin<'a>(cabin: &'a Cabin, hub: &Relay<'_>, binary: &Path) -> Result<Relay<'a>> {
    join(&cabin.server, "cabin", cabin::LANS, hub, binary)
}

fn join<'a>(
    machine: &'a Netns,
    name: &str,
    [v4, v6]: [&str; 2],
    hub: &Relay<'_>,
    binary: &Path,
) -> Result<Relay<'a>> {
    let invited = hub.run(&["peer", "invite", name, "--lan", v4, "--lan", v6])?;
    let (mut home, joined) = Relay::join(machine, binary, &invited, &[])?;
    hub.approve(&joined)?;
    home.up()?;
    Ok(home)
}

/// Adds the phone and gives it the printed configuration; returns that configuration (a secret).
pub fn connect_phone(world: &World, relay: &Relay<'_>) -> Result<String> {
    let config = relay.run(&["peer", "add", "phone"])?;
    peer::wg_quick_up(&world.phone, "phone", &config)?;
    Ok(config)
}

/// Waits until the fast path carries a page to the phone whole, however long the daemon takes to learn where the peers
/// are; returns how many packets that were.
pub fn carried_whole(world: &World, relay: &Relay<'_>, url: &str) -> Result<u64> {
    wait_for("the fast path to carry a page whole", DEADLINE, || {
        let before = relay.stats()?;
        web::fetch(&world.phone, url)?;
        let (redirected, seen) = relay.stats()?.since(&before)?;
        ensure!(redirected > 0 && redirected == seen, "{redirected} of {seen} packets");
        Ok(seen)
    })
}

/// A world with relay up on the VPS, and home and phone connected. For tests.
pub fn with_everybody(
    binary: &Path,
    udp_timeout: Duration,
    act: impl FnOnce(&World, &mut Relay<'_>) -> Result<()>,
) -> Result<()> {
    let world = World::new(udp_timeout)?;
    let mut relay = Relay::init(&world.vps, binary)?;
    relay.up()?;
    connect_home(&world, &relay)?;
    connect_phone(&world, &relay)?;
    act(&world, &mut relay).inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))
}
