//! The machine that the tests run on, asked as its admin would ask it.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{
        Stats, UDP_TIMEOUT, World,
        web::{self, Server},
        world::{NAS4, NAS6, VPS},
    },
    netns::{checked, wait_for},
    packages,
};
use serde_json::Value;

/// Five times what the slowest of these waits takes on a host; a guest has more ([`guest::patience`]).
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// What has to be there still after the machine was booted again, as the others' own disks would have it.
const KEPT: &str = "/root/laboratory";
/// The page of the NAS.
const PAGE: &[u8] = b"<!doctype html><title>nas</title><h1>You are at home.</h1>\n";

/// Nobody's own machine is installed upon, upgraded and rebooted.
pub(crate) fn in_guest() -> Result<()> {
    let guest = guest::line().is_some() && Path::new("/run/relay-vm/plan.json").exists();
    ensure!(guest, "this would install relay here and reboot: it runs by `cargo xtask test boot` alone");
    Ok(())
}

/// Runs a command line, split at spaces, and returns what it printed.
pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    checked(Command::new(program).args(words)).with_context(|| line.to_owned())
}

/// What systemd knows of relay's unit.
pub(crate) fn show(property: &str) -> Result<String> {
    Ok(run(&format!("systemctl show --property={property} --value relay"))?.trim().to_owned())
}

/// `relay status --json`.
pub(crate) fn status() -> Result<Value> {
    serde_json::from_str(&run("relay status --json")?).context("reading relay status --json")
}

/// Everything that was to start has started, and nothing has failed.
pub(crate) fn is_running() -> Result<()> {
    wait_for("the machine to be up", DEADLINE, || {
        let state = Command::new("systemctl").arg("is-system-running").output()?.stdout;
        let state = String::from_utf8_lossy(&state).trim().to_owned();
        ensure!(state == "running", "it is {state}: {}", run("systemctl --no-legend list-units --failed")?);
        Ok(())
    })
}

/// Installs the package of that revision.
pub(crate) fn install(revision: u32) -> Result<()> {
    let package = packages::find(revision)?;
    let said = checked(Command::new("dpkg").arg("--install").arg(package)).context("dpkg --install")?;
    println!("{said}");
    Ok(())
}

/// The world around the machine: its cable to the internet is put in, and its network is configured.
pub(crate) fn the_internet() -> Result<World> {
    let world = World::new(UDP_TIMEOUT)?;
    run(&format!("ip -n {} link set eth0 netns 1 name uplink", world.vps.name()))?;
    run("ip link set uplink up")?;
    wait_for("systemd-networkd to configure the uplink", DEADLINE, || {
        let addresses = run("ip -brief address show uplink")?;
        ensure!(addresses.contains(VPS), "{addresses}");
        world.phone.run(&format!("ping -n -q -c 1 -W 2 {VPS}")).map(drop)
    })?;
    Ok(world)
}

/// Starts the NAS's web server, with more pages.
pub(crate) fn nas(world: &World, more: Option<(&'static str, Vec<u8>)>) -> Result<Server> {
    Server::start(&world.nas, [("/", PAGE.to_vec())].into_iter().chain(more))
}

/// The phone fetches the page of the NAS, and the fast path carries it.
pub(crate) fn page(world: &World) -> Result<()> {
    for url in [format!("http://{NAS4}/"), format!("http://[{NAS6}]/")] {
        let page = wait_for("the page", DEADLINE, || web::fetch(&world.phone, &url))?;
        ensure!(page.sha256 == web::sha256(PAGE), "{url} came with SHA-256 {}", page.sha256);
    }
    wait_for("the fast path to carry a page", DEADLINE, || {
        let stats = || -> Result<Stats> { Ok(Stats(serde_json::from_str(&run("relay stats --json")?)?)) };
        let before = stats()?;
        web::fetch(&world.phone, &format!("http://{NAS4}/"))?;
        let (redirected, seen) = stats()?.since(&before)?;
        ensure!(redirected > 0, "0 of {seen} packets");
        Ok(())
    })
}

/// What relay's unit logged since the machine is up. Where all is well, nothing of it is a warning.
pub(crate) fn nothing_to_warn_of() -> Result<()> {
    let journal = "journalctl --boot --no-pager --quiet --output=cat --unit=relay";
    let said = run(journal)?;
    println!("relay's journal:\n{said}");
    ensure!(!said.is_empty(), "relay logs nothing");
    let warnings = run(&format!("{journal} --priority=warning"))?;
    let marked = said.lines().find(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    ensure!(warnings.is_empty() && marked.is_none(), "a warning where all is well");
    Ok(())
}

/// Writes what the next boot needs.
pub(crate) fn keep(name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(KEPT)?;
    fs::write(Path::new(KEPT).join(name), text).with_context(|| format!("keeping {name}"))
}

/// Reads what the last boot wrote.
pub(crate) fn kept(name: &str) -> Result<String> {
    fs::read_to_string(Path::new(KEPT).join(name)).with_context(|| format!("what the last boot kept: {name}"))
}

/// All of the disk: every path with its kind, mode and owner, and what every file of /etc says. Left out is what any use
/// of the machine changes, and what its tools keep of the files before a change (`/etc/group-`).
pub(crate) fn disk() -> Result<String> {
    let find = format!(
        "find / -xdev ( -path {KEPT} -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/cache \
         -o -path /var/backups -o -path /var/lib/systemd ) -prune -o -printf %p\\040%y\\040%m\\040%u:%g\\040%l\\n"
    );
    let mut lines: Vec<String> = run(&find)?.lines().map(str::to_owned).collect();
    lines.extend(run("find /etc -type f -not -name *- -exec sha256sum {} +")?.lines().map(str::to_owned));
    lines.sort();
    Ok(lines.join("\n"))
}

/// What differs between two looks at the disk.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut text = String::new();
    for line in before.iter().filter(|line| after.binary_search(line).is_err()) {
        let _ = writeln!(text, "- {line}");
    }
    for line in after.iter().filter(|line| before.binary_search(line).is_err()) {
        let _ = writeln!(text, "+ {line}");
    }
    text
}

/// What to know of the machine where something is wrong.
pub(crate) fn tell() {
    for line in [
        "systemctl --no-pager status relay",
        "journalctl --boot --no-pager --quiet --lines=60",
        "ip address",
        "ip route",
        "wg show all endpoints",
    ] {
        eprintln!("{line}:\n{}", run(line).unwrap_or_else(|error| format!("{error:#}")));
    }
}
