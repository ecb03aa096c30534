//! Debian's package under systemd as PID 1: installed, upgraded under traffic, removed and purged by dpkg.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    booted::Booted,
    guest,
    lab::{peer::wg_quick_up, pings::Pings, relay::binary, world::VPS},
    netns::{Netns, checked, wait_for},
    packages,
};

use crate::{
    DEADLINE,
    booted::{CALM, PHONE, Star, show, status, told},
};

/// Where anything of relay's could be.
const PLACES: &str = "/etc /usr /var/lib /run /sys/fs/bpf";

/// Installs it as `apt install ./relay.deb` would; gives what a person reads. Other packages' triggers, such as the index
/// of man pages, are not ours.
fn install(hub: &Booted<'_>, revision: u32) -> Result<String> {
    fs::copy(packages::find(revision)?, hub.root().join("var/tmp/relay.deb"))
        .context("bringing the package in")?;
    let told = dpkg(hub, "--no-triggers --install /var/tmp/relay.deb")?;
    hub.run("rm /var/tmp/relay.deb")?;
    Ok(told)
}

/// What dpkg and the package's scripts say, warnings included.
fn dpkg(hub: &Booted<'_>, arguments: &str) -> Result<String> {
    checked(hub.command("sh").args(["-c", &format!("exec dpkg {arguments} 2>&1")]))
        .with_context(|| format!("dpkg {arguments}"))
}

/// Every file with relay in its name.
fn traces(hub: &Booted<'_>) -> Result<Vec<String>> {
    // Control groups and units come and go while it looks.
    let found = hub.run(&format!("find {PLACES} -ignore_readdir_race -name *relay*"))?;
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort();
    Ok(found)
}

#[test]
fn a_package_of_debian() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("a Debian that boots by itself says it better: `cargo xtask test boot`");
        return Ok(());
    }
    let star = Star::new()?;
    let hub = Booted::boot(&star.hub, &binary()?)?;
    told(&hub, life(&star, &hub))
}

fn life(star: &Star, hub: &Booted<'_>) -> Result<()> {
    // What the laboratory brought along is no package's, and images for containers leave documentation out.
    hub.run("rm -rf /usr/local/bin/relay /usr/bin/relay /etc/dpkg/dpkg.cfg.d")?;
    let before = traces(hub)?;

    let told = install(hub, 1)?;
    ensure!(told.contains("Next: relay init, relay install, systemctl start relay"), "{told}");
    hub.run("getent group relay")?;
    let differs = hub.run("dpkg --verify relay")?;
    ensure!(differs.is_empty(), "not as they were packed:\n{differs}");
    ensure!(show(hub, "LoadState")? == "loaded", "systemd does not know the unit");
    ensure!(show(hub, "ActiveState")? == "inactive", "it runs without a configuration");
    ensure!(show(hub, "UnitFileState")? == "disabled", "it is enabled without a word");

    hub.run(&format!("relay init --endpoint {VPS} --subnet6 none --manage-firewall=false"))?;
    hub.run("relay install")?;
    ensure!(
        !hub.root().join("etc/systemd/system/relay.service").exists(),
        "a second unit hides the package's"
    );
    ensure!(show(hub, "UnitFileState")? == "enabled", "it is not enabled");
    hub.run("systemctl start relay")?;
    let kernel = status(hub)?["backend"] == "kernel";
    for (name, machine) in [("home", &star.home), ("phone", &star.phone)] {
        wg_quick_up(machine, "tunnel", &hub.run(&format!("relay peer add {name}"))?)?;
    }
    star.connected()?;
    upgraded(star, hub, kernel)?;

    hub.run("dpkg --remove relay")?;
    ensure!(star.hub.run("ip link show wg0").is_err(), "wg0 is left");
    ensure!(!star.hub.run("nft list ruleset")?.contains("relay"), "rules are left");
    ensure!(hub.run("pgrep --exact relay").is_err(), "a daemon is left");
    ensure!(hub.run("ls /etc/relay")?.contains("relay.toml"), "the configuration went too");
    let told = install(hub, 2)?;
    ensure!(told.contains("Next: relay install, systemctl start relay"), "{told}");
    hub.run("dpkg --purge relay")?;
    wait_for("nothing to be left", DEADLINE, || {
        let after = traces(hub)?;
        ensure!(after == before, "{after:#?} where there was {before:#?}");
        Ok(())
    })?;
    ensure!(hub.run("getent group relay").is_err(), "the group is left");
    Ok(())
}

#[test]
fn a_package_beside_another_relay() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("dpkg does the same on every kernel");
        return Ok(());
    }
    let machine = Netns::new("hub")?;
    machine.run(&format!("ip address add {VPS}/32 dev lo"))?;
    let hub = Booted::boot(&machine, &binary()?)?;
    told(&hub, neighbours(&hub))
}

/// The relay that runs is not the package's, and stays as it is until a person says otherwise.
fn neighbours(hub: &Booted<'_>) -> Result<()> {
    hub.run("rm -rf /etc/dpkg/dpkg.cfg.d")?;
    hub.run(&format!("relay init --endpoint {VPS} --subnet6 none --manage-firewall=false"))?;
    hub.run("/usr/local/bin/relay install")?;
    hub.run("systemctl start relay")?;
    let daemon = show(hub, "MainPID")?;
    for revision in [1, 2] {
        let told = install(hub, revision)?;
        ensure!(told.contains("runs another relay than this package's"), "{told}");
    }
    hub.run("dpkg --remove relay")?;
    let told = dpkg(hub, "--purge relay")?;
    ensure!(told.contains("its files stay"), "{told}");
    ensure!(show(hub, "MainPID")? == daemon, "the daemon is another");
    ensure!(status(hub)?["fast_path"]["state"] == "on", "the hub is not what it was");
    ensure!(hub.run("ls /etc/relay")?.contains("wg0.key"), "the key went");

    install(hub, 2)?;
    hub.run("/usr/bin/relay install")?;
    hub.run("systemctl restart relay")?;
    let program = hub.run(&format!("readlink /proc/{}/exe", show(hub, "MainPID")?))?;
    ensure!(program.trim() == "/usr/bin/relay", "what runs is {program}");
    Ok(())
}

/// Nobody notices, where the kernel carries the tunnel.
fn upgraded(star: &Star, hub: &Booted<'_>, kernel: bool) -> Result<()> {
    let pings = Pings::start(&star.home, PHONE)?;
    pings.more(CALM, DEADLINE)?;
    let before = show(hub, "MainPID")?;
    install(hub, 2)?;
    let after = show(hub, "MainPID")?;
    pings.more(CALM, DEADLINE)?;
    let tally = pings.end()?;
    guest::fact(
        &serde_json::json!({ "case": "dpkg --install", "sent": tally.sent, "lost": tally.lost.len() }),
    );
    ensure!(before != after, "the old daemon goes on");
    let program = hub.run(&format!("readlink /proc/{after}/exe"))?;
    ensure!(program.trim() == "/usr/bin/relay", "what runs is {program}");
    ensure!(!kernel || tally.lost.is_empty(), "{} of {} pings were lost", tally.lost.len(), tally.sent);
    let status = status(hub)?;
    ensure!(status["fast_path"]["state"] == "on", "{status}");
    Ok(())
}
