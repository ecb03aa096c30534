//! The machine sleeps and wakes: WireGuard has wiped its keys meanwhile (drivers/net/wireguard/device.c,
//! `wg_pm_notification`), and the first packet brings new ones.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{UDP_TIMEOUT, carried_whole, relay, web, with_everybody, world::NAS4},
    netns::wait_for,
};
use serde_json::json;

/// Five times what the slowest of these waits took under emulation, as the host counts.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long until the clock wakes it, in seconds: five times what a busy machine takes to fall asleep.
const SLEEP: u32 = 10;

/// Suspends the machine until its clock wakes it.
fn sleep() -> Result<()> {
    fs::write("/sys/class/rtc/rtc0/wakealarm", format!("+{SLEEP}")).context("setting the alarm")?;
    // To RAM, which QEMU's clock wakes from; the writer comes back when the machine is awake.
    fs::write("/sys/power/mem_sleep", "deep").context("choosing suspend to RAM")?;
    fs::write("/sys/power/state", "mem").context("suspending to RAM")
}

#[test]
fn after_sleep_the_first_packet_shakes_hands() -> Result<()> {
    if guest::line().is_none() {
        guest::skip("suspend: this machine is everybody's, only a guest may sleep");
        return Ok(());
    }
    with_everybody(&relay::binary()?, UDP_TIMEOUT, |world, relay| {
        let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec())])?;
        let page = format!("http://{NAS4}/");
        carried_whole(world, relay, &page)?;
        let slept =
            || -> Result<u64> { Ok(fs::read_to_string("/sys/power/suspend_stats/success")?.trim().parse()?) };
        let (before, sleeps) = (relay.stats()?, slept()?);
        sleep()?;
        ensure!(slept()? == sleeps + 1, "the machine did not sleep");
        wait_for("the page after sleep", DEADLINE, || web::fetch(&world.phone, &page).map(drop))?;
        let after = relay.stats()?;
        for name in ["home", "phone"] {
            let (old, new) = (before.handshake(name)?, after.handshake(name)?);
            ensure!(new >= old + u64::from(SLEEP), "{name} kept its keys over the sleep: {old}, {new}");
        }
        ensure!(after.fast_path_is_on(), "{}", after.0["fast_path"]);
        let (redirected, seen) = after.since(&before)?;
        ensure!(redirected > 0 && redirected == seen, "{redirected} of {seen} packets took the fast path");
        let programs = relay::programs_on(&world.vps, "wg0")?;
        ensure!(programs == 1, "{programs} programs on the hook");
        guest::fact(&json!({"fault": "suspend", "seconds": SLEEP, "redirected": redirected, "seen": seen}));
        Ok(())
    })
}
