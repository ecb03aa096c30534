//! A firewall that begins to drop is honoured within two seconds on a machine at rest, and one that stops as well, with
//! people connected.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
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

/// What a guest may make of it, whose processors are emulated.
const PROMISE_OF_GUESTS: Duration = Duration::from_secs(4);

/// What it promises for legacy iptables, which reports nothing, where a look takes the CPU so long that it rests the
/// longest time twice (`daemon::LONGEST_REST`); and the looks themselves.
const SLOW_PROMISE: Duration = Duration::from_secs(40);

/// How often a machine that others use too may try to keep it.
const ATTEMPTS: usize = 5;

/// How long packets in queues may take to arrive.
const DRAINED: Duration = Duration::from_secs(10);

/// What is promised of this machine, over what the kernel reports or does not.
fn promise(reported: bool) -> Duration {
    match (guest::line(), reported) {
        (None, _) => PROMISE,
        (Some(_), true) => PROMISE_OF_GUESTS,
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

/// Off after `closes`, on again after `opens`, both as soon as is promised.
fn honoured(
    star: &Star,
    what: &str,
    promise: Duration,
    closes: impl Fn() -> Result<()>,
    opens: impl Fn() -> Result<()>,
) -> Result<()> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut slow = Vec::new();
    while slow.len() < ATTEMPTS {
        let (off, on) = closed_and_opened(star, what, &closes, &opens)?;
        guest::fact(&serde_json::json!({
            "firewall": what, "promised_ms": milliseconds(promise), "off_after_ms": milliseconds(off),
            "on_after_ms": milliseconds(on)
        }));
        if off.max(on) <= promise {
            return Ok(());
        }
        slow.push((off, on));
    }
    bail!("{what}: off and on again only after {slow:?}, {promise:?} are promised")
}

/// How long it took until off, and until on again; nothing goes by the fast path in between.
fn closed_and_opened(
    star: &Star,
    what: &str,
    closes: impl Fn() -> Result<()>,
    opens: impl Fn() -> Result<()>,
) -> Result<(Duration, Duration)> {
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
    // The program is done with whatever it saw before the next one.
    first(&maps, Verdict::Off, count(&maps, Verdict::Off)?)?;
    let redirected = count(&maps, Verdict::Redirected)?;
    // WireGuard may still have some of those in its queues, each of which begins the round anew.
    let mut arrived = requests(star.home())?;
    let mut begun = count(&maps, Verdict::Off)?;
    wait_for("packets that do not come through", DRAINED, || {
        let off = count(&maps, Verdict::Off)?;
        let now = requests(star.home())?;
        if now != arrived {
            let told = format!("{what}: {arrived} had come through, now {now}");
            (arrived, begun) = (now, count(&maps, Verdict::Off)?);
            bail!(told);
        }
        ensure!(off >= begun + QUIET, "{} packets", off - begun);
        Ok(())
    })?;
    let after = count(&maps, Verdict::Redirected)?;
    ensure!(after == redirected, "{what}: {} packets were redirected after all", after - redirected);

    opens()?;
    let until_on = first(&maps, Verdict::Redirected, redirected)?;
    wait_for("pings at home again", DEADLINE, || {
        ensure!(requests(star.home())? > arrived, "none arrived");
        Ok(())
    })?;
    star.phone().kill(pinging)?;
    Ok((until_off, until_on))
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
