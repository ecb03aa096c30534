//! What `relay stats --since` knows after daemons and interfaces have come and gone, and that no fault of the disk reaches
//! traffic or the daemon.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{
        peer::{new_session, wg_quick_up},
        pings::Pings,
        relay::{self, Relay},
        world::VPS,
    },
    netns::{Netns, wait_for},
};
use serde_json::Value;

/// Five times what the slowest of these waits took: two samples, of which there is one every ten seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Pings of a conversation, and the bytes of each, headers included.
const PINGS: u64 = 20;
const LENGTH: u64 = 1028;

/// What handshakes and keepalives may add to a conversation, less than half of it.
const SLACK: u64 = 8_000;

/// A machine for the hub and one for a phone, with a cable between them.
fn machines() -> Result<(Netns, Netns)> {
    let (hub, phone) = (Netns::new("hub")?, Netns::new("phone")?);
    hub.cable("eth0", &phone, "eth0")?;
    hub.run_all(&format!("ip address add {VPS}/32 dev lo\nip address add 10.200.0.1/24 dev eth0"))?;
    phone.run_all(&format!("ip address add 10.200.0.2/24 dev eth0\nip route add {VPS}/32 via 10.200.0.1"))?;
    Ok((hub, phone))
}

fn connect(hub: &Relay<'_>, phone: &Netns) -> Result<()> {
    wg_quick_up(phone, "tunnel", &hub.run(&["peer", "add", "phone"])?)?;
    reach(phone)
}

fn reach(phone: &Netns) -> Result<()> {
    wait_for("the hub to answer the phone", DEADLINE, || phone.run("ping -n -q -c 1 -W 2 10.9.0.1").map(drop))
}

/// Says a known amount, and returns what the phone has sent in its session by then.
fn talk(phone: &Netns) -> Result<u64> {
    reach(phone)?;
    let data = LENGTH - 28;
    wait_for("a conversation without a loss", DEADLINE, || {
        let said = phone.run(&format!("ping -n -q -c {PINGS} -i 0.02 -W 5 -s {data} 10.9.0.1"))?;
        ensure!(said.contains(" 0% packet loss"), "{said}");
        Ok(())
    })?;
    let transfer = phone.run("wg show tunnel transfer")?;
    let sent = transfer.split_whitespace().nth(2).context("the phone has no peer")?;
    Ok(sent.parse()?)
}

/// Bytes that the history says the phone has sent and got, in the last hour and ever.
fn told(hub: &Relay<'_>) -> Result<(u64, u64)> {
    let history: Value = serde_json::from_str(&hub.run(&["stats", "--since", "1h", "--json"])?)?;
    let peers = history["peers"].as_array().context("peers")?;
    let phone = peers.iter().find(|peer| peer["name"] == "phone").context("the phone")?;
    let number = |of: &str, way: &str| phone[of][way]["bytes"].as_u64().context("a number");
    let ways = (number("amount", "received")?, number("amount", "sent")?);
    ensure!(ways == (number("total", "received")?, number("total", "sent")?), "{phone}");
    Ok(ways)
}

/// Each sync of a file takes a second longer, and so does closing a history.
const SLOW_DISK: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=fsync,fdatasync",
    "-e",
    "inject=fsync,fdatasync:delay_enter=1000000",
];

#[test]
fn down_returns_when_the_daemon_has_ended() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("a daemon that takes long to end: the kernel has no part in it");
        return Ok(());
    }
    let machine = Netns::new("hub")?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.spawn_under(&SLOW_DISK, &["up"])?;
    wait_for("relay up to answer", DEADLINE, || hub.run(&["status"]).map(drop))?;
    wait_until_working(&hub, true)?;
    hub.run(&["down"])?;
    // It would meet the lock of the one that has not ended.
    hub.up()?;
    hub.stop()
}

/// Whether the daemon says that it writes its history.
fn is_working(hub: &Relay<'_>) -> Result<bool> {
    let metrics = hub.run(&["metrics"])?;
    let sample = metrics.lines().find(|line| line.starts_with("relay_history_working{"));
    Ok(sample.context("nothing of the history")?.ends_with(" 1"))
}

fn wait_until_working(hub: &Relay<'_>, expected: bool) -> Result<()> {
    wait_for(&format!("the history to work: {expected}"), DEADLINE, || {
        ensure!(is_working(hub)? == expected, "it is otherwise; relay says:\n{}", hub.log());
        Ok(())
    })
}

#[test]
fn totals_survive_daemons_and_interfaces() -> Result<()> {
    let (machine, phone) = machines()?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.up()?;
    connect(&hub, &phone)?;
    let mut before = (0, 0);
    let ends = ["a restart", "another interface", "the end"];
    for (round, end) in ends.iter().enumerate() {
        if round > 0 {
            hub.up()?;
            new_session(&phone, "tunnel")?;
        }
        let sent = talk(&phone)?;
        match *end {
            "another interface" => {
                hub.run(&["down"])?;
                ensure!(machine.run("ip link show wg0").is_err(), "wg0 is still there");
            }
            _ => hub.stop()?,
        }
        // No daemon runs.
        let now = told(&hub)?;
        let (received, got) = (now.0 - before.0, now.1 - before.1);
        ensure!(received >= PINGS * LENGTH && got >= PINGS * LENGTH, "{end}: lost: {before:?}, {now:?}");
        ensure!(received <= sent + SLACK, "{end}: counted twice: {received} of {sent}");
        before = now;
    }
    let text = hub.run(&["stats", "--since", "24h"])?;
    ensure!(text.contains("phone") && text.contains('█'), "{text}");
    let csv = hub.run(&["stats", "--since", "24h", "--csv"])?;
    ensure!(csv.lines().nth(1).is_some_and(|line| line.contains(",300,phone,")), "{csv}");
    hub.run(&["stats", "--since", "24h", "--svg", "/run/day.svg"])?;
    ensure!(machine.run("cat /run/day.svg")?.ends_with("</svg>\n"), "no whole picture");
    let mode = machine.run("stat -c %a /var/lib/relay /var/lib/relay/wg0.db")?;
    ensure!(mode == "700\n600\n", "{mode}");
    let denied = hub.run_as_nobody(&["stats", "--since", "24h"]).expect_err("it is root's");
    ensure!(format!("{denied:#}").contains("hint: run this as root"), "{denied:#}");
    Ok(())
}

#[test]
fn neither_a_damaged_file_nor_a_full_disk_stops_anything() -> Result<()> {
    let (machine, phone) = machines()?;
    machine.run_all(
        "mkdir /var/lib/relay
         mount -t tmpfs -o size=512k,mode=0700 tmpfs /var/lib/relay
         cp /proc/self/maps /var/lib/relay/wg0.db",
    )?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.up()?;
    connect(&hub, &phone)?;
    wait_until_working(&hub, true)?;
    ensure!(machine.run("ls /var/lib/relay")?.contains("wg0.db.corrupt-"), "it was not put aside");
    ensure!(hub.log().contains("the history begins anew"), "{}", hub.log());

    let pings = Pings::start(&phone, "10.9.0.1".parse()?)?;
    // Whatever becomes free is taken at once.
    let fill = "while :; do cat /dev/zero >> /var/lib/relay/filler; sleep 0.05; done 2> /dev/null";
    let filling = machine.spawn(machine.command("sh").args(["-c", fill]))?;
    wait_until_working(&hub, false)?;
    ensure!(hub.run(&["status"])?.contains("no history: "), "status says nothing");
    pings.more(100, DEADLINE)?;
    hub.run(&["reload"])?;
    machine.kill(filling)?;
    wait_for("room on the disk", DEADLINE, || machine.run("rm /var/lib/relay/filler").map(drop))?;
    wait_until_working(&hub, true)?;
    reach(&phone)?;
    let tally = pings.end()?;
    let log = hub.log();
    ensure!(log.contains("full") && log.contains("the history is written again"), "{log}");
    let status: Value = serde_json::from_str(&hub.run(&["status", "--json"])?)?;
    guest::fact(
        &serde_json::json!({ "history": "full disk", "lost": tally.lost.len(), "pings": tally.sent }),
    );
    // What userspace WireGuard's queues lose on a busy machine is not the disk's doing.
    let kernel = status["backend"] == "kernel";
    ensure!(!kernel || tally.lost.is_empty(), "{:?} of {} lost", tally.lost, tally.sent);
    ensure!(tally.lost.len() < tally.sent as usize / 2, "{} of {} lost", tally.lost.len(), tally.sent);
    // What was carried meanwhile is in it.
    hub.stop()?;
    let (received, sent) = told(&hub)?;
    let least = u64::from(tally.sent) / 2 * 40;
    ensure!(received >= least && sent >= least, "{received} and {sent} of {} pings", tally.sent);
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("a read-only file system is the same on any kernel");
        return Ok(());
    }
    let (machine, phone) = machines()?;
    machine.run("mount -o remount,ro /var/lib")?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.up()?;
    connect(&hub, &phone)?;
    wait_until_working(&hub, false)?;
    let log = hub.log();
    ensure!(log.contains("no history: cannot make /var/lib/relay: Read-only file system"), "{log}");
    ensure!(log.matches("no history").count() == 1, "said more than once: {log}");
    let refused = format!("{:#}", hub.run(&["stats", "--since", "1h"]).expect_err("there is none"));
    ensure!(refused.contains("/var/lib/relay/wg0.db") && refused.contains("hint: "), "{refused}");
    machine.run("mount -o remount,rw /var/lib")?;
    wait_until_working(&hub, true)?;
    // What a killed daemon leaves, its log beside it, can be read.
    hub.kill()?;
    told(&hub)?;
    hub.up()?;
    new_session(&phone, "tunnel")?;
    talk(&phone)?;
    hub.stop()?;
    ensure!(told(&hub)?.0 >= PINGS * LENGTH, "{:?}", told(&hub)?);
    Ok(())
}
