//! On, replaced, off and removed while packets come: none of them is lost, none comes twice.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use relay_tests::netns::wait_for;

use crate::{DEADLINE, HUB, PORT, configured, has_program, machines, wait_for_guard};

/// A port beside the one that is watched.
const OTHER: u16 = PORT + 1;

#[test]
fn on_replaced_off_and_removed_without_losing_a_packet() -> Result<()> {
    let (machine, neighbour) = machines()?;
    // Without it veth has a ring only while a program is attached, and forgets what is in it when that goes.
    machine.run("ethtool -K eth0 gro on")?;
    let mut hub = configured(&machine)?;
    let receiver = machine.inside(|| Ok(UdpSocket::bind((HUB, OTHER))?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let sender = neighbour.inside(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
    sender.connect(SocketAddr::new(HUB.parse()?, OTHER))?;

    let (stop, sent, received) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if sender.send(&[7; 100]).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 128];
            while !stop.load(Ordering::Relaxed)
                || received.load(Ordering::Relaxed) < sent.load(Ordering::Relaxed)
            {
                match receiver.recv(&mut buffer) {
                    Ok(_) => drop(received.fetch_add(1, Ordering::Relaxed)),
                    // What was sent last is here long before that.
                    Err(_) if stop.load(Ordering::Relaxed) => break,
                    Err(_) => {}
                }
            }
        });
        let moved = through_its_life(&machine, &mut hub, &sent);
        stop.store(true, Ordering::Relaxed);
        moved
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
