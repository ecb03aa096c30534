//! A firewall that begins to drop is honoured within two seconds, and one that stops as well, with people connected.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use relay_common::Verdict;
use relay_tests::{guest, netns::wait_for};
use relay_user::kernel::datapath::PinnedMaps;

use crate::{
    DEADLINE, maps, quiet,
    star::{self, Star, count_requests, keep_pinging, requests, with_two},
    wait_for_fast_path,
};

/// What relay promises (`daemon::TICK`).
const PROMISE: Duration = Duration::from_secs(2);

/// What it promises for legacy iptables, which reports nothing, where a look takes the CPU so long that it rests the
/// longest time twice (`daemon::LONGEST_REST`); and the looks themselves.
const SLOW_PROMISE: Duration = Duration::from_secs(40);

/// How long this machine may take over what the kernel reports, and over what it does not. A guest, whose processors are
/// emulated on ones that another guest uses too, may take twice as long over the first.
fn promise(reported: bool) -> Duration {
    match (guest::line(), reported) {
        (None, _) => PROMISE,
        (Some(_), true) => PROMISE * 2,
        (Some(_), false) => SLOW_PROMISE,
    }
}

/// Packets that must go by the stack, one after the other, before nothing more is expected by the fast path.
const QUIET: u64 = 50;

fn count(maps: &PinnedMaps, verdict: Verdict) -> Result<u64> {
    Ok(maps.counters()?.verdict(verdict))
}

/// Until one more packet than `before` got that verdict; looked at each 20 ms.
fn first(maps: &PinnedMaps, verdict: Verdict, before: u64) -> Result<Duration> {
    let begun = Instant::now();
    let longest = guest::patience(DEADLINE);
    while count(maps, verdict)? <= before {
        ensure!(begun.elapsed() < longest, "no packet was {} within {longest:?}", verdict.name());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(begun.elapsed())
}

/// Off after `closes`, on again after `opens`, both within the promise; nothing by the fast path in between.
fn honoured(
    star: &Star,
    what: &str,
    promise: Duration,
    closes: impl Fn() -> Result<()>,
    opens: impl Fn() -> Result<()>,
) -> Result<()> {
    let maps = maps(&star.hub)?;
    count_requests(star.home())?;
    let pinging = keep_pinging(star.phone(), "10.9.0.2")?;
    wait_for("pings by the fast path", DEADLINE, || {
        ensure!(requests(star.home())? > 0, "none arrived");
        Ok(())
    })?;
    let off = count(&maps, Verdict::Off)?;
    closes()?;
    let until_off = first(&maps, Verdict::Off, off)?;
    // A packet that another CPU had in its hands at that moment may still count.
    thread::sleep(Duration::from_millis(100));
    let (redirected, arrived) = (count(&maps, Verdict::Redirected)?, requests(star.home())?);
    let now = count(&maps, Verdict::Off)?;
    wait_for("packets that are not redirected", DEADLINE, || {
        let off = count(&maps, Verdict::Off)?;
        ensure!(off >= now + QUIET, "{} packets", off - now);
        Ok(())
    })?;
    ensure!(
        count(&maps, Verdict::Redirected)? == redirected,
        "{what}: packets were redirected after it was off"
    );
    ensure!(requests(star.home())? == arrived, "{what}: packets passed a firewall that drops them");

    opens()?;
    let until_on = first(&maps, Verdict::Redirected, redirected)?;
    wait_for("pings at home again", DEADLINE, || {
        ensure!(requests(star.home())? > arrived, "none arrived");
        Ok(())
    })?;
    star.phone().kill(pinging)?;
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    guest::fact(&serde_json::json!({
        "firewall": what, "off_after_ms": milliseconds(until_off), "on_after_ms": milliseconds(until_on)
    }));
    for (way, took) in [("off", until_off), ("on", until_on)] {
        ensure!(took <= promise, "{what}: {way} only after {took:?}");
    }
    Ok(())
}

#[test]
fn a_drop_policy_of_nftables() -> Result<()> {
    let _quiet = quiet();
    with_two(|star, hub| {
        let closes = || {
            star.hub.nft(
                "add table ip admin\nadd chain ip admin steer { type filter hook forward priority 0; policy drop; }",
            )
        };
        honoured(star, "nftables", promise(true), closes, || star.hub.nft("delete table ip admin"))?;
        wait_for_fast_path(hub, true)?;
        star::goes_fast(star, hub)
    })
}

#[test]
fn a_drop_policy_of_legacy_iptables() -> Result<()> {
    let _quiet = quiet();
    with_two(|star, hub| {
        if let Err(error) = star.hub.run("iptables-legacy -S FORWARD") {
            guest::skip(&format!("legacy iptables: {error:#}"));
            return Ok(());
        }
        wait_for_fast_path(hub, true)?;
        let policy = |policy: &str| star.hub.run(&format!("iptables-legacy -P FORWARD {policy}")).map(drop);
        honoured(star, "legacy iptables", promise(false), || policy("DROP"), || policy("ACCEPT"))
    })
}
