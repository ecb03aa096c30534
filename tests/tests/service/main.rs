//! relay as a service of systemd: its unit as systemd judges it, what it needs of root's rights, and what it tells.

mod booted;
mod notify;
mod rights;
mod unit_file;

use std::time::Duration;

use anyhow::Result;
use relay_tests::{lab::relay::binary, netns::checked};

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(30);

/// The first kernel with TCX; guests are slow, so that one of before and one of after share what there is to try.
const TCX: (u32, u32) = (6, 6);

/// The unit that `relay install` would write.
fn unit() -> Result<String> {
    checked(std::process::Command::new(binary()?).args(["install", "--print"]))
}
