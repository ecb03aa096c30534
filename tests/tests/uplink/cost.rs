//! What a packet costs: of the guard alone, and of the hub with and without it.
//!
//! `cargo xtask test vm --accelerator icount --program uplink --filter cost` counts instructions: there a nanosecond of the
//! guest is one.

use std::{env, net::IpAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use relay_common::uplink::{Limit, PrefixRule};
use relay_tests::{
    guest::{fact, skip},
    lab::relay::Relay,
    netns::Netns,
    packet_socket::PacketSocket,
    program::object,
    tun::VnetHeader,
    uplink::{
        Guard, KEY, THERE, datagram,
        message::{made_up, noise, public_key},
    },
};
use relay_user::key::PublicKey;
use serde_json::json;

use crate::{configured, hub_frame, machines, spoofed, wait_for_guard};

/// How often the program runs on a frame.
const TIMES: u32 = 10_000;

/// Without any limit.
const NONE: Limit = Limit { interval: 0, tolerance: 0 };

/// Nanoseconds of the program on this frame, again and again.
fn of_the_guard(guard: &mut Guard, payload: &[u8]) -> Result<u64> {
    let from: IpAddr = THERE[0].parse()?;
    guard.nanoseconds(&datagram(from, payload), TIMES)
}

#[test]
fn of_the_guard_alone() -> Result<()> {
    let mut guard = Guard::new(&object()?)?;
    guard.settings.junk = NONE;
    guard.settings.source = NONE;
    guard.apply()?;
    let dropped = of_the_guard(&mut guard, &[9; 100])?;
    let passed = of_the_guard(&mut guard, &[&[4, 0, 0, 0][..], &[0; 96]].concat())?;
    let checked = of_the_guard(&mut guard, &made_up(&public_key(KEY + 1), 1))?;
    fact(&json!({"uplink, ns a packet": {"dropped": dropped, "passed": passed, "mac1 checked": checked}}));
    ensure!(checked > dropped, "a mac1 costs nothing: {checked} ns, and {dropped} without");
    Ok(())
}

/// Frames of a flood.
const PACKETS: usize = 20_000;

/// Nanoseconds for each frame, from the neighbour's socket to whatever becomes of it at the hub.
fn of_all(socket: &PacketSocket, frames: &[Vec<u8>]) -> Result<f64> {
    let begun = Instant::now();
    for frame in frames.iter().cycle().take(PACKETS) {
        socket.send(VnetHeader::default(), frame)?;
    }
    Ok(begun.elapsed().as_nanos() as f64 / PACKETS as f64)
}

fn mode(hub: &Relay<'_>, from: &str, to: &str) -> Result<()> {
    hub.edit(&format!("mode = \"{from}\""), &format!("mode = \"{to}\""))?;
    hub.run(&["reload"])?;
    let (on, words) = if to == "off" { (false, "off") } else { (true, "native") };
    wait_for_guard(hub, on, words)
}

#[test]
fn of_the_hub_in_instructions() -> Result<()> {
    if env::var_os("RELAY_ICOUNT").is_none() {
        skip("instructions are counted with --accelerator icount only");
        return Ok(());
    }
    let (machine, neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    hub.edit("[firewall]", "[uplink]\nmode = \"native\"\ndeny = [\"203.0.113.66\"]\n\n[firewall]")?;
    hub.up()?;
    wait_for_guard(&hub, true, "native")?;
    let socket = neighbour.inside(|| PacketSocket::open("eth0"))?;
    let baseline = baseline(&machine, &socket)?;

    let floods = floods(&machine)?;
    let mut with = Vec::new();
    for (name, frames, _) in &floods {
        with.push((name, of_all(&socket, frames)? - baseline));
    }
    mode(&hub, "native", "off")?;
    for ((name, with), (_, frames, least)) in with.into_iter().zip(&floods) {
        let without = of_all(&socket, frames)? - baseline;
        let saved = without / with;
        fact(
            &json!({"flood": name, "with the guard": with as u64, "without": without as u64, "times": saved}),
        );
        ensure!(
            saved >= *least,
            "{name}: {with:.0} with the guard, {without:.0} without: {saved:.1} times less"
        );
    }
    Ok(())
}

/// What sending a frame takes before the hub has anything to do with it: of one that is denied, all but the program.
fn baseline(machine: &Netns, socket: &PacketSocket) -> Result<f64> {
    let denied = hub_frame(machine, "203.0.113.66".parse()?, &[9; 100])?;
    let all = of_all(socket, &[denied])?;
    let mut guard = Guard::new(&object()?)?;
    guard.rule("203.0.113.9/32".parse()?, PrefixRule::DENY)?;
    let program = of_the_guard(&mut guard, &[9; 100])?;
    fact(&json!({"a denied packet": all as u64, "of that the program": program}));
    Ok(all - program as f64)
}

/// Each flood with how much less it must cost.
fn floods(machine: &Netns) -> Result<Vec<(&'static str, Vec<Vec<u8>>, f64)>> {
    const DIFFERENT: u64 = 4096;
    let text = machine.run("wg show wg0 public-key")?;
    let key = *text.trim().parse::<PublicKey>().context("the hub's key")?.as_bytes();
    let one: IpAddr = "203.0.113.9".parse()?;
    let from_one = |payload: &dyn Fn(u64) -> Vec<u8>| -> Result<Vec<Vec<u8>>> {
        (0..DIFFERENT).map(|number| hub_frame(machine, one, &payload(number))).collect()
    };
    let spoofed: Result<Vec<Vec<u8>>> = (0..PACKETS as u64)
        .map(|number| hub_frame(machine, spoofed(number), &made_up(&key, number)))
        .collect();
    Ok(vec![
        ("random bytes", from_one(&|number| noise(number, 148))?, 10.0),
        ("right length", from_one(&|number| [&[1, 0, 0, 0][..], &noise(number, 144)].concat())?, 10.0),
        ("right mac1, one source", from_one(&|number| made_up(&key, number))?, 5.0),
        ("right mac1, spoofed sources", spoofed?, 5.0),
        ("replay", vec![hub_frame(machine, one, &made_up(&key, DIFFERENT))?], 5.0),
    ])
}
