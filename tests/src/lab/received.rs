//! Packets that came in at a machine's uplink, for whoever sends no faster than they are taken in.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::netns::Netns;

/// Where a machine counts what comes in at its uplink, whatever becomes of it.
const COUNTER: &str = "/sys/class/net/eth0/statistics/rx_packets";

/// How long a burst may take to be taken in; it takes 1 ms. What has not come by then is lost.
const PAUSE: Duration = Duration::from_millis(100);

/// A machine's counter.
pub struct Received(File);

impl Received {
    /// That of this machine, which can be read from outside of it.
    pub fn of(machine: &Netns) -> Result<Self> {
        machine.inside(|| Ok(Self(File::open(COUNTER)?)))
    }

    /// What it says now.
    pub fn count(&self) -> Result<u64> {
        let mut text = [0; 32];
        let length = self.0.read_at(&mut text, 0)?;
        Ok(str::from_utf8(&text[..length])?.trim().parse()?)
    }

    /// Waits until it says so much, or for as long as a burst may take.
    pub fn reaches(&self, count: u64) -> Result<()> {
        let begun = Instant::now();
        while self.count()? < count && begun.elapsed() < PAUSE {
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}
