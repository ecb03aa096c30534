//! What a test can know of the guest it runs in, and say to the table that `cargo xtask test vm` prints.

use std::{fs, time::Duration};

/// The kernel line of the guest, as "6.12"; nothing outside of a guest.
pub fn line() -> Option<String> {
    fs::read_to_string("/etc/relay-vm-guest").ok().map(|text| text.trim().to_owned())
}

/// The running kernel's version, as (6, 12).
///
/// # Panics
/// When /proc/sys/kernel/osrelease does not begin with two numbers.
pub fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("reading the kernel's release");
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => panic!("{release:?} does not begin with two numbers"),
    }
}

/// How much slower a guest may be than the host, when its processors are emulated on ones that others use too.
const SLOWNESS: u32 = 8;

/// How long to wait here for what takes the host at most `deadline`.
#[must_use]
pub fn patience(deadline: Duration) -> Duration {
    if line().is_some() { deadline * SLOWNESS } else { deadline }
}

/// Says in the table that something is not tried here, and why. The test that calls it has proved nothing.
pub fn skip(why: &str) {
    println!("relay-skip: {why}");
}

/// Puts what a test measured into the table: an object of words and numbers.
pub fn fact(fact: &serde_json::Value) {
    println!("relay-fact: {fact}");
}
