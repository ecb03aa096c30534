//! The first boot: the package comes, home and phone are connected, and the hub is restarted and upgraded under load.

use anyhow::{Result, ensure};
use relay_tests::{
    lab::{
        peer::wg_quick_up,
        world::{LANS, VPS},
    },
    netns::wait_for,
};

use crate::{
    load::{FILE, film, unnoticed},
    vps::{self, DEADLINE, install, keep, nothing_to_warn_of, run, show},
};

pub(crate) fn installed_used_and_upgraded() -> Result<()> {
    vps::is_running()?;
    keep("disk", &vps::disk()?)?;
    let world = vps::the_internet()?;

    install(1)?;
    ensure!(run("dpkg --verify relay")?.is_empty(), "not as it was packed");
    ensure!(show("UnitFileState")? == "disabled", "it is enabled without a word");
    run(&format!("relay init --endpoint {VPS} --manage-firewall=false"))?;
    let [lan4, lan6] = LANS;
    let home = run(&format!("relay peer add home --lan {lan4} --lan {lan6}"))?;
    let phone = run("relay peer add phone")?;
    run("relay install")?;
    run("systemctl start relay")?;
    for (name, machine, config) in [("home", &world.home, home), ("phone", &world.phone, phone)] {
        wg_quick_up(machine, name, &config)?;
        keep(name, &config)?;
    }
    let _nas = vps::nas(&world, Some((FILE, film())))?;
    vps::page(&world)?;

    let first = show("MainPID")?;
    unnoticed("systemctl restart relay", &world, || run("systemctl restart relay").map(drop))?;
    let second = show("MainPID")?;
    ensure!(first != second, "it was not restarted");
    unnoticed("systemctl restart systemd-networkd", &world, networkd_restarts)?;
    unnoticed("dpkg --install", &world, || install(2))?;
    let third = show("MainPID")?;
    ensure!(second != third, "the old daemon goes on");
    ensure!(run(&format!("readlink /proc/{third}/exe"))?.trim() == "/usr/bin/relay", "something else runs");
    vps::page(&world)?;

    wait_for("systemd to know how the hub is", DEADLINE, || {
        let (state, text) = (show("ActiveState")?, show("StatusText")?);
        let well = text == "wg0: 2 of 2 peers connected, fast path on";
        ensure!(state == "active" && well, "{state}: {text}");
        Ok(())
    })?;
    nothing_to_warn_of()?;
    vps::is_running()
}

/// It configures the uplink, and leaves wg0 as relay has made it.
fn networkd_restarts() -> Result<()> {
    let of_wg0 = || -> Result<String> {
        let lines = ["ip address show wg0", "ip route show dev wg0", "ip -6 route show dev wg0"];
        Ok(lines.map(run).into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    let before = of_wg0()?;
    run("systemctl restart systemd-networkd")?;
    wait_for("systemd-networkd to know its links", DEADLINE, || {
        let links = run("networkctl --no-pager --no-legend list")?;
        let is = |name: &str, state: &str| {
            links
                .lines()
                .any(|line| line.split_whitespace().any(|word| word == name) && line.ends_with(state))
        };
        ensure!(is("uplink", "configured") && is("wg0", "unmanaged"), "{links}");
        Ok(())
    })?;
    let after = of_wg0()?;
    ensure!(after == before, "wg0 was\n{before}\nand is\n{after}");
    Ok(())
}
