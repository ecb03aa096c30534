//! Junk at the hub's port: data messages of sessions that do not exist, and noise. WireGuard drops it unanswered, and
//! people notice nothing. (Handshake floods are another matter: they cost the hub arithmetic.)

use std::{
    fs,
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{UDP_TIMEOUT, received::Received, web::noise, world::VPS},
    netns::Netns,
};
use serde_json::json;

use crate::{all_fast, connected, early, nas4, ping, seconds};

const JUNK: u32 = 50_000;
/// So many at once.
const BURST: u32 = 100;
/// Pings that run beside the junk.
const PINGS: u32 = 400;
const EACH: Duration = Duration::from_millis(20);
/// What part of them must be answered.
const ANSWERED: f64 = 0.99;
/// What part of a CPU the daemon may use while it rains, with kernel WireGuard: it looks once a second.
const CPU: f64 = 0.25;

/// One datagram. WireGuard tells messages apart by type and length, then finds the receiver (whitepaper 5.4).
fn junk(number: u32) -> Vec<u8> {
    // Seeded by the number, so that each run sends the same.
    let noise = noise(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15), 1452);
    let length = usize::from(noise[0]) * 5;
    let random = &noise[1..=length.max(1)];
    match number % 4 {
        // A data message of a session that nobody has, of every length from empty to full.
        0 | 1 => [&[4, 0, 0, 0][..], &noise[..28 + length]].concat(),
        // A handshake of a length that none has.
        2 => [&[1, 0, 0, 0][..], &random[..length.clamp(1, 143)]].concat(),
        _ => random.to_vec(),
    }
}

/// Sends it all, each from one of 16 ports, and no faster than it is received: the hub's queue holds a thousand packets, and
/// its processor may be elsewhere.
fn rain(from: &Netns, to: &Netns) -> Result<Duration> {
    let received = Received::of(to)?;
    from.inside(|| {
        let sockets: Vec<UdpSocket> = (0..16)
            .map(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect((VPS, 51820))?;
                Ok(socket)
            })
            .collect::<Result<_>>()?;
        let begun = Instant::now();
        for burst in 0..JUNK / BURST {
            let before = received.count()?;
            for (number, socket) in (burst * BURST..(burst + 1) * BURST).zip(sockets.iter().cycle()) {
                // What does not even leave this machine (a full queue) rained somewhere else.
                let _ = socket.send(&junk(number));
            }
            received.reaches(before + u64::from(BURST))?;
        }
        Ok(begun.elapsed())
    })
}

/// How long a process has kept CPUs busy: user and system time in its stat (proc(5)), in ticks of 10 ms.
fn cpu_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("no stat")?.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[test]
fn junk_at_the_hubs_port() -> Result<()> {
    connected(UDP_TIMEOUT, |world, relay| {
        let daemon = relay.daemon().context("the daemon was started")?;
        let kernel = relay.stats()?.0["backend"] == "kernel";
        let (before, known) =
            (relay.stats()?, [relay.stats()?.handshake("home")?, relay.stats()?.handshake("phone")?]);
        let uplink = Received::of(&world.vps)?;
        let received = uplink.count()?;
        let running = ping::start(&world.phone, nas4(), PINGS, EACH)?;
        let (cpu, begun) = (cpu_time(daemon)?, Instant::now());
        let took = rain(&world.internet, &world.vps)?;
        let busy = (cpu_time(daemon)? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        let received = uplink.count()?.saturating_sub(received);
        let pinged = running.finish()?;
        let (cpu, begun) = (cpu_time(daemon)?, Instant::now());
        ping::start(&world.phone, nas4(), PINGS, EACH)?.finish()?;
        let idle = (cpu_time(daemon)? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();

        let share = f64::from(pinged.received) / f64::from(pinged.sent);
        guest::fact(&json!({
            "network": "junk at the hub's port", "datagrams": JUNK, "received": received, "seconds": seconds(took),
            "pings": pinged.sent, "lost": pinged.lost(), "daemon_cpu": rounded(busy), "daemon_cpu_idle": rounded(idle),
        }));
        ensure!(received * 10 >= u64::from(JUNK) * 9, "{received} of {JUNK} datagrams reached the hub");
        all_fast(relay, &before)?;
        let stats = relay.stats()?;
        let now = [stats.handshake("home")?, stats.handshake("phone")?];
        ensure!(!early(&known, &now), "somebody had to shake hands anew: {known:?}, then {now:?}");
        if kernel {
            ensure!(share >= ANSWERED, "{} of {} pings lost", pinged.lost(), pinged.sent);
            ensure!(busy < CPU, "the daemon kept {busy:.2} of a CPU busy, {idle:.2} without the junk");
        } else {
            guest::skip(
                "how many pings survive: userspace WireGuard reads the junk itself, on the ping's own CPU",
            );
        }
        Ok(())
    })
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
