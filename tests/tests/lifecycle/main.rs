//! What may happen to the daemon while people are connected: nobody notices.
//!
//! In the laboratory's world, with a ping every 10 ms and a TCP transfer running from the NAS through home, carrier-grade
//! NAT, the hub and the phone's NAT to the phone. Not one answer may be missing (with kernel WireGuard), no peer may
//! shake hands anew, the transfer's SHA-256 must be right, and one program must be on the hook afterwards.

mod calls;
mod hook;
mod kills;
mod reloads;
mod upgrades;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, pings::Pings, relay, web, with_everybody, world::NAS4},
    netns::{Netns, wait_for},
};

/// What the slowest wait took on the host, times five.
const DEADLINE: Duration = Duration::from_secs(30);
/// WireGuard shakes hands anew by itself after this long (REKEY_AFTER_TIME, whitepaper 6.1), in seconds; one is for
/// the rounding of the times that `wg` shows.
const REKEY: u64 = 120 - 1;
/// Bytes that the transfer fetches again and again.
const BULK: usize = 400 << 10;
/// How many of them a second. Paced, so that what is lost is not lost in a queue that the transfer itself has filled; and
/// an emulated machine, which encrypts each of them four times, is to have time for the daemon's starts as well.
const PACE: &str = "100k";
/// Pings before something happens, and after it.
const CALM: u32 = 100;

/// Something that may happen to the daemon.
struct Case {
    /// In the table.
    name: &'static str,
    survives: Survives,
    happens: fn(&World, &mut Relay<'_>) -> Result<()>,
}

/// What carries the tunnel through it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Survives {
    Always,
    WithKernelWireGuard,
}

/// Lets one thing happen after the other, in one world for as long as nobody notices. One that was noticed is a failure
/// and may have left its world in any state, so the next get another.
fn nobody_notices(cases: &[Case]) -> Result<()> {
    let mut left = cases.iter();
    let mut failures = Vec::new();
    while !left.as_slice().is_empty() {
        let before = left.len();
        let Err(error) = in_a_world(&mut left) else { continue };
        ensure!(left.len() < before, "{error:#}");
        failures.push(format!("{error:#}"));
    }
    ensure!(
        failures.is_empty(),
        "{} of {} were noticed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

fn in_a_world<'a>(cases: &mut impl Iterator<Item = &'a Case>) -> Result<()> {
    let begun = Instant::now();
    with_everybody(&relay::binary()?, UDP_TIMEOUT, |world, relay| {
        let kernel = relay.stats()?.0["backend"] == "kernel";
        let bulk = web::noise(7, BULK);
        let sum = web::sha256(&bulk);
        let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec()), ("/bulk", bulk)])?;
        println!("the world: {:.1} s", begun.elapsed().as_secs_f64());
        for case in cases {
            if case.survives == Survives::WithKernelWireGuard && !kernel {
                guest::skip(&format!(
                    "{}: no kernel WireGuard here, and a userspace tunnel ends with its daemon",
                    case.name
                ));
                continue;
            }
            let begun = Instant::now();
            unnoticed(case, world, relay, kernel, &sum).context(case.name)?;
            println!("{}: {:.1} s", case.name, begun.elapsed().as_secs_f64());
        }
        Ok(())
    })
}

fn unnoticed(case: &Case, world: &World, relay: &mut Relay<'_>, kernel: bool, sum: &str) -> Result<()> {
    let (page, bulk) = (format!("http://{NAS4}/"), format!("http://{NAS4}/bulk"));
    new_session(&world.home, "home")?;
    new_session(&world.phone, "phone")?;
    wait_for("the first page", DEADLINE, || web::fetch(&world.phone, &page).map(drop))?;
    wait_for("the fast path", DEADLINE, || {
        let stats = relay.stats()?;
        ensure!(stats.fast_path_is_on(), "{}", stats.0["fast_path"]);
        Ok(())
    })?;

    let mut handshakes = Handshakes::look(world)?;
    let pings = Pings::start(&world.phone, NAS4.parse()?)?;
    let over = AtomicBool::new(false);
    let (happened, fetched) = thread::scope(|scope| -> Result<_> {
        let transfer = scope.spawn(|| -> Result<u32> {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                let mut curl = world.phone.command("curl");
                let got = curl.args(["-sS", "--limit-rate", PACE, &bulk]).output()?;
                ensure!(got.status.success(), "curl: {}", String::from_utf8_lossy(&got.stderr));
                ensure!(web::sha256(&got.stdout) == sum, "the transfer came out different");
                handshakes.look_again(world)?;
                times += 1;
            }
            Ok(times)
        });
        let happened = calm(&pings).and_then(|()| (case.happens)(world, relay)).and_then(|()| calm(&pings));
        over.store(true, Ordering::Relaxed);
        Ok((happened, transfer.join().map_err(|_| anyhow!("the transfer panicked"))?))
    })?;
    let tally = pings.end()?;
    happened?;
    let fetched = fetched?;
    handshakes.look_again(world)?;

    let programs = relay::programs_on(&world.vps, "wg0")?;
    guest::fact(&serde_json::json!({
        "lifecycle": case.name,
        "lost": tally.lost.len(),
        "handshakes": u8::from(handshakes.anew),
        "pings": tally.sent,
    }));
    // Userspace WireGuard at three places shares the cores with whatever else runs: what its queues lose is
    // printed, and not the daemon's doing.
    let lost = &tally.lost;
    ensure!(
        lost.is_empty() || !kernel,
        "{} of {} pings lost, {lost:?}; packets that devices dropped:\n{}",
        lost.len(),
        tally.sent,
        dropped(world)
    );
    ensure!(!handshakes.anew, "somebody had to shake hands anew");
    ensure!(programs == 1, "{programs} programs on the hook");
    ensure!(fetched > 0, "the transfer never finished");
    Ok(())
}

/// Where packets went missing, as far as devices and the processors' queues (the second number of each line of
/// softnet_stat) know: a machine that is short of time loses some of its own.
fn dropped(world: &World) -> String {
    let mut text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    for machine in world.machines() {
        for line in machine.run("cat /proc/net/dev").unwrap_or_default().lines().skip(2) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Of the counters of /proc/net/dev, those for errors and drops, received and sent.
            let lost = [3, 4, 11, 12].map(|at| words.get(at).copied().unwrap_or_default());
            if lost.iter().any(|count| *count != "0") {
                text.push_str(&format!("{} {} {lost:?}\n", machine.name(), words[0]));
            }
        }
    }
    text
}

/// Waits until some pings more are sent.
fn calm(pings: &Pings) -> Result<()> {
    pings.more(CALM, DEADLINE)
}

#[test]
fn a_gap_is_counted() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("the pings count alike on every kernel");
        return Ok(());
    }
    let (here, there) = (Netns::new("here")?, Netns::new("there")?);
    here.cable("eth0", &there, "eth0")?;
    here.run("ip addr add 10.0.0.1/24 dev eth0")?;
    there.run("ip addr add 10.0.0.2/24 dev eth0")?;
    let pings = Pings::start(&here, "10.0.0.2".parse()?)?;
    calm(&pings)?;
    there.nft("table ip gap { chain in { type filter hook input priority 0; ip protocol icmp drop; }; }")?;
    calm(&pings)?;
    there.run("nft delete table ip gap")?;
    calm(&pings)?;
    let tally = pings.end()?;
    let (sent, lost, calm) = (tally.sent as usize, tally.lost.len(), CALM as usize);
    ensure!(lost >= calm && sent - lost >= calm, "{tally:?}");
    Ok(())
}

/// Makes a machine forget its session, as a restart of it would: it shakes hands anew, and not by itself for the next
/// two minutes.
fn new_session(machine: &Netns, name: &str) -> Result<()> {
    // Stripped once: wg-quick is a long script for an emulated machine.
    let forget = format!(
        "bare=/run/{name}.bare; umask 077
         [ -e $bare ] || wg-quick strip /run/{name}.conf > $bare && wg setconf {name} $bare"
    );
    let done = machine.command("sh").args(["-c", &forget]).output().context("starting wg setconf")?;
    ensure!(done.status.success(), "wg setconf {name}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// When home and phone last shook hands, and whether one did before it was time.
struct Handshakes {
    last: [u64; 2],
    anew: bool,
}

impl Handshakes {
    fn look(world: &World) -> Result<Self> {
        Ok(Self { last: Self::times(world)?, anew: false })
    }

    fn look_again(&mut self, world: &World) -> Result<()> {
        let times = Self::times(world)?;
        self.anew |= self.last.iter().zip(times).any(|(&last, time)| time != last && time < last + REKEY);
        self.last = times;
        Ok(())
    }

    fn times(world: &World) -> Result<[u64; 2]> {
        let time = |machine: &Netns, name: &str| -> Result<u64> {
            let shown = machine.run(&format!("wg show {name} latest-handshakes"))?;
            let time = shown.split_whitespace().nth(1).with_context(|| format!("{name} has no peer"))?;
            Ok(time.parse()?)
        };
        Ok([time(&world.home, "home")?, time(&world.phone, "phone")?])
    }
}
