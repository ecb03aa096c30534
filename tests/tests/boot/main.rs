//! relay's life on a VPS of its own: a Debian that boots from a disk, with systemd as PID 1 (`cargo xtask test boot`).
//!
//! The machine itself is the hub; the internet, the home behind carrier-grade NAT and the phone are namespaces in it, and
//! the machine's uplink is a cable to them that systemd-networkd configures. Each boot is one test, and they belong
//! together: the second finds what the first left on the disk.

mod first;
mod load;
mod second;
mod vps;

use anyhow::Result;

#[test]
fn first_boot() -> Result<()> {
    vps::in_guest()?;
    first::installed_used_and_upgraded().inspect_err(|_| vps::tell())
}

#[test]
fn second_boot() -> Result<()> {
    vps::in_guest()?;
    second::up_again_and_removed().inspect_err(|_| vps::tell())
}
