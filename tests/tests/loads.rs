//! What relay prints is what other programs take, unchanged: wg-quick, `wg setconf` and `wg syncconf`.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{Relay, peer, relay},
    netns::{Netns, checked},
};

/// Peers of every kind, and what is said of them.
const PEERS: [(&str, &[&str]); 4] = [
    ("phone", &[]),
    (
        "traveller",
        &[
            "--full-tunnel",
            "--dns",
            "9.9.9.9",
            "--dns",
            "home.arpa",
            "--mtu",
            "1280",
            "--keepalive",
            "30",
            "--psk",
        ],
    ),
    ("home", &["--lan", "192.168.40.0/24", "--lan", "fd00:40::/64", "--psk"]),
    ("Zoë's # = [Peer]", &["--expires", "30d"]),
];

/// Stands where Debian's resolvconf or openresolv would, and writes down what it is told.
const RESOLVCONF: &str = "#!/bin/sh\n{ echo \"$@\"; cat; } >> /run/resolvconf.log\n";

/// The values of a configuration's keys, lists joined; comments and what wg-quick keeps for itself left out.
fn values(config: &str) -> BTreeMap<String, Vec<String>> {
    let own = ["Address", "MTU", "DNS", "PostUp", "PostDown", "ListenPort", "FwMark"];
    let lines =
        config.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in lines.filter(|(key, _)| !own.contains(key)) {
        values.entry(key.to_owned()).or_default().extend(value.split(", ").map(str::to_owned));
    }
    values.values_mut().for_each(|list| list.sort());
    values
}

fn save(machine: &Netns, path: &str, text: &str) -> Result<()> {
    machine.inside(|| {
        fs::write(path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
    })
}

#[test]
fn wg_takes_what_wg_quick_strips() -> Result<()> {
    let machine = Netns::with_uplink("stripped")?;
    let hub = Relay::init(&machine, &relay::binary()?)?;
    if machine.run("ip link add wgx type wireguard").is_err() {
        machine.run("wireguard-go wgx")?;
    }
    for (name, options) in PEERS {
        let config = hub.run(&[&["peer", "add", name], options].concat())?;
        save(&machine, "/run/wgx.conf", &config)?;
        let stripped = machine.run("wg-quick strip /run/wgx.conf")?;
        save(&machine, "/run/stripped", &stripped)?;
        for verb in ["setconf", "syncconf"] {
            machine
                .run(&format!("wg {verb} wgx /run/stripped"))
                .with_context(|| format!("{name}:\n{config}"))?;
            let live = values(&machine.run("wg showconf wgx")?);
            ensure!(
                live == values(&config),
                "{name}: wg {verb} made something else of it: {:?}",
                live.keys()
            );
            ensure!(live.contains_key("PrivateKey") && live.contains_key("AllowedIPs"), "{:?}", live.keys());
        }
    }
    Ok(())
}

#[test]
fn wg_quick_takes_it_whole() -> Result<()> {
    let vps = Netns::with_uplink("prints")?;
    let hub = Relay::init(&vps, &relay::binary()?)?;
    for (number, (name, options)) in PEERS.into_iter().enumerate() {
        let config = hub.run(&[&["peer", "add", name], options].concat())?;
        let machine = Netns::with_uplink("takes")?;
        machine.inside(|| {
            fs::create_dir("/run/bin")?;
            fs::write("/run/bin/resolvconf", RESOLVCONF)?;
            Ok(fs::set_permissions("/run/bin/resolvconf", fs::Permissions::from_mode(0o755))?)
        })?;
        let interface = format!("wg{number}");
        let path = format!("/run/{interface}.conf");
        save(&machine, &path, &config)?;
        let quick = |verb: &str| {
            let mut command = machine.command("env");
            command.args(["PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", "wg-quick", verb, &path]);
            command.env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go");
            checked(&mut command).with_context(|| format!("wg-quick {verb} for {name}:\n{config}"))
        };
        quick("up")?;
        let live = values(&machine.run(&format!("wg showconf {interface}"))?);
        ensure!(live == values(&config), "{name}: {:?}", live.keys());
        let addresses = machine.run(&format!("ip address show dev {interface}"))?;
        for address in peer::addresses(&config) {
            ensure!(addresses.contains(&format!(" {address}/")), "{name}: {addresses}");
        }
        let line = |key: &str| config.lines().find_map(|line| line.strip_prefix(key));
        let mtu = line("MTU = ").context("an MTU")?;
        ensure!(addresses.contains(&format!("mtu {mtu} ")), "{name}: {addresses}");
        let told = machine.run("cat /run/resolvconf.log").unwrap_or_default();
        match line("DNS = ") {
            Some("9.9.9.9, home.arpa") => {
                ensure!(told.contains("nameserver 9.9.9.9") && told.contains("search home.arpa"), "{told}");
            }
            other => ensure!(other.is_none() && told.is_empty(), "{name}: {other:?}, {told}"),
        }
        let everything = options.contains(&"--full-tunnel");
        let elsewhere = machine.run("ip route get 203.0.113.77")?;
        ensure!(elsewhere.contains(&format!("dev {interface}")) == everything, "{name}: {elsewhere}");
        quick("down")?;
        ensure!(machine.run(&format!("ip link show dev {interface}")).is_err(), "{name}: it is still there");
    }
    Ok(())
}
