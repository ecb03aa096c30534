//! Invited, joined, approved: the LAN is reached, with and without NAT; drift heals; down leaves nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, connect_phone, join_home, peer, relay, web, world},
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, sees, status};

/// (what happens, how, a question to the kernel, what its answer must contain again)
type Drift = (&'static str, &'static str, &'static str, &'static str);

const DRIFT: &[Drift] = &[
    ("the interface is deleted", "ip link delete wg0", "ip route", "10.9.0.0/24 dev wg0"),
    ("its addresses are flushed", "ip address flush dev wg0", "ip -4 address show wg0", "10.9.0.2/32"),
    ("its routes are flushed", "ip route flush dev wg0", "ip route", "10.9.0.0/24 dev wg0"),
    ("the table is deleted", "nft delete table inet relay", "nft list table inet relay", "masquerade"),
    ("forwarding is off", "sysctl -qw net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward", "= 1"),
];

/// The isp's side of the home server's uplink.
const ISP: &str = "100.64.0.1";
/// How long nothing may come through where nothing shall.
const SILENCE: Duration = Duration::from_secs(3);

/// Everything of the home server that relay changes.
fn traces(machine: &Netns) -> Result<String> {
    let mut all = String::new();
    for question in [
        "ip -br link",
        "ip -4 -br address",
        "ip -4 route show table all",
        "ip -6 route show table main",
        "nft list ruleset",
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
        "find /run/relay /run/wireguard /var/run/wireguard -type s",
    ] {
        let answer = machine.run(question).unwrap_or_default();
        // The links' own addresses come when they like.
        let answer: String =
            answer.lines().filter(|line| !line.contains("fe80")).collect::<Vec<_>>().join("\n");
        all.push_str(&format!("# {question}\n{answer}\n"));
    }
    Ok(all)
}

#[test]
fn a_home_of_relay_from_its_invitation_to_its_end() -> Result<()> {
    let world = World::new(UDP_TIMEOUT)?;
    let _nas = web::Server::start(&world.nas, [])?;
    let binary = relay::binary()?;
    let mut hub = Relay::init(&world.vps, &binary)?;
    hub.up()?;
    // The kernel tells of a carrier up to a second after it is there.
    wait_for("the home's carriers", DEADLINE, || {
        let links = world.home.run("ip -br link show type veth")?;
        ensure!(links.lines().all(|link| link.contains(" UP ")), "{links}");
        Ok(())
    })?;
    let before = traces(&world.home)?;
    let mut home = join_home(&world, &hub, &binary)?;
    let phone = peer::addresses(&connect_phone(&world, &hub)?);
    let phone = phone.iter().find(|ip| ip.is_ipv4()).context("the phone has no address")?.to_string();
    // What nftables and the loop do, they do alike on every kernel: guests look at one drift.
    let in_guest = guest::line().is_some();
    let told = || {
        masqueraded(&world, &home)?;
        if in_guest {
            return heals(&world, &DRIFT[..1]);
        }
        only_the_lans_are_open(&world, &hub, &home, &phone)?;
        heals(&world, DRIFT)?;
        without_nat(&world, &home, &phone)
    };
    told()
        .inspect_err(|_| eprintln!("relay up said at home:\n{}\non the hub:\n{}", home.log(), hub.log()))?;

    // Killed and started again, as after a crash; with the kernel's WireGuard the tunnel does not even notice.
    home.kill()?;
    home.up()?;
    sees(&world.phone, world::NAS4, if in_guest { "192.168.40.2" } else { &phone })?;
    home.run(&["down"])?;
    let after = traces(&world.home)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

fn masqueraded(world: &World, home: &Relay<'_>) -> Result<()> {
    sees(&world.phone, world::NAS4, "192.168.40.2")?;
    sees(&world.phone, world::NAS6, "fd00:40::2")?;
    let status = status(home)?;
    let of_home = &status["home"];
    ensure!(of_home["latest_handshake"].as_u64().is_some(), "{status}");
    ensure!(of_home["address"] == format!("{}:51820", world::VPS), "{status}");
    ensure!(of_home["lans"][0]["interface"] == "lan" && of_home["nat"] == true, "{status}");
    ensure!(status["problems"] == serde_json::json!([]) && status["fast_path"]["state"] == "off", "{status}");
    let stats = home.stats()?;
    ensure!(stats.peer("hub")?["received"]["bytes"].as_u64() > Some(0), "{:?}", stats.0);
    let live = world.home.run("wg show wg0 persistent-keepalive")?;
    ensure!(live.trim().ends_with("\t25"), "{live}");
    Ok(())
}

/// What the home server publishes on an address of its own, as Docker does.
const PUBLISHED: &str = "nft add table ip published
    nft add chain ip published prerouting { type nat hook prerouting priority dstnat ; }
    nft add rule ip published prerouting ip daddr 192.168.40.2 tcp dport 80 dnat to 100.64.0.1";

/// A hub that claims more than the home has given gets no further than the home's guard; what the home publishes is
/// reached.
fn only_the_lans_are_open(world: &World, hub: &Relay<'_>, home: &Relay<'_>, phone: &str) -> Result<()> {
    let _isp = web::Server::start(&world.isp, [])?;
    // Answers would find their way back.
    world.isp.run("ip route add 10.9.0.0/24 via 100.64.7.2")?;
    world.home.run_all(PUBLISHED)?;
    sees(&world.phone, "192.168.40.2", phone).context("a published port")?;
    world.home.run("nft delete table ip published")?;
    let claimed = format!("lans = [\"{ISP}/32\", ");
    hub.edit("lans = [", &claimed)?;
    hub.run(&["reload"])?;
    sees(&world.phone, world::NAS4, "192.168.40.2").context("the tunnel with one LAN more")?;
    let seen = web::who(&world.vps, ISP, SILENCE);
    ensure!(seen.is_err(), "the hub got through the home to {ISP}: {seen:?}");
    let before = home.edit("lans = [", &claimed)?;
    home.run(&["reload"])?;
    sees(&world.vps, ISP, "100.64.7.2").context("given by the home, it is reached")?;
    home.write(&before)?;
    home.run(&["reload"]).map(drop)
}

fn heals(world: &World, drift: &[Drift]) -> Result<()> {
    for (what, injection, question, answer) in drift {
        world.home.run(injection)?;
        wait_for(&format!("relay to heal it when {what}"), DEADLINE, || {
            let said = world.home.run(question)?;
            ensure!(said.contains(answer), "{question} says: {said}");
            Ok(())
        })?;
    }
    sees(&world.phone, world::NAS4, "192.168.40.2")
}

fn without_nat(world: &World, home: &Relay<'_>, phone: &str) -> Result<()> {
    home.edit("nat = true", "nat = false")?;
    home.run(&["reload"])?;
    let status = home.run(&["status"])?;
    for route in ["10.9.0.0/24 via 192.168.40.2", " via fd00:40::2"] {
        ensure!(status.contains(route), "{status}");
    }
    // What the LAN's router would do for the NAS.
    world.nas.run("ip route add 10.9.0.0/24 via 192.168.40.2")?;
    sees(&world.phone, world::NAS4, phone)
}
