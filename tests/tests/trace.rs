//! `relay trace` on a hub with traffic: who is told what, and that nothing is told to anybody who has gone.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, pipe},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use relay_common::{Switches, map};
use relay_tests::{
    guest::{self, skip},
    lab::{self, Relay, UDP_TIMEOUT, World, peer, relay, relay::CONFIG_FOLDER, world::NAS4},
    netns::{Netns, wait_for},
};
use relay_user::kernel::datapath::Pins;
use serde_json::Value;

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(40);

/// The hub's own address in the tunnel.
const HUB: &str = "10.9.0.1";

/// A `relay trace` that runs.
struct Tracer<'a> {
    machine: &'a Netns,
    id: u32,
    name: &'static str,
}

impl<'a> Tracer<'a> {
    /// Starts one and waits until it says that it traces.
    fn start(machine: &'a Netns, name: &'static str, args: &[&str]) -> Result<Self> {
        let file = |kind: &str| machine.inside(|| Ok(File::create(path(name, kind))?));
        let mut command = command(machine, args)?;
        let id = machine.spawn(command.stdout(file("out")?).stderr(file("err")?))?;
        let tracer = Self { machine, id, name };
        wait_for("the tracer to trace", DEADLINE, || {
            let said = tracer.said()?;
            ensure!(said.contains("tracing wg0, fast path on"), "it said {said:?}");
            Ok(())
        })?;
        Ok(tracer)
    }

    fn read(&self, kind: &str) -> Result<String> {
        self.machine.inside(|| Ok(std::fs::read_to_string(path(self.name, kind))?))
    }

    fn lines(&self) -> Result<String> {
        self.read("out")
    }

    fn said(&self) -> Result<String> {
        self.read("err")
    }

    /// The lines as JSON; the last one may be half written yet.
    fn told(&self) -> Result<Vec<Value>> {
        self.lines()?
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    fn ends(&self) -> Result<ExitStatus> {
        wait_for("the tracer to end", DEADLINE, || self.machine.ended(self.id)?.context("it runs"))
    }
}

fn path(name: &str, kind: &str) -> String {
    format!("{CONFIG_FOLDER}/{name}.{kind}")
}

fn command(machine: &Netns, args: &[&str]) -> Result<std::process::Command> {
    let mut command = machine.command(relay::binary()?);
    command.arg("trace").args(args).args(["--config", &format!("{CONFIG_FOLDER}/relay.toml")]);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Whether the program on the hub tells anything.
fn switched_on(vps: &Netns) -> Result<bool> {
    vps.inside(|| {
        let pin = Pins::new("wg0".parse()?).maps().join(map::SWITCHES);
        let switches: Array<_, [u32; 4]> = Map::from_map_data(MapData::from_pin(pin)?)?.try_into()?;
        Ok(bytemuck::cast::<_, Switches>(switches.get(&0, 0)?).trace != 0)
    })
}

/// One ping, whether it is answered or not.
fn ping(machine: &Netns, to: &str) {
    let _ = machine.run(&format!("ping -n -q -c 1 -W 1 {to}"));
}

/// Pings until what comes of it is as expected.
fn pinging<T>(what: &str, machine: &Netns, to: &str, check: impl Fn() -> Result<T>) -> Result<T> {
    wait_for(what, DEADLINE, || {
        ping(machine, to);
        check()
    })
}

#[test]
fn tells_what_becomes_of_packets_while_it_runs() -> Result<()> {
    lab::with_everybody(&relay::binary()?, UDP_TIMEOUT, |world, relay| {
        pinging("the fast path to carry a ping", &world.phone, NAS4, || {
            ensure!(relay.stats()?.redirected()? > 1, "it does not");
            Ok(())
        })?;
        ensure!(!switched_on(&world.vps)?, "it is traced before anybody traces");
        only_the_peer(world, relay)?;
        only_the_verdict_until_it_is_killed(world)?;
        if guest::line().is_some() {
            skip("what a kernel may do differently was seen; the rest would take another minute here");
            return Ok(());
        }
        refuses(relay)?;
        until_nobody_reads(world)?;
        beyond_the_daemon(world, relay)
    })
}

fn refuses(relay: &Relay<'_>) -> Result<()> {
    let said = |result: Result<String>| {
        result.map_or_else(|error| format!("{error:#}"), |said| format!("no error: {said}"))
    };
    let stranger = said(relay.run(&["trace", "--peer", "tablet"]));
    ensure!(
        stranger.contains("no peer is called \"tablet\"") && stranger.contains("home, phone"),
        "{stranger}"
    );
    let nobody = said(relay.run_as_nobody(&["trace"]));
    ensure!(nobody.contains("only root may trace"), "{nobody}");
    Ok(())
}

/// With `--peer` its packets in both directions are told, and nobody else's. There is one tracer at a time.
fn only_the_peer(world: &World, relay: &Relay<'_>) -> Result<()> {
    let tracer = Tracer::start(&world.vps, "peer", &["--peer", "phone", "--json"])?;
    ensure!(switched_on(&world.vps)?, "the program was not told");
    let second = relay.run(&["trace"]).err().context("a second tracer runs")?;
    ensure!(format!("{second:#}").contains("another `relay trace` watches wg0"), "{second:#}");

    pinging("a ping to be told in both directions", &world.phone, NAS4, || {
        let told = tracer.told()?;
        let there = told.iter().any(|line| {
            line["from"] == "phone"
                && line["to"] == "home"
                && line["verdict"] == "redirected"
                && line["destination"] == NAS4
                && line["protocol"] == "ICMP"
                && line["bytes"] == 84
        });
        let back =
            told.iter().any(|line| line["from"] == "home" && line["to"] == "phone" && line["source"] == NAS4);
        ensure!(there && back, "{told:?}");
        Ok(())
    })?;
    ping(&world.home, HUB);
    pinging("what is for the hub itself to be told", &world.phone, HUB, || {
        let told = tracer.told()?;
        let local =
            |line: &Value| line["verdict"] == "local" && line["to"].is_null() && line["destination"] == HUB;
        ensure!(told.iter().any(|line| local(line) && line["from"] == "phone"), "{told:?}");
        Ok(())
    })?;
    let told = tracer.told()?;
    let others = told.iter().find(|line| line["from"] != "phone" && line["to"] != "phone");
    ensure!(others.is_none(), "not the phone's: {others:?}");

    world.vps.interrupt(tracer.id)?;
    let status = tracer.ends()?;
    ensure!(status.success() && !switched_on(&world.vps)?, "{status}: {}", tracer.said()?);
    let before = tracer.lines()?;
    ping(&world.phone, NAS4);
    ensure!(tracer.lines()? == before && !switched_on(&world.vps)?, "it goes on");
    Ok(())
}

fn only_the_verdict_until_it_is_killed(world: &World) -> Result<()> {
    let tracer = Tracer::start(&world.vps, "verdict", &["--verdict", "local"])?;
    ping(&world.phone, NAS4);
    pinging("a line for people", &world.phone, HUB, || {
        let lines = tracer.lines()?;
        let told = |line: &str| {
            line.contains("  local  ") && line.contains(" phone → -  10.9.0.") && line.contains("ICMP  84 B")
        };
        ensure!(lines.lines().any(told), "{lines}");
        Ok(())
    })?;
    let lines = tracer.lines()?;
    ensure!(!lines.contains("redirected"), "{lines}");
    world.vps.kill(tracer.id)?;
    pinging("the trace to end by itself", &world.phone, HUB, || {
        ensure!(!switched_on(&world.vps)?, "it is switched on still");
        Ok(())
    })
}

fn until_nobody_reads(world: &World) -> Result<()> {
    let (reader, writer) = pipe()?;
    let mut command = command(&world.vps, &[])?;
    let tracer = world.vps.spawn(command.stdout(writer).stderr(Stdio::null()))?;
    // It holds the other end of the pipe as long as it lives.
    drop(command);
    pinging("the program to be told", &world.phone, NAS4, || {
        ensure!(switched_on(&world.vps)?, "it is not");
        Ok(())
    })?;
    ping(&world.phone, NAS4);
    let line = BufReader::new(reader).lines().next().context("it ended before a line")??;
    ensure!(line.contains("phone") || line.contains("home"), "{line}");
    let ended = || world.vps.ended(tracer)?.context("it runs");
    let status = wait_for("it to notice that nobody reads", DEADLINE, ended)?;
    ensure!(status.success() && !switched_on(&world.vps)?, "{status}");
    Ok(())
}

/// It goes on while the daemon starts anew, and ends with the fast path.
fn beyond_the_daemon(world: &World, relay: &mut Relay<'_>) -> Result<()> {
    let tracer = Tracer::start(&world.vps, "daemon", &["--verdict", "redirected"])?;
    relay.stop()?;
    relay.up()?;
    peer::new_session(&world.phone, "phone")?;
    peer::new_session(&world.home, "home")?;
    let before = tracer.lines()?.len();
    pinging("packets to be told after the daemon came back", &world.phone, NAS4, || {
        let lines = tracer.lines()?;
        ensure!(lines[before..].contains("phone → home"), "{lines}; {}", tracer.said()?);
        Ok(())
    })?;
    relay.run(&["down"])?;
    let status = tracer.ends()?;
    let said = tracer.said()?;
    ensure!(status.code() == Some(1) && said.contains("the fast path was taken off"), "{status}: {said}");
    Ok(())
}
