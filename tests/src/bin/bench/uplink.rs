//! `bench uplink`: what the guard in front of the listen port costs, and what it saves.
//!
//! Frames are sent from inside the kernel and arrive at a veth in native mode. What a frame costs the guard is what it
//! takes beside a program that does nothing but drop or pass it. With `--floods`, in a guest whose clock counts
//! instructions, what a frame of a flood costs a hub with kernel WireGuard is what it takes, with the guard and without,
//! beside a frame that is dropped by such a program where it arrives: all of the kernel's work until nobody has anything
//! left to do, WireGuard's workers and their cookies included.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::TcAttachType;
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};
use relay_common::{UplinkVerdict, mac1::MacKey, uplink::Limit};
use relay_tests::{
    namespace::{output, run, sysctl},
    uplink::{
        Guard, HERE, KEY, PORT, THERE, frame,
        message::{made_up, noise, public_key},
    },
};
use relay_user::key::PublicKey;
use serde_json::{Value, json};

use crate::{
    hub::{mac, spoke, within},
    kinds::{FAR, NEAR},
    machine,
    programs::Programs,
    spread::Spread,
};

/// Frames in one run, and runs.
const FRAMES: u32 = 32_768;
const ROUNDS: usize = 31;

/// Frames of a flood that differ, which is as many as the source holds, and how often they come: the first times are
/// those in which limits are still reached, and the last one is what counts.
const DIFFERENT: u32 = 4096;
const TIMES: usize = 4;

/// How long the kernel's workers have after each time. What they have not done then they do the next time, as always.
const REST: Duration = Duration::from_millis(50);

/// How long they have after all of them: 4,096 handshakes may be queued.
const AFTER: Duration = Duration::from_secs(5);

/// Longest that frames may take to their end.
const DEADLINE: Duration = Duration::from_secs(5);

/// Without any limit.
const NONE: Limit = Limit { interval: 0, tolerance: 0 };

/// A hub's machine, which the calling thread is in from now on, and the end of its cable from which frames come.
fn hub() -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("making the hub's namespace")?;
    sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    run("ip link set lo up")?;
    let near = spoke("near", 1, "eth0")?;
    run(&format!("ip address add {}/24 dev eth0", HERE[0]))?;
    run("ip link set eth0 up")?;
    run("ethtool -K eth0 gro on")?;
    run("ip address add 172.31.1.1/24 dev eth0")?;
    run(&format!("ip neighbour add 172.31.1.2 lladdr {} dev eth0", mac(NEAR)))?;
    run("ip route add default via 172.31.1.2")?;
    Ok(near)
}

fn near_index(near: &File) -> Result<u32> {
    within(near, || Ok(nix::net::if_::if_nametoindex("near")?))
}

fn datagram(from: IpAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = frame(SocketAddr::new(from, 40_000), SocketAddr::new(HERE[0].parse()?, PORT), payload);
    frame[..6].copy_from_slice(&FAR);
    Ok(frame)
}

/// What the guard takes for a packet on this kernel.
pub(crate) fn measure(objects: &Path, quick: bool) -> Result<Value> {
    let machine = machine::describe();
    let near = hub()?;
    machine::hold_one_cpu()?;
    let mut programs = Programs::load(objects, near_index(&near)?, 0)?;
    programs.on("count_and_drop", "eth0", TcAttachType::Ingress)?;
    let mut guard = Guard::new(&objects.join("relay.bpf.o"))?;
    guard.settings.junk = NONE;
    guard.usual();
    guard.apply()?;
    let from: IpAddr = THERE[0].parse()?;
    let kinds = [
        ("dropped for its type", UplinkVerdict::UnknownType, vec![9; 148]),
        ("dropped for its mac1", UplinkVerdict::BadMac1, made_up(&public_key(KEY + 1), 1)),
        ("passed, data", UplinkVerdict::Data, [&[4, 0, 0, 0][..], &[0; 144]].concat()),
    ];
    let (rounds, frames) = if quick { (1, 256) } else { (ROUNDS, FRAMES) };
    let mut runs = vec![Vec::new(); kinds.len()];
    for _ in 0..rounds {
        for ((_, verdict, payload), runs) in kinds.iter().zip(&mut runs) {
            programs.fill(&[datagram(from, payload)?])?;
            let bare = if verdict.drops() {
                programs.end_frames_on("eth0")?
            } else {
                programs.pass_frames_on("eth0")?
            };
            let before = programs.counts()?;
            let baseline = within(&near, || programs.send(frames))?;
            all_came(frames, || Ok(programs.counts()? - before))?;
            drop(bare);
            let link = guard.attach("eth0")?;
            guard.moved()?;
            let with = within(&near, || programs.send(frames))?;
            let mut judged = 0;
            all_came(frames, || {
                judged += guard.moved()?.get(verdict).copied().unwrap_or_default();
                Ok(judged)
            })?;
            drop(link);
            runs.push(with - baseline);
        }
    }
    let rows = kinds
        .iter()
        .zip(runs)
        .map(|((name, ..), runs)| json!({ "kind": name, "net": Spread::of(runs).map(Spread::json) }));
    let rows: Vec<Value> = rows.collect();
    Ok(json!({ "bench": "uplink", "machine": machine, "packets": frames, "rounds": rounds, "rows": rows }))
}

/// Waits until all frames have come to their end: where the kernel is busy it puts some off.
fn all_came(frames: u32, mut count: impl FnMut() -> Result<u64>) -> Result<()> {
    let begun = Instant::now();
    loop {
        match count()? {
            all if all == u64::from(frames) => return Ok(()),
            some => ensure!(begun.elapsed() < DEADLINE, "{some} of {frames} frames came to their end"),
        }
        sleep(Duration::from_millis(1));
    }
}

/// A flood: its name, and its frames.
type Flood = (&'static str, Vec<Vec<u8>>);

fn all_floods(key: &[u8; 32]) -> Result<Vec<Flood>> {
    let one: IpAddr = THERE[0].parse()?;
    let forged = |number: u64| {
        let [.., b, c] = number.to_be_bytes();
        IpAddr::from([198, 18, b, c])
    };
    let numbers = || 0..u64::from(DIFFERENT);
    let junk = |number| [&[1, 0, 0, 0][..], &noise(number, 144)].concat();
    let frames = |of: &dyn Fn(u64) -> Result<Vec<u8>>| numbers().map(of).collect::<Result<Vec<_>>>();
    Ok(vec![
        ("random bytes", frames(&|number| datagram(one, &noise(number, 148)))?),
        ("random bytes, forged sources", frames(&|number| datagram(forged(number), &noise(number, 148)))?),
        ("right length", frames(&|number| datagram(one, &junk(number)))?),
        ("right length, forged sources", frames(&|number| datagram(forged(number), &junk(number)))?),
        ("right mac1", frames(&|number| datagram(one, &made_up(key, number)))?),
        ("right mac1, forged sources", frames(&|number| datagram(forged(number), &made_up(key, number)))?),
        ("replay", vec![datagram(one, &made_up(key, 0))?]),
    ])
}

/// What a frame of each flood costs a hub.
pub(crate) fn floods(objects: &Path, quick: bool) -> Result<Value> {
    let machine = machine::describe();
    let near = hub()?;
    run("ip link add wg0 type wireguard")?;
    let secret = "/run/bench-uplink.key";
    fs::write(secret, output("wg genkey")?)?;
    run(&format!("wg set wg0 listen-port {PORT} private-key {secret}"))?;
    fs::remove_file(secret)?;
    let key: PublicKey = output("wg show wg0 public-key")?.trim().parse()?;
    run("ip link set wg0 up")?;
    let mut programs = Programs::load_timed(objects, near_index(&near)?)?;
    programs.on("count_and_drop", "eth0", TcAttachType::Egress)?;
    programs.open_sink(false)?;
    let mut rows = Vec::new();
    for (name, frames) in all_floods(key.as_bytes())? {
        programs.fill(&frames)?;
        let times = if quick { 1 } else { TIMES };
        // The least of them: what the kernel does now and then is not this flood's.
        let bare = programs.end_frames_on("eth0")?;
        let baseline = passes(&mut programs, &near, times.max(2))?.into_iter().fold(f64::INFINITY, f64::min);
        drop(bare);
        let without = passes(&mut programs, &near, times)?;
        let mut guard = Guard::new(&objects.join("relay.bpf.o"))?;
        guard.settings.keys[0] = MacKey::of(key.as_bytes());
        guard.usual();
        guard.apply()?;
        let link = guard.attach("eth0")?;
        let with = passes(&mut programs, &near, times)?;
        drop(link);
        let moved = guard.moved()?;
        let verdicts: serde_json::Map<String, Value> =
            moved.iter().map(|(verdict, count)| (verdict.name().to_owned(), (*count).into())).collect();
        let last = |passes: &[f64]| passes.last().copied().unwrap_or_default();
        eprintln!("    {name}: baseline {baseline:.0}, without {without:.0?}, with {with:.0?}");
        rows.push(json!({
            "flood": name, "baseline": baseline, "without": last(&without), "with": last(&with), "verdicts": verdicts,
        }));
    }
    Ok(json!({ "bench": "uplink", "machine": machine, "packets": DIFFERENT, "rows": rows }))
}

/// Sends the flood again and again, and says what a frame took each time: all the time that is not left to somebody who
/// wants no more than what nobody else does. (The kernel waits for its ticks before and after a flood.)
fn passes(programs: &mut Programs, near: &File, times: usize) -> Result<Vec<f64>> {
    let (stop, left) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let idle = scope.spawn(|| -> Result<()> {
            machine::go_last()?;
            while !stop.load(Ordering::Relaxed) {
                let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
                left.store(u64::try_from(Duration::from(used).as_nanos())?, Ordering::Relaxed);
            }
            Ok(())
        });
        let pass = || {
            let (begun, before) = (Instant::now(), left.load(Ordering::Relaxed));
            within(near, || programs.send(DIFFERENT))?;
            sleep(REST);
            let idle = left.load(Ordering::Relaxed) - before;
            let took = u64::try_from(begun.elapsed().as_nanos())?;
            Ok(took.saturating_sub(idle) as f64 / f64::from(DIFFERENT))
        };
        let passes = std::iter::repeat_with(pass).take(times).collect();
        stop.store(true, Ordering::Relaxed);
        sleep(AFTER);
        idle.join().map_err(|_| anyhow!("a thread died"))??;
        passes
    })
}
