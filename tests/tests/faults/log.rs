//! What the daemon says at its usual level: a line for each change, in words, and not where anybody is. And a log that
//! nobody reads.

use std::{
    io::{Read as _, pipe},
    process::Stdio,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use relay_tests::{
    lab::relay::{self, CONFIG, Relay},
    netns::{Netns, wait_for},
};

use crate::{
    DEADLINE,
    star::{self, with_two},
    wait_for_fast_path,
};

/// What was said since a number of lines; every line is an event of its own.
fn since(hub: &Relay<'_>, said: usize) -> Vec<String> {
    hub.log().lines().skip(said).map(str::to_owned).collect()
}

/// One change behind the daemon's back is one line that tells it.
fn one_line(hub: &Relay<'_>, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let said = hub.log().lines().count();
    act()?;
    wait_for(&format!("the log to tell: {what}"), DEADLINE, || {
        let news = since(hub, said);
        ensure!(news.iter().any(|line| line.contains(what)), "{news:#?}");
        Ok(())
    })?;
    let news = since(hub, said);
    ensure!(news.len() == 1, "more than a line: {news:#?}");
    Ok(())
}

#[test]
fn a_line_a_change_and_no_place_of_anybody() -> Result<()> {
    with_two(|star, hub| {
        let run = |line: &str| star.hub.run(line).map(drop);
        // The MTU is read twice in a look, as the link's and as a sysctl: a change in between is told in more lines.
        one_line(hub, "wg0: remove the address 10.77.0.1/24", || run("ip address add 10.77.0.1/24 dev wg0"))?;
        one_line(hub, "wg0: write the nftables table `inet relay`", || {
            run("nft flush chain inet relay guard-wg0")
        })?;

        // Who connects and transfers is not spoken of.
        let said = hub.log().lines().count();
        star::goes_fast(star, hub)?;
        ensure!(since(hub, said).is_empty(), "{:#?}", since(hub, said));
        for (name, place) in [("home", "10.200.0.2:"), ("phone", "10.200.1.2:")] {
            let stats = hub.stats()?;
            let endpoint = stats.peer(name)?["endpoint"].as_str().context("no endpoint")?;
            ensure!(endpoint.starts_with(place), "{name} is at {endpoint}");
        }

        let policy = "add table ip a\nadd chain ip a f { type filter hook forward priority 0; policy drop; }";
        star.hub.nft(policy)?;
        wait_for_fast_path(hub, false)?;
        star.hub.nft("delete table ip a")?;
        wait_for_fast_path(hub, true)?;
        let key = hub.stats()?.peer("phone")?["public_key"].as_str().context("no key")?.to_owned();
        one_line(hub, "wg0: set the peer phone", || {
            run(&format!("wg set wg0 peer {key} persistent-keepalive 17"))
        })?;
        hub.run(&["peer", "disable", "phone"])?;
        hub.run(&["peer", "enable", "phone"])?;
        hub.edit("listen_port", "listen_part")?;
        ensure!(hub.run(&["reload"]).is_err(), "a bad file was taken");
        hub.edit("listen_part", "listen_port")?;
        let stats = hub.stats()?;
        hub.stop()?;

        let log = hub.log();
        let mut people = vec!["10.200.".to_owned()];
        for name in ["home", "phone"] {
            let addresses = stats.peer(name)?["addresses"].as_array().context("no addresses")?;
            people.extend(addresses.iter().filter_map(|address| Some(format!("{}/", address.as_str()?))));
            people.extend(addresses.iter().filter_map(|address| Some(format!("{} ", address.as_str()?))));
        }
        ensure!(people.len() > 3, "{people:?}");
        for line in log.lines() {
            let told = people.iter().find(|place| format!("{line} ").contains(place.as_str()));
            ensure!(told.is_none(), "{told:?} in: {line}");
            ensure!(line.contains(" INFO ") || line.contains(" WARN "), "half a line: {line:?}\n{log}");
        }
        Ok(())
    })
}

#[test]
fn a_log_that_nobody_reads() -> Result<()> {
    let machine = Netns::new("unread")?;
    let hub = crate::configured(&machine)?;
    let (mut reader, writer) = pipe()?;
    // The smallest there is: full after the first line.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096))?;
    let mut command = machine.command(relay::binary()?);
    command.args(["up", "--config", CONFIG]).env("RELAY_LOG", "trace").stdin(Stdio::null());
    machine.spawn(command.stdout(Stdio::null()).stderr(writer))?;
    drop(command);
    wait_for("relay up to answer", DEADLINE, || hub.run(&["status"]))?;
    machine.run("ip link set wg0 mtu 1300")?;
    wait_for("the MTU to be as the file says", DEADLINE, || {
        let mtu = machine.run("cat /sys/class/net/wg0/mtu")?;
        ensure!(mtu.trim() == "1420", "it is {mtu}");
        Ok(())
    })?;
    hub.run(&["reload"])?;

    // Somebody begins to read: it goes on, and says how much is missing.
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    hub.run(&["reload"])?;
    hub.run(&["down"])?;
    let log = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    ensure!(log.contains(" lines of the log were lost, since nobody took them"), "{log}");
    Ok(())
}
