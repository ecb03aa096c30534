//! A phone that sends everything through the hub, in the laboratory's world: a server in the internet sees the VPS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{Relay, UDP_TIMEOUT, World, connect_home, peer, relay, web, world},
    netns::{Netns, wait_for},
};

/// For what is over in 2 s; a lost initiation is repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// How long one fetch may take before it is tried again; it takes 10 ms.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing may come through where nothing shall.
const SILENCE: Duration = Duration::from_secs(3);

/// The VPS up, a web server in the internet, and a phone added with these words.
fn with_phone(
    options: &[&str],
    prepare: impl FnOnce(&World, &Relay<'_>) -> Result<()>,
    act: impl FnOnce(&World, &mut Relay<'_>) -> Result<()>,
) -> Result<()> {
    let world = World::new(UDP_TIMEOUT)?;
    let _server = web::Server::start(&world.internet, [])?;
    let mut relay = Relay::init(&world.vps, &relay::binary()?)?;
    prepare(&world, &relay)?;
    relay.up()?;
    let config = relay.run(&[&["peer", "add", "phone"], options].concat())?;
    peer::wg_quick_up(&world.phone, "phone", &config)?;
    act(&world, &mut relay).inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))
}

fn sees(phone: &Netns, server: &str, expected: &str) -> Result<()> {
    wait_for(&format!("{server} to see {expected}"), DEADLINE, || {
        let seen = web::who(phone, server, PATIENCE)?;
        ensure!(seen == expected, "it sees {seen}");
        Ok(())
    })
}

fn exit_rules(vps: &Netns) -> Result<usize> {
    Ok(vps.run("nft list table inet relay")?.matches("masquerade").count())
}

#[test]
fn the_internet_sees_the_vps_and_home_is_reached_too() -> Result<()> {
    with_phone(
        &["--full-tunnel"],
        |_, _| Ok(()),
        |world, relay| {
            let phone = &world.phone;
            sees(phone, world::SERVER, world::VPS)?;
            sees(phone, world::SERVER6, world::VPS6)?;
            ensure!(exit_rules(&world.vps)? == 2, "{}", world.vps.run("nft list table inet relay")?);

            // A home that comes later needs no word in the phone's configuration, and sees the phone's own address.
            let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec())])?;
            connect_home(world, relay)?;
            wait_for("a page from home", DEADLINE, || {
                web::fetch(phone, &format!("http://{}/", world::NAS4)).map(drop)
            })?;
            ensure!(relay.stats()?.fast_path_is_on(), "{}", relay.stats()?.0["fast_path"]);

            // The guard holds: the server gets no further than the answers to what the phone asked.
            let address = peer::addresses(&phone.run("cat /run/phone.conf")?)
                .into_iter()
                .find(std::net::IpAddr::is_ipv4)
                .context("an address")?;
            world.internet.run(&format!("ip route add {address} via {}", world::VPS))?;
            let _web = web::Server::start(phone, [])?;
            let knocked = web::who(&world.internet, &address.to_string(), SILENCE);
            ensure!(knocked.is_err(), "the internet reached the phone: {knocked:?}");

            relay.run(&["down"])?;
            let left = world.vps.run("nft list ruleset")?;
            ensure!(!left.contains("relay"), "{left}");
            Ok(())
        },
    )
}

#[test]
fn without_it_the_hub_is_no_way_out() -> Result<()> {
    with_phone(
        &[],
        |_, _| Ok(()),
        |world, relay| {
            let phone = &world.phone;
            // Its own way, past the tunnel.
            sees(phone, world::SERVER, world::PHONE_PUBLIC)?;
            ensure!(exit_rules(&world.vps)? == 0, "somebody is masqueraded");

            // One who helps himself to a route gets no answer: nothing in the internet knows the tunnel's addresses.
            let hub = phone.run("wg show phone peers")?;
            phone.run(&format!("wg set phone peer {} allowed-ips 0.0.0.0/0", hub.trim()))?;
            phone.run(&format!("ip route add {}/32 dev phone", world::SERVER))?;
            let got = web::who(phone, world::SERVER, SILENCE);
            ensure!(got.is_err(), "it got out: {got:?}");

            // The same phone with the hub's leave, given while everything runs.
            relay.insert_after("name = \"phone\"\n", "full_tunnel = true\n")?;
            relay.run(&["reload"])?;
            sees(phone, world::SERVER, world::VPS)
        },
    )
}

#[test]
fn what_a_firewall_closes_is_named_and_opened_when_relay_may() -> Result<()> {
    with_phone(
        &["--full-tunnel"],
        |world, _| {
            world.vps.nft(
                "table inet filter {
                    chain input { type filter hook input priority 0; policy drop; udp dport 51820 accept; icmpv6 type \
                 { nd-neighbor-solicit, nd-neighbor-advert } accept; }
                    chain forward { type filter hook forward priority 0; policy drop; }
                }",
            )
        },
        |world, relay| {
            let to_open = wait_for("status to name what is closed", DEADLINE, || {
                let status = relay.run(&["status"])?;
                ensure!(status.contains("oifname \"eth0\""), "{status}");
                Ok(status)
            })?;
            let back = "iifname \"eth0\" oifname \"wg0\" ct state established,related accept";
            ensure!(to_open.contains(back), "{to_open}");
            ensure!(web::who(&world.phone, world::SERVER, SILENCE).is_err(), "it got out of a closed host");
            relay.edit("manage = false", "manage = true")?;
            relay.run(&["reload"])?;
            sees(&world.phone, world::SERVER, world::VPS)?;
            sees(&world.phone, world::SERVER6, world::VPS6)?;
            let opened = world.vps.run("nft list table inet filter")?;
            ensure!(opened.matches("comment \"relay wg0\"").count() == 3, "tunnel, out and back: {opened}");

            // When nobody sends everything any more, the ways out and back are closed again.
            relay.run(&["peer", "remove", "phone"])?;
            let closed = world.vps.run("nft list table inet filter")?;
            ensure!(closed.matches("comment \"relay wg0\"").count() == 1, "the tunnel alone: {closed}");
            ensure!(exit_rules(&world.vps)? == 0, "somebody is masqueraded");
            Ok(())
        },
    )
}
