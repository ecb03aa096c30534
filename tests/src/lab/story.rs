//! The story of the laboratory, step by step: each step is told on stderr, timed, and a line in the results.

use std::{
    fmt::Display,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    Cabin, DEADLINE, Relay, UDP_TIMEOUT, World,
    cabin::{STOVE4, STOVE6},
    carried_whole, connect_home, connect_phone,
    echo::{self, Echo},
    join_cabin, peer,
    web::{self, Server, noise, sha256},
    world::{HOME_PUBLIC, NAS4, NAS6},
};
use crate::netns::wait_for;

const PAGE: &[u8] = b"<!doctype html><title>nas</title><h1>You are at home.</h1>\n";
const BULK: usize = 64 << 20;
const UPLOAD: usize = 16 << 20;
const DATAGRAMS: u32 = 200;
/// Fits into one packet of the tunnel.
const DATAGRAM: usize = 1200;
/// How long one question may take before it is asked again; it takes 10 ms.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least part of the bulk's packets that must take the fast path.
const SHARE: f64 = 0.95;

/// What happened.
pub struct Outcome {
    steps: Vec<Value>,
    facts: serde_json::Map<String, Value>,
    failed: bool,
    begun: Instant,
}

impl Outcome {
    /// Whether every step worked.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.failed
    }

    /// As data.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut value = json!({"ok": self.is_ok(), "steps": self.steps, "seconds": seconds(self.begun)});
        if let Value::Object(fields) = &mut value {
            fields.extend(self.facts.clone());
        }
        value
    }

    fn step<T, Told: Display>(&mut self, title: &str, act: impl FnOnce() -> Result<(T, Told)>) -> Result<T> {
        let number = self.steps.len() + 1;
        eprintln!("{number:>2}. {title} …");
        let begun = Instant::now();
        let outcome = act();
        let (ok, told) = match &outcome {
            Ok((_, told)) => (true, told.to_string()),
            Err(error) => (false, format!("{error:#}")),
        };
        let took = seconds(begun);
        eprintln!("    {}{told} ({took} s)", if ok { "" } else { "FAILED: " });
        self.steps.push(json!({"step": title, "ok": ok, "told": told, "seconds": took}));
        outcome.map(|(value, _)| value)
    }

    fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }
}

fn seconds(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0
}

/// Tells it with that `relay`. `at_the_end` sees the world while it is still up, also after a failure.
pub fn tell(binary: &Path, at_the_end: impl FnOnce(&World, &Cabin)) -> Outcome {
    let mut outcome =
        Outcome { steps: Vec::new(), facts: serde_json::Map::new(), failed: false, begun: Instant::now() };
    let world = outcome.step(
        "an internet, a VPS, two homes behind carrier-grade NAT, a phone behind its own",
        || {
            let world = World::new(UDP_TIMEOUT)?;
            let cabin = Cabin::new(&world)?;
            let told = format!(
                "{} machines; the NATs forget UDP after {} s",
                world.machines().len() + cabin.machines().len(),
                UDP_TIMEOUT.as_secs()
            );
            Ok(((world, cabin), told))
        },
    );
    let Ok((world, cabin)) = world else {
        outcome.failed = true;
        return outcome;
    };
    outcome.failed = in_the_world(&mut outcome, &world, &cabin, binary, at_the_end).is_err();
    outcome
}

fn in_the_world(
    outcome: &mut Outcome,
    world: &World,
    cabin: &Cabin,
    binary: &Path,
    at_the_end: impl FnOnce(&World, &Cabin),
) -> Result<()> {
    let mut relay = outcome.step("relay init on the VPS", || {
        Relay::init(&world.vps, binary).map(|relay| (relay, "a configuration, and nothing started yet"))
    })?;
    let bulk = noise(1, BULK);
    let _nas = Server::start(&world.nas, [("/", PAGE.to_vec()), ("/bulk", bulk.clone())])?;
    let _home = Server::start(&world.home, [("/", PAGE.to_vec())])?;
    let _stove = Server::start(&cabin.stove, [("/", PAGE.to_vec())])?;
    let _phone = Server::start(&world.phone, [("/photo", noise(2, 4 << 20))])?;
    let told = with_relay(outcome, world, (cabin, binary), &mut relay, &bulk);
    if told.is_err() {
        eprintln!("\nwhat relay up said:\n{}", relay.log());
    }
    at_the_end(world, cabin);
    let down =
        outcome.step("relay down leaves nothing behind", || down(world, &relay).map(|told| ((), told)));
    told.and(down)
}

fn with_relay(
    outcome: &mut Outcome,
    world: &World,
    (cabin, binary): (&Cabin, &Path),
    relay: &mut Relay<'_>,
    bulk: &[u8],
) -> Result<()> {
    outcome.step("relay up on the VPS", || {
        relay.up()?;
        let stats = relay.stats()?;
        let [backend, state, reason] =
            [&stats.0["backend"], &stats.0["fast_path"]["state"], &stats.0["fast_path"]["reason"]]
                .map(|value| value.as_str().unwrap_or("unknown"));
        Ok(((), format!("{backend} WireGuard, fast path {state}: {reason}")))
    })?;
    outcome.step("nobody reaches the home from the internet", || {
        let url = format!("http://{HOME_PUBLIC}/");
        ensure!(
            web::fetch(&world.home, "http://127.0.0.1/").is_ok(),
            "the home server's own page is not there"
        );
        let quick = world.internet.run(&format!("curl -s --noproxy * --connect-timeout 2 {url}"));
        ensure!(quick.is_err(), "{url} answered");
        Ok(((), format!("{url} is silent, though the home server has a page")))
    })?;
    let home_config = outcome
        .step("relay peer add home; its configuration, as printed, to wg-quick at home", || {
            Ok((connect_home(world, relay)?, "up"))
        })?;
    outcome.step("the home server dials out through carrier-grade NAT", || {
        let endpoint = wait_for("home's handshake", DEADLINE, || {
            let stats = relay.stats()?;
            stats.handshake("home")?;
            Ok(stats.peer("home")?["endpoint"].clone())
        })?;
        ensure!(endpoint.to_string().contains(HOME_PUBLIC), "relay sees {endpoint}, not the ISP's address");
        Ok(((), format!("handshake; relay sees {endpoint}")))
    })?;
    let cabin_relay = outcome.step(
        "a second home by relay itself: peer invite, join at the cabin, peer approve",
        || {
            let home = join_cabin(cabin, relay, binary)?;
            wait_for("the cabin's handshake", DEADLINE, || relay.stats()?.handshake("cabin"))?;
            Ok((home, "two lines, and the key never left the cabin"))
        },
    )?;
    let phone_config = outcome
        .step("relay peer add phone; its configuration, as printed, to wg-quick there", || {
            Ok((connect_phone(world, relay)?, "up"))
        })?;
    fetches(outcome, world, &home_config)?;
    outcome.step("the phone fetches from the stove in the cabin, which sees its own server ask", || {
        for (stove, server) in [(STOVE4, "192.168.50.2"), (STOVE6, "fd00:50::2")] {
            wait_for(&format!("an answer from {stove}"), DEADLINE, || {
                let seen = web::who(&world.phone, stove, PATIENCE)?;
                ensure!(seen == server, "{stove} saw {seen}");
                Ok(())
            })?;
        }
        let told = format!("relay status at the cabin:\n\n{}", cabin_relay.run(&["status"])?);
        Ok(((), told))
    })?;
    fast_path(outcome, world, relay, bulk)?;
    both_ways(outcome, world, &home_config, &phone_config)?;
    outcome.step("relay down at the cabin", || {
        cabin_relay.run(&["down"])?;
        let left = cabin.server.run("nft list ruleset")? + &cabin.server.run("ip -brief link show")?;
        ensure!(!left.contains("relay") && !left.contains("wg0"), "{left}");
        Ok(((), "no interface, no table"))
    })?;
    outcome
        .step("the counters", || {
            let (stats, table) = (relay.stats()?, relay.run(&["stats"])?);
            for name in ["home", "phone"] {
                let carried = &stats.peer(name)?["fast_path"];
                ensure!(
                    carried["sent"]["packets"].as_u64() > Some(0),
                    "nothing sent to {name} by the fast path"
                );
                ensure!(
                    carried["received"]["packets"].as_u64() > Some(0),
                    "nothing from {name} by the fast path"
                );
            }
            Ok((stats, format!("relay stats:\n\n{table}")))
        })
        .map(|stats| outcome.fact("stats", stats.0))
}

fn fetches(outcome: &mut Outcome, world: &World, home_config: &str) -> Result<()> {
    let fetched = outcome.step("the phone fetches the page of the NAS", || {
        let url = format!("http://{NAS4}/");
        let page = wait_for("the first page", DEADLINE, || web::fetch(&world.phone, &url))?;
        ensure!(page.sha256 == sha256(PAGE), "{url} came with SHA-256 {}", page.sha256);
        let told = format!("{url}: {} bytes, SHA-256 {}", page.bytes, page.sha256);
        Ok((json!({"url": url, "bytes": page.bytes, "sha256": page.sha256}), told))
    })?;
    outcome.fact("page", fetched);
    outcome.step("the same by IPv6, and from the home server itself", || {
        let mut urls = vec![format!("http://[{NAS6}]/")];
        let own = peer::addresses(home_config);
        ensure!(own.len() == 2, "home's configuration has {} addresses, not one of each family", own.len());
        urls.extend(
            own.iter()
                .map(|ip| if ip.is_ipv4() { format!("http://{ip}/") } else { format!("http://[{ip}]/") }),
        );
        for url in &urls {
            let page = web::fetch(&world.phone, url)?;
            ensure!(page.sha256 == sha256(PAGE), "{url} came with SHA-256 {}", page.sha256);
        }
        Ok(((), urls.join(", ")))
    })
}

fn fast_path(outcome: &mut Outcome, world: &World, relay: &Relay<'_>, bulk: &[u8]) -> Result<()> {
    let url = format!("http://{NAS4}/");
    outcome.step("packets go from decryption straight to encryption", || {
        let stats = relay.stats()?;
        ensure!(stats.fast_path_is_on(), "the fast path is off: {}", stats.0["fast_path"]["reason"]);
        let seen = carried_whole(world, relay, &url)?;
        Ok(((), format!("all {seen} packets of a page")))
    })?;
    let (fetched, share) = outcome.step("64 MiB from the NAS to the phone", || {
        let before = relay.stats()?;
        let got = web::fetch(&world.phone, &format!("{url}bulk"))?;
        let (redirected, seen) = relay.stats()?.since(&before)?;
        ensure!(
            got.bytes == bulk.len() as u64 && got.sha256 == sha256(bulk),
            "{} bytes came damaged",
            got.bytes
        );
        let share = redirected as f64 / seen.max(1) as f64;
        let told = format!(
            "SHA-256 {}, {:.0} Mbit/s, fast path {redirected} of {seen} packets = {share:.4}",
            got.sha256,
            got.rate()
        );
        ensure!(share > SHARE, "only {told}");
        let fetched = json!({"bytes": got.bytes, "sha256": got.sha256, "mbit_per_s": got.rate().round()});
        Ok(((fetched, json!({"share": share, "redirected": redirected, "seen": seen})), told))
    })?;
    outcome.fact("bulk", fetched);
    outcome.fact("fast_path", share);
    Ok(())
}

fn both_ways(outcome: &mut Outcome, world: &World, home_config: &str, phone_config: &str) -> Result<()> {
    let (home, phone) = (peer::addresses(home_config), peer::addresses(phone_config));
    outcome.step("TCP the other ways: the phone uploads, the home server fetches from the phone", || {
        let body = noise(3, UPLOAD);
        let seen = web::post(&world.phone, &format!("http://{NAS4}/upload"), &body)?;
        ensure!(seen == sha256(&body), "the NAS got something else");
        let phone4 = phone.iter().find(|ip| ip.is_ipv4()).context("the phone has no IPv4 address")?;
        let photo = web::fetch(&world.home, &format!("http://{phone4}/photo"))?;
        ensure!(photo.sha256 == sha256(&noise(2, 4 << 20)), "the photo came damaged");
        Ok(((), format!("{} MiB up, {} MiB fetched, SHA-256 right", UPLOAD >> 20, photo.bytes >> 20)))
    })?;
    outcome.step("UDP both ways, IPv4 and IPv6", || {
        let _echoes = (Echo::start(&world.home)?, Echo::start(&world.phone)?);
        for (machine, targets) in [(&world.phone, &home), (&world.home, &phone)] {
            for &target in targets {
                echo::ask(machine, target, DATAGRAMS, DATAGRAM)?;
            }
        }
        let told = format!("{} × {DATAGRAMS} datagrams, each answered", home.len() + phone.len());
        Ok(((), told))
    })
}

fn down(world: &World, relay: &Relay<'_>) -> Result<String> {
    relay.run(&["down"])?;
    let links = world.vps.run("ip -brief link show")?;
    ensure!(!links.contains("wg0"), "wg0 is still there: {links}");
    let tables = world.vps.run("nft list tables")?;
    ensure!(!tables.contains("relay"), "nftables still has: {tables}");
    let pins = world.vps.run("ls /sys/fs/bpf")?;
    ensure!(!pins.contains("relay"), "pins are still there: {pins}");
    let forwards = world.vps.run("sysctl -n net.ipv4.ip_forward")?;
    ensure!(forwards.trim() == "0", "ip_forward is {forwards}, and was 0");
    Ok("no interface, no table, no pin, forwarding as it was".to_owned())
}
