//! The daemon with many peers: what it takes to start, to change one of them, to tell of all, and how much memory.

use std::{
    fmt::Write as _,
    fs,
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::MapData;
use nix::libc;
use relay_tests::{
    guest::patience,
    lab::relay::Relay,
    netns::{Netns, wait_for},
    resident::Resident,
};
use relay_user::{
    kernel::datapath::{PinnedMaps, Pins},
    key::PublicKey,
};
use serde_json::{Value, json};

use crate::spread::Spread;

/// How many peers a hub has, and how many LANs are behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) peers: usize,
    pub(crate) lans: usize,
}

/// How often what takes a moment is repeated.
const TIMES: usize = 7;

/// Longest that a start may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Some ticks of the daemon's loop: what a start leaves to be done is done.
const REST: Duration = Duration::from_secs(5);

/// Where the service manager would listen.
const READY: &str = "/run/notify";

/// Starts a hub of this size, asks it, changes it, and ends it.
pub(crate) fn measure(relay: &Path, size: Size) -> Result<Value> {
    let machine = Netns::with_uplink("scale")?;
    let hub = Relay::init(&machine, &std::path::absolute(relay)?)?;
    let own = machine.run("cat /run/lab/relay.toml")?;
    hub.write(&configuration(&own, size)?)?;
    let manager = machine.inside(|| UnixDatagram::bind(READY).context("binding the manager's socket"))?;
    manager.set_read_timeout(Some(Duration::from_millis(200)))?;

    // Which reads the file and little more, and so tells how fast this machine is beside another one.
    let list = repeated(|_| {
        let begun = Instant::now();
        hub.run(&["peer", "list", "--json"])?;
        Ok(begun.elapsed())
    })?;

    let begun = Instant::now();
    let daemon = hub.spawn_under(&["env", &format!("NOTIFY_SOCKET={READY}")], &["up"])?;
    let start = until_ready(&machine, &hub, daemon, manager, begun)?;
    wait_for("all ways to be in the maps", DEADLINE, || ways(&machine, size))?;
    let filled = begun.elapsed();
    std::thread::sleep(REST);
    let at_rest = Resident::of(daemon)?;

    let stats = repeated(|_| {
        let begun = Instant::now();
        let told = hub.stats()?.0["peers"].as_array().map_or(0, Vec::len);
        ensure!(told == size.peers, "stats tell of {told} peers");
        Ok(begun.elapsed())
    })?;
    let log = hub.log().lines().count();
    let reload = repeated(|turn| {
        let (from, to) = if turn % 2 == 0 { (OWN, OTHER) } else { (OTHER, OWN) };
        hub.edit(&quoted(from), &quoted(to))?;
        // The daemon looks again after each reload, and answers when it is at rest.
        hub.run(&["status"])?;
        let begun = Instant::now();
        hub.run(&["reload"])?;
        Ok(begun.elapsed())
    })?;
    let said = hub.log();
    let touched = said.lines().skip(log).filter_map(peers_set).max();
    let touched = touched.context("the daemon tells WireGuard of no peer when one has another address")?;
    let status: Value = serde_json::from_str(&hub.run(&["status", "--json"])?)?;
    let after = Resident::of(daemon)?;
    let maps = machine.inside(map_memory)?;
    let total: u64 = maps.iter().map(|(_, bytes)| bytes).sum();
    Ok(json!({
        "peers": size.peers,
        "lans": size.lans,
        "backend": status["backend"],
        "fast_path": status["fast_path"]["state"],
        "start_ms": milliseconds(start),
        "filled_ms": milliseconds(filled),
        "stats_ms": stats.json(),
        "list_ms": list.json(),
        "reload_ms": reload.json(),
        "reload_touched": touched,
        "rss_kib": at_rest.all,
        "rss_own_kib": at_rest.own,
        "rss_after_kib": after.all,
        "rss_own_after_kib": after.own,
        "maps_bytes": total,
        "maps": maps.into_iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    }))
}

/// How many peers WireGuard was told of, where the daemon says that it has told it: `set the peer home`, `set the peers
/// home, phone`, `set 12 peers`.
fn peers_set(line: &str) -> Option<u64> {
    let set = line.split_once(": set ")?.1;
    if set.starts_with("the peer ") {
        return Some(1);
    }
    if let Some(names) = set.strip_prefix("the peers ") {
        return Some(names.split(", ").count() as u64);
    }
    set.split_once(" peers")?.0.parse().ok()
}

/// Waits for READY=1 and gives the time from the start to it. Nobody listens afterwards: a socket that is not read would
/// make the daemon wait.
fn until_ready(
    machine: &Netns,
    hub: &Relay<'_>,
    daemon: u32,
    manager: UnixDatagram,
    begun: Instant,
) -> Result<Duration> {
    let mut buffer = [0; 4096];
    while begun.elapsed() < patience(DEADLINE) {
        if let Some(status) = machine.ended(daemon)? {
            bail!("relay up ended ({status}): {}", hub.log());
        }
        let Ok(length) = manager.recv(&mut buffer) else { continue };
        if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
            return Ok(begun.elapsed());
        }
    }
    bail!("relay was not up after {} s: {}", begun.elapsed().as_secs(), hub.log())
}

/// Whether every peer's address leads somewhere by the fast path.
fn ways(machine: &Netns, size: Size) -> Result<()> {
    let name = "wg0".parse()?;
    let state = machine.inside(|| Ok(PinnedMaps::open(&Pins::new(name))?.read()?))?;
    let ways = state.hosts.values().filter(|route| route.slot().is_some()).count();
    ensure!(ways == 2 * size.peers, "{ways} addresses of {} peers are in the maps", size.peers);
    Ok(())
}

fn repeated(mut act: impl FnMut(usize) -> Result<Duration>) -> Result<Spread> {
    let times = (0..TIMES).map(|turn| act(turn).map(|time| time.as_secs_f64() * 1000.0));
    Spread::of(times.collect::<Result<Vec<_>>>()?).context("nothing was repeated")
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The address that the first peer has, and one that it may have in its place.
const OWN: &str = "10.9.100.1";
const OTHER: &str = "10.9.99.1";

fn quoted(address: &str) -> String {
    format!("\"{address}\"")
}

/// relay.toml: what `relay init` wrote, with a wider network and the peers.
fn configuration(own: &str, size: Size) -> Result<String> {
    let mut text = own.replace("10.9.0.1/24", "10.9.0.1/16");
    ensure!(text != own, "relay init gives the hub another address than 10.9.0.1/24");
    let prefix = own.split('"').find_map(|word| word.strip_suffix("::1/64")).context("no IPv6 prefix")?;
    for number in 0..size.peers {
        // Two hundred to each of the networks 10.9.100.0/24 and upward.
        let address = format!("10.9.{}.{}", 100 + number / 200, 1 + number % 200);
        let lans = (number..size.lans).step_by(size.peers).map(|lan| format!("\"10.200.{lan}.0/24\""));
        let lans = lans.collect::<Vec<_>>().join(", ");
        writeln!(
            text,
            "\n[[peer]]\nname = \"peer{number}\"\npublic_key = \"{}\"\naddresses = [\"{address}\", \"{prefix}::1:{:x}\"]\n\
             endpoint = \"203.0.113.{}:{}\"\nlans = [{lans}]",
            nobodys(number),
            number + 1,
            1 + number % 200,
            10_000 + number,
        )?;
    }
    Ok(text)
}

/// A key that nobody has.
fn nobodys(number: usize) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    PublicKey::new(bytes)
}

/// What each pinned map takes in the kernel, in bytes, by the kernel's own account.
fn map_memory() -> Result<Vec<(String, u64)>> {
    let folder = Pins::new("wg0".parse()?).maps();
    let mut maps = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("looking into {}", folder.display()))? {
        let path = entry?.path();
        let Ok(map) = MapData::from_pin(&path) else { continue };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor(&map)))?;
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        maps.push((name, line.trim().parse()?));
    }
    maps.sort();
    ensure!(!maps.is_empty(), "no map is pinned in {}", folder.display());
    Ok(maps)
}

fn descriptor(map: &MapData) -> libc::c_int {
    use std::os::fd::AsFd as _;
    map.fd().as_fd().as_raw_fd()
}
