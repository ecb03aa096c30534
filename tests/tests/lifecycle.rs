//! What may happen to the daemon while people are connected: nobody notices.
//!
//! In the laboratory's world, with a ping every 10 ms and a TCP transfer running from the NAS through home, carrier-grade
//! NAT, the hub and the phone's NAT to the phone. Not one answer may be missing (with kernel WireGuard), no peer may
//! shake hands anew, the transfer's SHA-256 must be right, and one program must be on the hook afterwards.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, relay, web, with_everybody, world::NAS4},
    netns::wait_for,
};

/// Pings that are sent while something happens, one each 10 ms.
const PINGS: u32 = 1500;
/// What the slowest wait took under emulation, times five.
const DEADLINE: Duration = Duration::from_secs(120);
/// WireGuard shakes hands anew by itself after this long (REKEY_AFTER_TIME, whitepaper 6.1).
const REKEY: Duration = Duration::from_secs(120);
/// Bytes that the transfer fetches again and again, 500 KiB a second.
const BULK: usize = 2 << 20;

/// Runs `happens` while people are connected. `None` where the tunnel dies with the daemon anyway.
fn unnoticed(
    case: &str,
    survives: Survives,
    happens: fn(&World, &mut Relay<'_>) -> Result<()>,
) -> Result<()> {
    with_everybody(&relay::binary()?, UDP_TIMEOUT, |world, relay| {
        let kernel = relay.stats()?.0["backend"] == "kernel";
        if survives == Survives::WithKernelWireGuard && !kernel {
            guest::skip(&format!(
                "{case}: no kernel WireGuard here, and a userspace tunnel ends with its daemon"
            ));
            return Ok(());
        }
        let bulk = web::noise(7, BULK);
        let sum = web::sha256(&bulk);
        let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec()), ("/bulk", bulk)])?;
        let (page, bulk) = (format!("http://{NAS4}/"), format!("http://{NAS4}/bulk"));
        wait_for("the first page", DEADLINE, || web::fetch(&world.phone, &page).map(drop))?;
        wait_for("the fast path", DEADLINE, || {
            let stats = relay.stats()?;
            ensure!(stats.fast_path_is_on(), "{}", stats.0["fast_path"]);
            Ok(())
        })?;

        let begun = Instant::now();
        let before = handshakes(world)?;
        let ping =
            world.phone.spawn(world.phone.command("sh").args([
                "-c",
                &format!("exec ping -n -q -i 0.01 -W 10 -c {PINGS} {NAS4} > /run/ping 2>&1"),
            ]))?;
        let over = AtomicBool::new(false);
        let fetched = thread::scope(|scope| {
            let transfer = scope.spawn(|| -> Result<u32> {
                let mut times = 0;
                while !over.load(Ordering::Relaxed) {
                    // Paced, so that what is lost is not lost in a queue that the transfer itself has filled.
                    let mut curl = world.phone.command("curl");
                    let got = curl.args(["-sS", "--limit-rate", "500k", &bulk]).output()?;
                    ensure!(got.status.success(), "curl: {}", String::from_utf8_lossy(&got.stderr));
                    ensure!(web::sha256(&got.stdout) == sum, "the transfer came out different");
                    times += 1;
                }
                Ok(times)
            });
            let happened = happens(world, relay).with_context(|| case.to_owned());
            let in_time = world.phone.ended(ping)?.is_none();
            let answered =
                wait_for("the last ping", DEADLINE, || world.phone.ended(ping)?.context("it runs"));
            over.store(true, Ordering::Relaxed);
            let times = transfer.join().map_err(|_| anyhow::anyhow!("the transfer panicked"))?;
            happened?;
            answered?;
            ensure!(in_time, "{case}: the pings were over before it had happened");
            times
        })?;

        let lost = lost(&world.phone.run("cat /run/ping")?)?;
        let shook = handshakes(world)? != before && begun.elapsed() < REKEY;
        let programs = relay::programs_on(&world.vps, "wg0")?;
        guest::fact(
            &serde_json::json!({ "lifecycle": case, "lost": lost, "handshakes": u8::from(shook), "pings": PINGS }),
        );
        // Userspace WireGuard at three places shares the cores with whatever else runs: what its queues lose is
        // printed, and not the daemon's doing.
        ensure!(lost == 0 || !kernel, "{case}: {lost} of {PINGS} pings lost");
        ensure!(!shook, "{case}: somebody had to shake hands anew");
        ensure!(programs == 1, "{case}: {programs} programs on the hook");
        ensure!(fetched > 0, "{case}: the transfer never finished");
        Ok(())
    })
}

/// What carries the tunnel through it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Survives {
    Always,
    WithKernelWireGuard,
}

fn handshakes(world: &World) -> Result<[String; 2]> {
    Ok([
        world.home.run("wg show home latest-handshakes")?,
        world.phone.run("wg show phone latest-handshakes")?,
    ])
}

/// From ping's summary: `1500 packets transmitted, 1500 received, 0% packet loss, time 15012ms`.
fn lost(summary: &str) -> Result<u32> {
    let line =
        summary.lines().find(|line| line.contains("packets transmitted")).context(summary.to_owned())?;
    let number = |word: &str| -> Result<u32> {
        let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
        let all: Vec<&str> = words.by_ref().collect();
        let at = all.iter().position(|found| *found == word).context(line.to_owned())?;
        // "1500 packets transmitted", "1500 received"
        let back = if word == "transmitted" { 2 } else { 1 };
        Ok(all[at - back].parse()?)
    };
    Ok(number("transmitted")?.saturating_sub(number("received")?))
}

fn start_again(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    let daemon = relay.daemon().context("the daemon was started")?;
    world.vps.kill(daemon)?;
    relay.up()
}

#[test]
fn killed_and_started_again() -> Result<()> {
    unnoticed("kill -9, three times", Survives::WithKernelWireGuard, |world, relay| {
        for _ in 0..3 {
            start_again(world, relay)?;
        }
        Ok(())
    })
}

#[test]
fn killed_in_the_middle_of_starting() -> Result<()> {
    unnoticed("kill -9 while starting", Survives::WithKernelWireGuard, |world, relay| {
        world.vps.kill(relay.daemon().context("the daemon was started")?)?;
        // Wherever the start has got to: before the maps are open, between attach and pin, after the last step.
        for milliseconds in [5, 20, 60, 120, 250] {
            let daemon = relay.spawn(&["up"])?;
            thread::sleep(Duration::from_millis(milliseconds));
            world.vps.kill(daemon)?;
        }
        relay.up()
    })
}

#[test]
fn stopped_and_started_again() -> Result<()> {
    unnoticed("restart", Survives::WithKernelWireGuard, |world, relay| {
        let daemon = relay.daemon().context("the daemon was started")?;
        world.vps.interrupt(daemon)?;
        wait_for("the daemon to end", DEADLINE, || world.vps.ended(daemon)?.context("it runs"))?;
        relay.up()
    })
}

#[test]
fn a_peer_comes_and_another_goes() -> Result<()> {
    unnoticed("reload, a peer added and one removed", Survives::Always, |_, relay| {
        relay.run(&["peer", "add", "laptop", "--lan", "192.168.77.0/24"])?;
        relay.run(&["peer", "add", "tablet"])?;
        relay.run(&["peer", "remove", "laptop"])?;
        relay.run(&["reload"]).map(drop)
    })
}

#[test]
fn a_second_daemon_is_turned_away() -> Result<()> {
    unnoticed("up twice", Survives::Always, |world, relay| {
        for _ in 0..3 {
            let second = relay.spawn(&["up"])?;
            let ended =
                wait_for("the second one to end", DEADLINE, || world.vps.ended(second)?.context("it runs"))?;
            if ended.success() {
                bail!("a second daemon was let in");
            }
        }
        Ok(())
    })
}
