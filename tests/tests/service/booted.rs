//! The service under systemd as PID 1: installed, started, restarted under traffic, reloaded, hung, stopped, removed.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    booted::Booted,
    guest,
    lab::{peer::wg_quick_up, pings::Pings, relay::binary, world::VPS},
    netns::{Netns, checked, wait_for},
};
use serde_json::Value;

use crate::{DEADLINE, TCX};

/// The phone in the tunnel.
pub(crate) const PHONE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// What tunnels may take to be up again. It takes 1 s, or 16 where the hub has lost its sessions.
const CONNECTED: Duration = Duration::from_secs(90);
/// Pings before a restart, and after it.
pub(crate) const CALM: u32 = 50;
/// A watchdog that bites within a test's time.
const WATCHDOG_BITES: Duration = Duration::from_secs(60);
const WATCHDOG: &str = "[Service]\nWatchdogSec=10s\n";

/// The hub, and two peers with cables to it.
pub(crate) struct Star {
    pub(crate) hub: Netns,
    pub(crate) home: Netns,
    pub(crate) phone: Netns,
}

impl Star {
    pub(crate) fn new() -> Result<Self> {
        let star = Self { hub: Netns::new("hub")?, home: Netns::new("home")?, phone: Netns::new("phone")? };
        star.hub.run(&format!("ip address add {VPS}/32 dev lo"))?;
        for (number, peer) in [&star.home, &star.phone].into_iter().enumerate() {
            let port = format!("port{number}");
            star.hub.cable(&port, peer, "eth0")?;
            star.hub.run(&format!("ip address add 10.200.{number}.1/24 dev {port}"))?;
            peer.run(&format!("ip address add 10.200.{number}.2/24 dev eth0"))?;
            peer.run(&format!("ip route add {VPS}/32 via 10.200.{number}.1"))?;
        }
        Ok(star)
    }

    /// Home reaches the phone through the hub; a hub that was made anew has to hear of both first. Peers of a userspace
    /// hub notice only after 15 s that it has lost their sessions (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, whitepaper 6.1).
    pub(crate) fn connected(&self) -> Result<()> {
        for (machine, other) in [(&self.phone, "10.9.0.1"), (&self.home, "10.9.0.3")] {
            wait_for(&format!("an answer from {other}"), CONNECTED, || {
                machine.run(&format!("ping -n -q -c 1 -W 2 {other}")).map(drop)
            })?;
        }
        Ok(())
    }
}

/// `relay status --json`.
pub(crate) fn status(hub: &Booted<'_>) -> Result<Value> {
    serde_json::from_str(&hub.run("relay status --json")?).context("reading relay status --json")
}

pub(crate) fn show(hub: &Booted<'_>, property: &str) -> Result<String> {
    Ok(hub.run(&format!("systemctl show --property={property} --value relay"))?.trim().to_owned())
}

#[test]
fn a_service_of_systemd() -> Result<()> {
    if guest::line().is_some() && guest::kernel_version() < TCX {
        guest::skip(
            "systemd does the same on every kernel; here the rights of its unit are tried one by one",
        );
        return Ok(());
    }
    let star = Star::new()?;
    let hub = Booted::boot(&star.hub, &binary()?)?;
    told(&hub, life(&star, &hub))?;
    told(&hub, speaks_to_the_journal(&hub))?;
    // The kernel has no part in what follows; what it has, lifecycle and hub try.
    if guest::line().is_some() {
        return told(&hub, removed(&star, &hub));
    }
    told(&hub, reloaded(&hub))?;
    told(&hub, stands_elsewhere(&hub))?;
    told(&hub, hung(&hub))?;
    told(&hub, left_alone_by_networkd(&hub))?;
    told(&hub, opens_the_firewall(&hub))?;
    told(&hub, opens_ufw(&hub))?;
    let hub = booted_again(&star, hub)?;
    told(&hub, removed(&star, &hub))
}

/// With what the unit said, where something is wrong.
pub(crate) fn told<T>(hub: &Booted<'_>, came: Result<T>) -> Result<T> {
    came.inspect_err(|_| eprintln!("the unit's journal:\n{}", hub.journal("relay")))
}

fn life(star: &Star, hub: &Booted<'_>) -> Result<()> {
    hub.run(&format!("relay init --endpoint {VPS} --subnet6 none --manage-firewall=false"))?;
    hub.run("relay install")?;
    ensure!(hub.run("systemctl is-enabled relay")?.trim() == "enabled", "it is not enabled");
    hub.run("systemctl start relay")?;
    let begun = status(hub)?;
    ensure!(begun["fast_path"]["state"] == "on" && begun["problems"] == serde_json::json!([]), "{begun}");
    let kernel = begun["backend"] == "kernel";
    ensure!(
        (show(hub, "PrivateDevices")? == "yes") == kernel,
        "devices are shut with the kernel's WireGuard"
    );
    ensure!(hub.run("stat -c %U:%G:%a /run/relay/relay.sock")?.trim() == "root:relay:660", "whose socket?");

    for (name, machine) in [("home", &star.home), ("phone", &star.phone)] {
        wg_quick_up(machine, "tunnel", &hub.run(&format!("relay peer add {name}"))?)?;
    }
    star.connected()?;
    restarted(star, hub, kernel)?;
    stopped(star, hub, kernel)
}

/// Nobody notices, where the kernel carries the tunnel.
fn restarted(star: &Star, hub: &Booted<'_>, kernel: bool) -> Result<()> {
    let pings = Pings::start(&star.home, PHONE)?;
    pings.more(CALM, DEADLINE)?;
    let before = show(hub, "MainPID")?;
    hub.run("systemctl restart relay")?;
    ensure!(show(hub, "MainPID")? != before, "it was not restarted");
    pings.more(CALM, DEADLINE)?;
    let tally = pings.end()?;
    guest::fact(
        &serde_json::json!({ "case": "systemctl restart", "sent": tally.sent, "lost": tally.lost.len() }),
    );
    ensure!(!kernel || tally.lost.is_empty(), "{} of {} pings were lost", tally.lost.len(), tally.sent);
    let status = status(hub)?;
    ensure!(status["fast_path"]["state"] == "on", "{status}");
    if kernel { star.connected() } else { Ok(()) }
}

/// The journal knows level and time by itself, and nobody's place.
fn speaks_to_the_journal(hub: &Booted<'_>) -> Result<()> {
    let said = hub.journalctl("--output=json --unit=relay --identifier=relay")?;
    let entries = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let words =
        |entry: &Value| entry["MESSAGE"].as_str().map(str::to_owned).context("an entry without words");
    let mut up = 0;
    for entry in &entries {
        let words = words(entry)?;
        ensure!(entry["PRIORITY"] == "6" || entry["PRIORITY"] == "4", "{entry}");
        ensure!(words.starts_with(char::is_alphabetic) && !words.contains(" INFO "), "{words}");
        ensure!(!words.contains("10.200."), "where somebody is: {words}");
        up += u32::from(words.contains("is up on UDP port"));
    }
    ensure!(up >= 2, "it was started twice at least:\n{said}");
    Ok(())
}

/// What is installed is not installed twice. A reload waits for its result, and a bad file is no good one.
fn reloaded(hub: &Booted<'_>) -> Result<()> {
    let again = hub.command("relay").arg("install").output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(again.status.success() && !said.contains("wrote"), "the second time: {said}");
    hub.run("systemctl reload relay")?;
    hub.run("cp /etc/relay/relay.toml /etc/relay/good")?;
    hub.run("sed -i s/listen_port/listen_part/ /etc/relay/relay.toml")?;
    ensure!(hub.run("systemctl reload relay").is_err(), "a bad file was taken");
    let said = hub.journalctl("--output=cat --unit=relay --priority=err")?;
    ensure!(said.contains("listen_part"), "nobody says what is wrong: {said}");
    hub.run("mv /etc/relay/good /etc/relay/relay.toml")?;
    hub.run("systemctl reload relay")?;
    ensure!(show(hub, "ActiveState")? == "active", "it is not active any more");
    Ok(())
}

/// A service runs from where its binary stands, as far as its root can get there.
fn stands_elsewhere(hub: &Booted<'_>) -> Result<()> {
    hub.run("mkdir -p -m 0700 /home/anna /root/bin")?;
    hub.run("cp /usr/local/bin/relay /home/anna/relay")?;
    hub.run("chown nobody /home/anna")?;
    let refused = hub.run("/home/anna/relay install").err().context("it stands where it cannot run")?;
    ensure!(format!("{refused:#}").contains("may not pass /home/anna"), "{refused:#}");

    hub.run("mv /home/anna/relay /root/bin/relay")?;
    hub.run("/root/bin/relay install")?;
    hub.run("systemctl restart relay")?;
    let program = format!("/proc/{}/exe", show(hub, "MainPID")?);
    ensure!(hub.run(&format!("readlink {program}"))?.trim() == "/root/bin/relay", "another binary runs");
    let status = status(hub)?;
    ensure!(status["fast_path"]["state"] == "on", "{status}");
    hub.run("relay install").map(drop)
}

/// A daemon that hangs is started anew.
fn hung(hub: &Booted<'_>) -> Result<()> {
    let folder = hub.root().join("run/systemd/system/relay.service.d");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("watchdog.conf"), WATCHDOG)?;
    hub.run("systemctl daemon-reload")?;
    hub.run("systemctl restart relay")?;
    let hangs = show(hub, "MainPID")?;
    hub.run(&format!("kill -STOP {hangs}"))?;
    wait_for("the watchdog", WATCHDOG_BITES, || {
        let (pid, state) = (show(hub, "MainPID")?, show(hub, "SubState")?);
        ensure!(pid != hangs && state == "running", "process {pid} is {state}");
        Ok(())
    })?;
    ensure!(hub.journal("relay").contains("atchdog timeout"), "somebody else started it");
    // What follows may be slower.
    std::fs::remove_file(folder.join("watchdog.conf"))?;
    hub.run("systemctl daemon-reload")?;
    hub.run("systemctl restart relay").map(drop)
}

/// systemd-networkd, told to manage every tunnel, leaves this one alone for as long as relay's file says so.
fn left_alone_by_networkd(hub: &Booted<'_>) -> Result<()> {
    let files = hub.root().join("etc/systemd/network");
    let setup_is = |unmanaged: bool| {
        wait_for(&format!("networkd to know wg0, unmanaged: {unmanaged}"), DEADLINE, || {
            let index = hub.run("cat /sys/class/net/wg0/ifindex")?;
            // networkctl would ask the bus, which does not run here.
            let link = hub.run(&format!("cat /run/systemd/netif/links/{}", index.trim()))?;
            let state =
                link.lines().find_map(|line| line.strip_prefix("ADMIN_STATE=")).context("no state")?;
            ensure!(state != "pending" && (state == "unmanaged") == unmanaged, "it is {state}");
            Ok(())
        })
    };
    std::fs::write(files.join("50-all.network"), "[Match]\nName=wg*\n[Network]\nAddress=192.0.2.77/24\n")?;
    hub.run("systemctl start systemd-networkd")?;
    setup_is(true)?;
    hub.run("systemctl restart systemd-networkd")?;
    setup_is(true)?;
    let addresses = hub.run("ip -4 -brief address show wg0")?;
    ensure!(addresses.contains("10.9.0.1/24") && !addresses.contains("192.0.2.77"), "{addresses}");

    std::fs::remove_file(files.join("10-relay.network"))?;
    hub.run("systemctl restart systemd-networkd")?;
    setup_is(false)?;
    hub.run("relay install")?;
    hub.run("systemctl restart systemd-networkd")?;
    setup_is(true)?;
    hub.run("systemctl stop systemd-networkd")?;
    Ok(std::fs::remove_file(files.join("50-all.network"))?)
}

/// The sandbox lets the tools do what relay has them do: legacy iptables takes its lock and writes.
fn opens_the_firewall(hub: &Booted<'_>) -> Result<()> {
    hub.run("iptables-legacy -A INPUT -p udp -j DROP")?;
    hub.run("sed -i /manage/s/false/true/ /etc/relay/relay.toml")?;
    hub.run("systemctl reload relay")?;
    wait_for("the listen port to be open", DEADLINE, || {
        let rules = hub.run("iptables-legacy -S INPUT")?;
        let first = rules.lines().find(|rule| rule.starts_with("-A")).context("no rules")?;
        ensure!(first.contains("--dport 51820") && first.ends_with("-j ACCEPT"), "{rules}");
        Ok(())
    })?;
    hub.run("iptables-legacy -D INPUT -p udp -j DROP").map(drop)
}

/// So does ufw, which writes its rules into /etc and takes locks of its own.
fn opens_ufw(hub: &Booted<'_>) -> Result<()> {
    let Some(unpacked) = std::env::var_os("RELAY_UFW") else {
        guest::skip("ufw's package is not here; `cargo xtask test netns` unpacks it on the host");
        return Ok(());
    };
    for part in ["etc", "usr", "lib"] {
        let from = Path::new(&unpacked).join(part).join(".");
        let to = hub.root().join(if part == "lib" { "usr/lib" } else { part });
        checked(Command::new("cp").arg("-a").args([from, to]))?;
    }
    for name in ["before", "before6", "after", "after6", "user", "user6"] {
        hub.run(&format!("cp /usr/share/ufw/iptables/{name}.rules /etc/ufw/{name}.rules"))?;
    }
    hub.run("cp /usr/share/ufw/before.init /usr/share/ufw/after.init /usr/share/ufw/ufw.conf /etc/ufw")?;
    hub.run("ufw --force enable")?;
    wait_for("ufw to be open", DEADLINE, || {
        let said = hub.run("ufw status")?;
        ensure!(said.matches("# relay wg0").count() == 4, "{said}");
        let status = status(hub)?;
        ensure!(
            status["fast_path"]["state"] == "on" && status["problems"] == serde_json::json!([]),
            "{status}"
        );
        Ok(())
    })?;
    hub.run("ufw disable")?;
    // The file is as it was.
    hub.run("sed -i /manage/s/true/false/ /etc/relay/relay.toml")?;
    hub.run("systemctl reload relay").map(drop)
}

/// A machine that boots brings the hub up by itself.
fn booted_again<'a>(star: &'a Star, hub: Booted<'a>) -> Result<Booted<'a>> {
    hub.shut_down()?;
    // The laboratory's kernel stays; what a kernel forgets at its end is forgotten here.
    let _ = star.hub.run("ip link delete wg0");
    star.hub.run("nft flush ruleset")?;
    star.hub.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")?;
    let hub = Booted::boot(&star.hub, &binary()?)?;
    let up = wait_for("the hub to be up again", DEADLINE, || {
        let status = status(&hub)?;
        ensure!(status["fast_path"]["state"] == "on", "{status}");
        ensure!(status["peers"] == 2, "{status}");
        Ok(())
    });
    told(&hub, up)?;
    Ok(hub)
}

/// The kernel's tunnel goes on, and `relay down` ends it.
fn stopped(star: &Star, hub: &Booted<'_>, kernel: bool) -> Result<()> {
    hub.run("systemctl stop relay")?;
    for said in [show(hub, "StatusText")?, hub.journal("relay")] {
        ensure!(said.contains("`relay down`"), "{said}");
    }
    ensure!(star.hub.run("ip link show wg0").is_ok() == kernel, "wg0 after the end of its daemon");
    if kernel {
        star.connected()?;
    }
    hub.run("systemctl start relay")?;
    star.connected()
}

/// Nothing is left.
fn removed(star: &Star, hub: &Booted<'_>) -> Result<()> {
    hub.run("relay down")?;
    wait_for("the unit to be inactive", DEADLINE, || {
        let state = show(hub, "ActiveState")?;
        ensure!(state == "inactive", "it is {state}");
        Ok(())
    })?;
    hub.run("relay uninstall")?;
    ensure!(star.hub.run("ip link show wg0").is_err(), "wg0 is left");
    ensure!(!star.hub.run("nft list ruleset")?.contains("relay"), "rules are left");
    let files = hub.run("find /etc/systemd /usr/lib/systemd /sys/fs/bpf -name *relay*")?;
    ensure!(files.is_empty(), "left: {files}");
    // The history is the user's, as the configuration is.
    let history = hub.run("find /var/lib/relay -type f -not -name wg0.db*")?;
    ensure!(history.is_empty(), "left: {history}");
    ensure!(hub.run("getent group relay").is_err(), "the group is left");
    ensure!(hub.run("ls /etc/relay")?.contains("relay.toml"), "the configuration went too");
    hub.run("relay uninstall").map(drop)
}
