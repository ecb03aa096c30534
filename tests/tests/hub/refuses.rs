//! What relay refuses, with one clear message, leaving everything as it was.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{lab::relay::Relay, netns::wait_for};

use crate::{DEADLINE, configured, hub, machine, status};

/// Runs `relay up`, which must end by itself and say each of `words`.
fn refused(hub: &Relay<'_>, machine: &relay_tests::netns::Netns, words: &[&str]) -> Result<()> {
    let daemon = hub.spawn(&["up"])?;
    let ended = wait_for("relay up to give up", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    ensure!(!ended.success(), "relay up said nothing");
    let log = hub.log();
    for word in words {
        ensure!(log.contains(word), "no {word:?} in: {log}");
    }
    ensure!(!log.contains("backtrace") && !log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn an_interface_that_is_somebody_elses() -> Result<()> {
    let machine = machine("foreign")?;
    let hub = configured(&machine)?;
    machine.run("ip link add wg0 type veth peer name far0")?;
    machine.run("ip address add 10.66.0.1/24 dev wg0")?;
    let before = machine.run("ip -d address show wg0")?;
    refused(&hub, &machine, &["wg0", "not relay's"])?;
    ensure!(machine.run("ip -d address show wg0")? == before);
    ensure!(machine.run("nft list ruleset")?.is_empty());
    // Nor does down take it away.
    hub.run(&["down"])?;
    ensure!(machine.run("ip -d address show wg0")? == before);
    Ok(())
}

#[test]
fn a_port_that_is_taken() -> Result<()> {
    let machine = machine("port")?;
    let hub = configured(&machine)?;
    let taken =
        machine.inside(|| std::net::UdpSocket::bind("0.0.0.0:51820").context("binding the port first"))?;
    refused(&hub, &machine, &["51820"])?;
    drop(taken);
    ensure!(machine.run("ip link show wg0").is_err(), "wg0 was left behind");
    ensure!(machine.run("nft list ruleset")?.is_empty(), "the table was left behind");
    Ok(())
}

#[test]
fn a_second_instance() -> Result<()> {
    let machine = machine("second")?;
    let hub = hub(&machine)?;
    let first = hub.daemon().context("the daemon was started")?;
    refused(&hub, &machine, &["another relay", &first.to_string()])?;
    hub.run(&["status"]).context("the first one answers still").map(drop)
}

#[test]
fn whoever_is_not_root() -> Result<()> {
    let machine = machine("user")?;
    let hub = hub(&machine)?;
    for arguments in [&["status"][..], &["stats"], &["up"], &["down"], &["reload"]] {
        let error =
            hub.run_as_nobody(arguments).err().with_context(|| format!("{arguments:?} was let in"))?;
        let said = format!("{error:#}");
        ensure!(said.contains("root") || said.contains("permission"), "{arguments:?}: {said}");
        ensure!(said.matches("error:").count() == 1, "{arguments:?}: one message: {said}");
    }
    Ok(())
}

/// (what is wrong, text in the file, what stands there instead, what the refusal names)
const BAD_FILES: &[(&str, &str, &str, &[&str])] = &[
    ("an unknown key", "listen_port", "listen_prot", &["relay.toml:", "listen_prot"]),
    ("no TOML", "[interface]", "[interface", &["relay.toml:"]),
    ("a LAN in the tunnel", "192.168.40.0/24", "10.9.0.0/25", &["relay.toml:", "10.9.0.0/25", "home"]),
    ("a LAN of the hub's own network", "192.168.40.0/24", "198.51.100.0/25", &["198.51.100", "eth0", "home"]),
    ("two peers of one name", "name = \"phone\"", "name = \"home\"", &["relay.toml:", "home"]),
    ("another interface", "name = \"wg0\"", "name = \"wg1\"", &["relay down"]),
];

#[test]
fn a_bad_file_and_keeps_the_old_state() -> Result<()> {
    let machine = machine("bad-file")?;
    let hub = hub(&machine)?;
    let before = machine.run("wg show wg0 allowed-ips")?;
    for (what, from, to, words) in BAD_FILES {
        let good = hub.edit(from, to)?;
        let error = hub.run(&["reload"]).err().with_context(|| format!("{what} was accepted"))?;
        let said = format!("{error:#}");
        for word in *words {
            ensure!(said.contains(word), "{what}: no {word:?} in: {said}");
        }
        ensure!(machine.run("wg show wg0 allowed-ips")? == before, "{what} changed the peers");
        ensure!(status(&hub)?["peers"] == 2, "{what}");
        hub.write(&good)?;
    }
    hub.run(&["reload"]).context("the good file again").map(drop)
}

#[test]
fn the_group_may_look_and_not_end_the_hub() -> Result<()> {
    let machine = machine("group")?;
    // The machine's own list of groups, so that the host's stays as it is.
    machine.run("cp /etc/group /run/group")?;
    machine.inside(|| {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).open("/run/group")?;
        Ok(writeln!(file, "relay:x:4242:")?)
    })?;
    machine.run("mount --bind /run/group /etc/group")?;
    let hub = hub(&machine)?;
    ensure!(machine.run("stat -c %a:%u:%g /run/relay/relay.sock")? == "660:0:4242\n");
    let member = |args: &str| {
        let relay = relay_tests::lab::relay::binary()?;
        machine.run(&format!(
            "setpriv --reuid 65534 --regid 65534 --groups 4242 -- {} --config /run/lab/relay.toml {args}",
            relay.display()
        ))
    };
    for args in ["status", "stats --json", "reload"] {
        member(args)?;
    }
    let refused = format!("{:#}", member("down").err().context("a member took the hub down")?);
    ensure!(refused.contains("only root"), "{refused}");
    hub.run(&["status"]).map(drop)
}
