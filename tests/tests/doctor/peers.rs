//! Faults of peers, in the laboratory's world: home with its LAN and the phone are connected, others try to be.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, peer, relay, with_everybody, world::VPS},
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, Fault, doctor, named, silent};

/// The public key of RFC 7748 6.1's Alice, who is no hub of ours.
const OTHER_HUB: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// At home.
const HOME: &[Fault] = &[
    Fault {
        name: "home does not forward",
        inject: "sysctl -qw net.ipv4.ip_forward=0",
        check: "lan",
        words: "does not forward toward 192.168.40.0/24",
        undo: "sysctl -qw net.ipv4.ip_forward=1",
    },
    Fault {
        name: "home does not masquerade",
        inject: "nft list table ip relay-home > /run/masquerade; nft delete table ip relay-home",
        check: "lan",
        words: "masquerade",
        undo: "nft -f /run/masquerade",
    },
    Fault {
        name: "home's firewall refuses",
        inject: "nft 'add table ip f; add chain ip f forward { type filter hook forward priority 0; }; add rule ip f forward iifname \"home\" reject with icmp type admin-prohibited'",
        check: "lan",
        words: "code 13",
        undo: "nft delete table ip f",
    },
    Fault {
        name: "home answers nothing",
        inject: "nft 'add table ip f; add chain ip f pre { type filter hook prerouting priority -200; }; add rule ip f pre iifname \"home\" drop'",
        check: "tunnel",
        words: "answers no ping through the tunnel",
        undo: "nft delete table ip f",
    },
];

/// On the hub, seen by whoever follows home.
const WAY: &[Fault] = &[Fault {
    name: "a part of the LAN is refused",
    inject: "ip route add blackhole 192.168.40.128/25",
    check: "networks",
    words: "ip route delete blackhole 192.168.40.128/25",
    undo: "ip route del blackhole 192.168.40.128/25",
}];

/// On the hub.
const HUB: &[Fault] = &[
    Fault {
        name: "a part of the LAN is routed elsewhere",
        inject: "ip route add 192.168.40.128/25 via 198.51.100.1",
        check: "networks",
        words: "192.168.40.128/25",
        undo: "ip route del 192.168.40.128/25",
    },
    Fault {
        name: "a home without keepalive",
        inject: "sed -i 's/^name = \"home\"/&\\nkeepalive = 0/' /run/lab/relay.toml",
        check: "keepalive",
        words: "PersistentKeepalive = 25",
        undo: "sed -i '/^keepalive = 0/d' /run/lab/relay.toml",
    },
];

#[test]
fn each_fault_of_a_peer_is_named() -> Result<()> {
    with_everybody(&relay::binary()?, UDP_TIMEOUT, |world, relay| {
        // Whoever says something first shakes hands; then all is well, from end to end.
        keep_saying(&world.phone)?;
        silent(&world.vps, &[])?;
        silent(&world.vps, &["home"])?;
        if guest::line().is_some() {
            // Only what depends on the kernel: its pings and forwarding, and, below, its WireGuard.
            named(&world.vps, &world.home, &["home"], &HOME[..1])?;
        } else {
            named(&world.vps, &world.home, &["home"], HOME)?;
            named(&world.vps, &world.vps, &[], HUB)?;
            named(&world.vps, &world.vps, &["home"], WAY)?;
            silent(&world.vps, &[])?;
        }
        those_who_knock(world, relay)
    })
}

/// Several who try in vain at the same time, each for a reason of its own.
fn those_who_knock(world: &World, relay: &Relay<'_>) -> Result<()> {
    let machines = [visitor(world, "late", 1)?, visitor(world, "guest", 2)?, visitor(world, "other", 3)?];
    let [late, removed, other] = &machines;
    // The hub's answers do not reach the first; the second was removed since; the third knows another hub's key.
    let config = relay.run(&["peer", "add", "late"])?;
    let address = "198.18.1.2";
    world.vps.nft(&format!("add table ip lost\nadd chain ip lost out {{ type filter hook output priority 0; }}\nadd rule ip lost out ip daddr {address} drop"))?;
    peer::wg_quick_up(late, "tunnel", &config)?;
    let config = relay.run(&["peer", "add", "guest"])?;
    relay.run(&["peer", "remove", "guest"])?;
    peer::wg_quick_up(removed, "tunnel", &config)?;
    let key = config.lines().find_map(|line| line.strip_prefix("PublicKey = ")).context("no PublicKey")?;
    let wrong = config.replace(key, OTHER_HUB);
    peer::wg_quick_up(other, "tunnel", &wrong)?;
    relay.run(&["peer", "add", "tablet"])?;
    relay.run(&["peer", "disable", "phone"])?;
    machines.iter().try_for_each(keep_saying)?;
    wait_for("all who knock to be named", DEADLINE, || {
        let said = doctor(&world.vps, &[])?;
        said.names("initiation", "does not take the hub's answers")?;
        said.names("initiation", "which no peer in the file has")?;
        said.names("initiation", "another hub's key")?;
        said.names("initiation", "is disabled")?;
        said.names("handshake", "does not knock")
    })?;
    doctor(&world.vps, &["phone"])?.names("peer", "the way breaks at `peer`")
}

/// A machine with a public address of its own.
fn visitor(world: &World, name: &str, number: u8) -> Result<Netns> {
    let machine = Netns::new(name)?;
    world.internet.cable(name, &machine, "eth0")?;
    world.internet.run(&format!("ip addr add 198.18.{number}.1/24 dev {name}"))?;
    machine.run_all(&format!(
        "ip addr add 198.18.{number}.2/24 dev eth0
         ip route add {VPS}/32 via 198.18.{number}.1"
    ))?;
    Ok(machine)
}

/// Something for the hub, each second, for as long as the machine is there.
fn keep_saying(machine: &Netns) -> Result<()> {
    let mut command = machine.command("ping");
    command.args(["-n", "-q", "-i", "1", "10.9.0.1"]).stdin(Stdio::null()).stdout(Stdio::null());
    machine.spawn(&mut command).map(drop)
}
