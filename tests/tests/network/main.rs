//! What networks do to a tunnel, in the laboratory's world: they lose, delay and double packets, change addresses
//! under people's feet, forget, swallow what is long, and carry junk and lies. Each fault is a test of its own; its
//! oracle is what people notice (pings, transfers, handshakes) and that the fast path carries them all the while.

mod clock;
mod flood;
mod foreign;
mod mtu;
mod netem;
mod ping;
mod rebinding;
mod roaming;
mod source;
mod spoof;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{Relay, Stats, World, relay, web, with_everybody, world::NAS4},
    netns::{Netns, wait_for},
};

/// For what is over in some seconds: a handshake, of which a lost message is repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// The keepalive that relay prints for a home, and the longest that a new way to it may stay unknown.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// WireGuard shakes hands anew by itself after this long (REKEY_AFTER_TIME, whitepaper 6.1).
const REKEY: Duration = Duration::from_secs(120);

/// Whether somebody, who shook hands `before` (Unix seconds), did so again `now` before it was time. The two are rounded to
/// seconds, so one is missing; and gotatun knows how long ago it was, so that the same one may be a second off.
fn early(before: &[u64], now: &[u64]) -> bool {
    before
        .iter()
        .zip(now)
        .any(|(before, now)| now.abs_diff(*before) > 1 && *now < before + REKEY.as_secs() - 1)
}
/// The hub's own address in the tunnel.
const HUB: &str = "10.9.0.1";
/// A page of the NAS that is a file.
const BULK: usize = 2 << 20;

/// Everybody connected, the NAS serving `/` and `/bulk`, and the fast path on.
fn connected(udp_timeout: Duration, act: impl FnOnce(&World, &mut Relay<'_>) -> Result<()>) -> Result<()> {
    with_everybody(&relay::binary()?, udp_timeout, |world, relay| {
        let pages = [("/", b"at home".to_vec()), ("/bulk", web::noise(7, BULK))];
        let _nas = web::Server::start(&world.nas, pages)?;
        // A NAT may have forgotten the home meanwhile, which is back with its next keepalive. Pings that follow one another
        // meet it then; what a page's SYNs do, ever longer apart, is luck.
        back(&world.phone, nas4(), KEEPALIVE + DEADLINE)?;
        wait_for("the first page", DEADLINE, || {
            web::fetch(&world.phone, &format!("http://{NAS4}/")).map(drop)
        })?;
        settled(relay, &world.phone, nas4())?;
        act(world, relay)
    })
}

/// Waits until the fast path carries every packet between them: it learns of a peer's endpoint within a second.
fn settled(relay: &Relay<'_>, from: &Netns, to: IpAddr) -> Result<()> {
    wait_for("the fast path to carry all packets", DEADLINE, || {
        let before = relay.stats()?;
        back(from, to, DEADLINE)?;
        all_fast(relay, &before).map(drop)
    })
}

/// Whatever entered the tunnel since then took the fast path, and that is on; gives the number of packets.
fn all_fast(relay: &Relay<'_>, before: &Stats) -> Result<u64> {
    let stats = relay.stats()?;
    ensure!(stats.fast_path_is_on(), "the fast path went off: {}", stats.0["fast_path"]);
    let (redirected, seen) = stats.since(before)?;
    ensure!(
        redirected > 0 && redirected == seen,
        "the fast path carried {redirected} of {seen} packets: {} before, {}",
        before.0["verdicts"],
        stats.0["verdicts"]
    );
    Ok(seen)
}

/// A file from the NAS to the phone, whole; gives megabits per second.
fn transfer(world: &World) -> Result<f64> {
    let got = web::fetch(&world.phone, &format!("http://{NAS4}/bulk"))?;
    ensure!(got.sha256 == web::sha256(&web::noise(7, BULK)), "{} bytes came damaged", got.bytes);
    Ok(got.rate())
}

/// Waits until a ping comes back, and says how long that took.
fn back(from: &Netns, to: IpAddr, within: Duration) -> Result<Duration> {
    let begun = Instant::now();
    wait_for(&format!("an answer from {to}"), within, || {
        ensure!(ping::knock(from, to)?, "no ping is answered");
        Ok(())
    })?;
    Ok(begun.elapsed())
}

/// Where the hub sends what is for that peer.
fn endpoint(relay: &Relay<'_>, peer: &str) -> Result<String> {
    let stats = relay.stats()?;
    let endpoint = stats.peer(peer)?["endpoint"].as_str().map(str::to_owned);
    endpoint.with_context(|| format!("the hub knows no endpoint of {peer}"))
}

/// A machine with a public address of its own on the internet, `network`.2, by the name of its cable.
fn on_the_internet(world: &World, name: &str, network: &str) -> Result<Netns> {
    let machine = Netns::new(name)?;
    world.internet.cable(name, &machine, "eth0")?;
    world.internet.run(&format!("ip addr add {network}.1/24 dev {name}"))?;
    machine.run_all(&format!(
        "ip addr add {network}.2/24 dev eth0
         ip route add default via {network}.1"
    ))?;
    Ok(machine)
}

/// Tenths of a second, as people read them.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 10.0).round() / 10.0
}

fn nas4() -> IpAddr {
    NAS4.parse().expect("an address")
}
