//! On, replaced, off and removed while packets come: none of them is lost, none comes twice.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use relay_tests::netns::wait_for;

use crate::{DEADLINE, HUB, PORT, alone, configured, has_program, machines, wait_for_guard};

/// A port beside the one that is watched.
const OTHER: u16 = PORT + 1;

/// Room in bytes for what comes, some seconds of it, while whoever receives it is kept from the processor.
const ROOM: usize = 16 << 20;

#[test]
fn on_replaced_off_and_removed_without_losing_a_packet() -> Result<()> {
    let _alone = alone();
    let (machine, neighbour) = machines()?;
    // Without it veth has a ring only while a program is attached, and forgets what is in it when that goes.
    machine.run("ethtool -K eth0 gro on")?;
    let mut hub = configured(&machine)?;
    let receiver = machine.inside(|| Ok(UdpSocket::bind((HUB, OTHER))?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    setsockopt(&receiver, RcvBufForce, &ROOM)?;
    let sender = neighbour.inside(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
    sender.connect(SocketAddr::new(HUB.parse()?, OTHER))?;

    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        let sending = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if sender.send(&[7; 100]).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 128];
            while !over.load(Ordering::Relaxed) {
                if receiver.recv(&mut buffer).is_ok() {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let moved = through_its_life(&machine, &mut hub, &sent);
        stop.store(true, Ordering::Relaxed);
        // Only then has it counted all that it sent.
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let all = moved.and_then(|()| {
            wait_for("the last packets", DEADLINE, || {
                let (sent, received) = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
                ensure!(received >= sent, "{received} of {sent} packets came");
                Ok(())
            })
        });
        over.store(true, Ordering::Relaxed);
        all
    })?;
    let (sent, received) = (sent.into_inner(), received.into_inner());
    ensure!(sent > 100 && received == sent, "{received} of {sent} packets came");
    Ok(())
}

fn through_its_life(
    machine: &relay_tests::netns::Netns,
    hub: &mut relay_tests::lab::relay::Relay<'_>,
    sent: &AtomicU64,
) -> Result<()> {
    // Some packets between one step and the next.
    let rest = || {
        let begun = sent.load(Ordering::Relaxed);
        wait_for("packets", DEADLINE, || {
            ensure!(sent.load(Ordering::Relaxed) > begun + 20);
            Ok(())
        })
    };
    rest()?;
    hub.up()?;
    wait_for_guard(hub, true, "native, on eth0")?;
    rest()?;
    hub.kill()?;
    ensure!(has_program(machine, "eth0")?, "it goes on without a daemon");
    hub.up()?;
    wait_for_guard(hub, true, "native, on eth0")?;
    rest()?;
    hub.edit("[firewall]", "[uplink]\nmode = \"off\"\n\n[firewall]")?;
    hub.run(&["reload"])?;
    wait_for_guard(hub, false, "mode = \"off\"")?;
    rest()?;
    hub.edit("mode = \"off\"", "mode = \"native\"")?;
    hub.run(&["reload"])?;
    wait_for_guard(hub, true, "native, on eth0")?;
    rest()?;
    hub.run(&["down"])?;
    ensure!(!has_program(machine, "eth0")?);
    rest()
}
