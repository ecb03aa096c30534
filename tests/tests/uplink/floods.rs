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
        pings::Pings,
        received::Received,
        world::VPS,
    },
    netns::{Netns, wait_for},
    packet_socket::PacketSocket,
    tun::VnetHeader,
    uplink::message::{made_up, noise},
};
use relay_user::key::PublicKey;
use serde_json::json;

use crate::{DEADLINE, HUB, PORT, alone, configured, counted, hub_frame, machines, spoofed, wait_for_guard};

/// Datagrams that are sent again and again.
const DIFFERENT: u64 = 2048;

/// So many at once.
const BURST: usize = 64;

/// Who floods.
const ATTACKER: &str = "198.51.100.66";

/// The hub's address in the tunnel.
const INSIDE: &str = "10.9.0.1";

/// Pings through the tunnel during each flood.
const PINGS: u32 = 200;

/// So many of them may get no answer.
const LOST: usize = 1;

/// A handshake in a flood of one source may take so long; measured: 0.1 s.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// How often a flood is tried. Packets that the cable drops, when the hub's processor is elsewhere for as long as its ring
/// takes to fill, say nothing about the guard.
const ROUNDS: u32 = 5;

/// Under forged sources a handshake has come by then; measured: 5.1 s, one retry.
const SOON: Duration = Duration::from_secs(30);

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
    let _alone = alone();
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
        for round in 1..=ROUNDS {
            let (before, dropped_before) = (counted(&hub, verdict)?, dropped(&neighbour)?);
            let ((lost, took), sent) = during(&neighbour, &machine, &datagrams, || {
                let lost = lost(&neighbour)?;
                Ok((lost, new_handshake(&neighbour)?))
            })?;
            let dropped = dropped(&neighbour)? - dropped_before;
            wait_for("the guard to have counted most of it", DEADLINE, || {
                let counted = counted(&hub, verdict)? - before;
                ensure!(
                    counted > sent.saturating_sub(dropped) / 2,
                    "{name}: {counted} of {sent} as {verdict}"
                );
                Ok(())
            })?;
            let took_seconds = took.as_secs_f64();
            fact(&json!({"flood": name, "sent": sent, "dropped by the cable": dropped, "pings lost": lost,
                "handshake s": took_seconds}));
            let (few, soon) = (lost <= LOST, took < patience(HANDSHAKE));
            if few && soon {
                break;
            }
            if dropped == 0 || round == ROUNDS {
                ensure!(few, "{name}: {lost} of {PINGS} pings were lost");
                ensure!(soon, "{name}: a handshake took {took:?}");
            }
        }
    }
    Ok(())
}

/// How much the cable has dropped of what that machine sent: it found no room in the ring of the other end.
fn dropped(from: &Netns) -> Result<u64> {
    let text = from.run("cat /sys/class/net/eth0/statistics/tx_dropped")?;
    Ok(text.trim().parse()?)
}

/// A flood of right initiations whose sources are forged, each another one, is what the limit of all sources is for. Who
/// asks first is turned away with it, most likely, and let in when WireGuard asks again, after five seconds; as the kernel
/// does with its cookies. How long that takes without the guard is measured where instructions are counted.
#[test]
fn a_newcomer_gets_in_under_forged_sources() -> Result<()> {
    let _alone = alone();
    let (machine, neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    let config = hub.run(&["peer", "add", "laptop"])?.replace(VPS, HUB);
    hub.edit("[firewall]", "[uplink]\nmode = \"native\"\n\n[firewall]")?;
    hub.up()?;
    wait_for_guard(&hub, true, "native")?;
    let text = machine.run("wg show wg0 public-key")?;
    let key = *text.trim().parse::<PublicKey>().context("the hub's key")?.as_bytes();
    let frames: Result<Vec<Vec<u8>>> = (0..4 * DIFFERENT)
        .map(|number| hub_frame(&machine, spoofed(number), &made_up(&key, number)))
        .collect();
    let frames = frames?;
    let socket = neighbour.inside(|| PacketSocket::open("eth0"))?;
    let flood = |frame: &[u8]| socket.send(VnetHeader::default(), frame).is_ok();

    let before = counted(&hub, "global_rate")?;
    let (took, sent) = while_flooded(&machine, &frames, &flood, || {
        wait_for("the flood to reach its limit", DEADLINE, || {
            ensure!(counted(&hub, "global_rate")? > before);
            Ok(())
        })?;
        wg_quick_up(&neighbour, "laptop", &config)?;
        get_in(&neighbour)
    })?;
    let turned_away = counted(&hub, "global_rate")? - before;
    let mut told = json!({"flood": "forged sources", "sent": sent, "turned away": turned_away,
        "a newcomer's handshake with the guard, s": took.as_secs_f64()});
    if std::env::var_os("RELAY_ICOUNT").is_some() {
        hub.edit("mode = \"native\"", "mode = \"off\"")?;
        hub.run(&["reload"])?;
        let (took, _) = while_flooded(&machine, &frames, &flood, || new_handshake(&neighbour))?;
        told["without, s"] = json!(took.as_secs_f64());
    }
    fact(&told);
    ensure!(took < patience(SOON), "it took {took:?}");
    Ok(())
}

/// Does something while this comes to the hub's port from [`ATTACKER`]; and how much came.
fn during<T>(
    from: &Netns,
    hub: &Netns,
    datagrams: &[Vec<u8>],
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let socket = from.inside(|| Ok(UdpSocket::bind((ATTACKER, 0))?))?;
    socket.connect((HUB, PORT))?;
    while_flooded(hub, datagrams, &|datagram: &[u8]| socket.send(datagram).is_ok(), act)
}

/// Does something while all of these are sent again and again, no faster than the hub's uplink takes them in, since what the
/// ring of a cable has no room for says nothing about the guard; and how many were.
fn while_flooded<T>(
    hub: &Netns,
    datagrams: &[Vec<u8>],
    send: &(impl Fn(&[u8]) -> bool + Sync),
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let received = Received::of(hub)?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        let flooding = scope.spawn(|| -> Result<()> {
            for burst in datagrams.chunks(BURST).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let before = received.count()?;
                let count = burst.iter().cycle().take(BURST).filter(|datagram| send(datagram)).count();
                sent.fetch_add(count as u64, Ordering::Relaxed);
                received.reaches(before + count as u64)?;
                // Others need the processor, too.
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let done = act();
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        done
    })?;
    Ok((done, sent.into_inner()))
}

/// How many of some [`PINGS`] through the tunnel get no answer.
fn lost(peer: &Netns) -> Result<usize> {
    let pings = Pings::start(peer, INSIDE.parse()?)?;
    pings.more(PINGS, LONGEST)?;
    Ok(pings.end()?.lost.len())
}

/// How long the peer takes to a session with the hub when it has none.
fn new_handshake(peer: &Netns) -> Result<Duration> {
    new_session(peer, "laptop")?;
    get_in(peer)
}

/// How long the peer takes to its first answer.
fn get_in(peer: &Netns) -> Result<Duration> {
    let begun = Instant::now();
    wait_for("a new handshake", LONGEST, || {
        // Only the first one asks for a handshake; what is dropped then is asked for by WireGuard's own timers.
        peer.run(&format!("ping -n -c 1 -W 0.1 {INSIDE}"))
    })?;
    Ok(begun.elapsed())
}
