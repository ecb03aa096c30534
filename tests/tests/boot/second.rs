//! The second boot: the hub is up by itself, as it was; then the package goes, and nothing of it is left.

use std::path::Path;

use anyhow::{Result, ensure};
use relay_tests::lab::peer::wg_quick_up;

use crate::vps::{self, difference, kept, nothing_to_warn_of, run, show, status};

pub(crate) fn up_again_and_removed() -> Result<()> {
    vps::is_running()?;
    ensure!(show("ActiveState")? == "active", "nobody started relay");
    ensure!(
        run("dpkg-query --show --showformat=${Version} relay")?.ends_with("-2"),
        "not what was upgraded to"
    );
    let up = status()?;
    ensure!(up["fast_path"]["state"] == "on" && up["peers"] == 2, "{up}");
    let world = vps::the_internet()?;
    for (name, machine) in [("home", &world.home), ("phone", &world.phone)] {
        wg_quick_up(machine, name, &kept(name)?)?;
    }
    let _nas = vps::nas(&world, None)?;
    vps::page(&world)?;
    nothing_to_warn_of()?;

    let before = kept("disk")?;
    let installed = difference(&before, &vps::disk()?);
    ensure!(installed.contains("+ /usr/bin/relay f "), "relay's own program does not show:\n{installed}");

    run("dpkg --remove relay")?;
    ensure!(run("ip link show wg0").is_err(), "wg0 is left");
    ensure!(!run("nft list ruleset")?.contains("relay"), "rules are left");
    ensure!(run("find /sys/fs/bpf -name *relay*")?.is_empty(), "pins are left");
    ensure!(run("sysctl -n net.ipv4.ip_forward")?.trim() == "0", "it forwards still");
    ensure!(run("pgrep --exact relay").is_err(), "a daemon is left");
    ensure!(!Path::new("/run/relay").exists(), "/run/relay is left");
    ensure!(run("ls /etc/relay")?.contains("relay.toml"), "the configuration went too");

    run("dpkg --purge relay")?;
    ensure!(run("getent group relay").is_err(), "the group is left");
    ensure!(
        run("systemctl list-unit-files --no-legend relay*").unwrap_or_default().is_empty(),
        "a unit is left"
    );
    let left = difference(&before, &vps::disk()?);
    ensure!(left.is_empty(), "the disk was not like that:\n{left}");
    vps::is_running()
}
