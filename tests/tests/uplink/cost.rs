//! What a packet costs the guard; what it saves a hub is what `cargo xtask bench uplink` is for.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use relay_common::uplink::Limit;
use relay_tests::{
    guest::fact,
    program::object,
    uplink::{
        Guard, KEY, THERE, datagram,
        message::{made_up, public_key},
    },
};
use serde_json::json;

/// How often the program runs on a frame.
const TIMES: u32 = 10_000;

/// How often that is measured. Others on the processor make a measurement longer, and none shorter.
const RUNS: usize = 5;

/// Without any limit.
const NONE: Limit = Limit { interval: 0, tolerance: 0 };

/// Nanoseconds of the program on this frame, again and again; the least of some measurements.
fn of_the_guard(guard: &mut Guard, payload: &[u8]) -> Result<u64> {
    let from: IpAddr = THERE[0].parse()?;
    let frame = datagram(from, payload);
    let runs = (0..RUNS).map(|_| guard.nanoseconds(&frame, TIMES)).collect::<Result<Vec<_>>>()?;
    runs.into_iter().min().context("no run")
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
