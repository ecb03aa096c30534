//! Floods while a peer is connected: its packets come through, and a newcomer gets in.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest::{fact, patience},
    lab::{
        peer::{new_session, wg_quick_up},
        world::VPS,
    },
    netns::{Netns, wait_for},
    uplink::message::{made_up, noise},
};
use relay_user::key::PublicKey;
use serde_json::json;

use crate::{DEADLINE, HUB, PORT, configured, counted, machines, wait_for_guard};

/// Datagrams that are sent again and again.
const DIFFERENT: u64 = 4096;

/// So many at once.
const BURST: usize = 64;

/// Who floods.
const ATTACKER: &str = "198.51.100.66";

/// The hub's address in the tunnel.
const INSIDE: &str = "10.9.0.1";

/// Pings through the tunnel during each flood.
const PINGS: u64 = 200;

/// A handshake in a flood of one source may take so long; measured: 0.1 s.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// Beyond that it has not come at all.
const LONGEST: Duration = Duration::from_secs(60);

/// The floods, by name: what is sent, and the verdict that most of it must get.
fn floods(key: &[u8; 32]) -> [(&'static str, &'static str, Vec<Vec<u8>>); 4] {
    let random = (0..DIFFERENT).map(|n| noise(n, 60 + (n % 200) as usize)).collect();
    let right_length = (0..DIFFERENT).map(|n| [&[1, 0, 0, 0][..], &noise(n, 144)].concat()).collect();
    let right_mac1 = (0..DIFFERENT).map(|n| made_up(key, n)).collect();
    let replay = vec![made_up(key, DIFFERENT + 1)];
    [
        ("random bytes", "unknown_type", random),
        ("right length", "junk_source", right_length),
        ("right mac1", "source_rate", right_mac1),
        ("replay", "replay", replay),
    ]
}

#[test]
fn who_is_in_stays_in_and_who_comes_gets_in() -> Result<()> {
    let (machine, neighbour) = machines()?;
    neighbour.run(&format!("ip address add {ATTACKER}/24 dev eth0"))?;
    let mut hub = configured(&machine)?;
    let config = hub.run(&["peer", "add", "laptop"])?.replace(VPS, HUB);
    hub.up()?;
    wait_for_guard(&hub, true, "native")?;
    wg_quick_up(&neighbour, "laptop", &config)?;
    wait_for("the tunnel", DEADLINE, || neighbour.run(&format!("ping -n -c 1 -W 1 {INSIDE}")))?;
    let text = machine.run("wg show wg0 public-key")?;
    let key = *text.trim().parse::<PublicKey>().context("the hub's key")?.as_bytes();

    for (name, verdict, datagrams) in floods(&key) {
        let before = counted(&hub, verdict)?;
        let ((lost, took), sent) = during(&neighbour, &datagrams, || {
            let lost = lost(&neighbour)?;
            Ok((lost, new_handshake(&neighbour)?))
        })?;
        wait_for("the guard to have counted most of it", DEADLINE, || {
            let counted = counted(&hub, verdict)? - before;
            ensure!(counted > sent / 2, "{name}: {counted} of {sent} as {verdict}");
            Ok(())
        })?;
        let took_seconds = took.as_secs_f64();
        fact(&json!({"flood": name, "sent": sent, "pings lost": lost, "handshake s": took_seconds}));
        ensure!(lost < PINGS / 100, "{name}: {lost} of {PINGS} pings were lost");
        ensure!(took < patience(HANDSHAKE), "{name}: a handshake took {took:?}");
    }
    Ok(())
}

/// Does something while this comes to the hub's port from [`ATTACKER`]; and how much came.
fn during<T>(from: &Netns, datagrams: &[Vec<u8>], act: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let socket = from.inside(|| Ok(UdpSocket::bind((ATTACKER, 0))?))?;
    socket.connect((HUB, PORT))?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            for burst in datagrams.chunks(BURST).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let count =
                    burst.iter().cycle().take(BURST).filter(|datagram| socket.send(datagram).is_ok()).count();
                sent.fetch_add(count as u64, Ordering::Relaxed);
                // Others need the processor, too.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let done = act();
        stop.store(true, Ordering::Relaxed);
        done
    })?;
    Ok((done, sent.into_inner()))
}

/// How many of [`PINGS`] through the tunnel get no answer.
fn lost(peer: &Netns) -> Result<u64> {
    // Lost ones are a failure to ping, which prints the same all the same.
    let mut command = peer.command("ping");
    command.args(["-n", "-q", "-i", "0.005", "-W", "2", "-c", &PINGS.to_string(), INSIDE]);
    let said = String::from_utf8(command.output()?.stdout)?;
    let received =
        said.split(" received").next().and_then(|text| text.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(PINGS - received.with_context(|| format!("ping said: {said}"))?)
}

/// How long the peer takes to a session with the hub when it has none.
fn new_handshake(peer: &Netns) -> Result<Duration> {
    new_session(peer, "laptop")?;
    let begun = Instant::now();
    wait_for("a new handshake", LONGEST, || {
        // Only the first one asks for a handshake; what is dropped then is asked for by WireGuard's own timers.
        peer.run(&format!("ping -n -c 1 -W 0.1 {INSIDE}"))
    })?;
    Ok(begun.elapsed())
}
