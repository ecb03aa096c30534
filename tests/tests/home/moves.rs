//! The hub's name: a home starts before it can be looked up, and follows where it leads.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, connect_phone, join_home, relay, web, world},
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, sees, status};

const NAME: &str = "vps.example.net";
/// An address of the VPS's network where nobody is.
const NOBODY: &str = "198.51.100.9";

/// Gives a machine a resolver of its own: /etc/hosts that a test writes, and nobody to ask besides.
fn with_hosts(machine: &Netns) -> Result<()> {
    machine.inside(|| {
        fs::create_dir_all("/run/etc")?;
        for (name, text) in [
            ("hosts", "127.0.0.1 localhost\n"),
            ("nsswitch.conf", "hosts: files\n"),
            // No answer, at once, where a libc goes past nsswitch.conf.
            ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ] {
            fs::write(format!("/run/etc/{name}"), text)?;
            let real = format!("/etc/{name}");
            if !fs::exists(&real)? {
                fs::write(&real, "")?;
            }
        }
        Ok(())
    })?;
    machine.run_all(
        "mount --bind /run/etc/hosts /etc/hosts
         mount --bind /run/etc/nsswitch.conf /etc/nsswitch.conf
         mount --bind /run/etc/resolv.conf /etc/resolv.conf",
    )
}

fn leads_to(machine: &Netns, address: &str) -> Result<()> {
    machine.inside(|| Ok(fs::write("/run/etc/hosts", format!("127.0.0.1 localhost\n{address} {NAME}\n"))?))
}

#[test]
fn a_home_follows_the_name_of_its_hub() -> Result<()> {
    if guest::line().is_some() {
        guest::skip(
            "names are looked up alike on every kernel, and what is found is dialled in home::joins too",
        );
        return Ok(());
    }
    let world = World::new(UDP_TIMEOUT)?;
    let _nas = web::Server::start(&world.nas, [])?;
    let binary = relay::binary()?;
    let mut hub = Relay::init(&world.vps, &binary)?;
    hub.edit(&format!("{}:51820", world::VPS), &format!("{NAME}:51820"))?;
    hub.up()?;
    with_hosts(&world.home)?;
    // It is up, and says what it waits for.
    let home = join_home(&world, &hub, &binary)?;
    let told = || {
        wait_for("the name to be missed", DEADLINE, || {
            let status = status(&home)?;
            let problem = status["problems"][0].as_str().context("no problem")?;
            ensure!(problem.contains("vps.example.net:51820"), "{status}");
            ensure!(status["home"]["address"].is_null(), "{status}");
            Ok(())
        })?;
        leads_to(&world.home, NOBODY)?;
        dials(&home, NOBODY)?;
        leads_to(&world.home, world::VPS)?;
        dials(&home, world::VPS)?;
        connect_phone_by_address(&world, &hub)?;
        sees(&world.phone, world::NAS4, "192.168.40.2")?;
        wait_for("nothing to be missed any more", DEADLINE, || {
            let status = status(&home)?;
            ensure!(status["problems"] == serde_json::json!([]), "{status}");
            Ok(())
        })?;
        // Another endpoint in the file is dialled though the hub answers; and back.
        for (from, to) in [(NAME, NOBODY), (NOBODY, world::VPS)] {
            home.edit(&format!("{from}:51820"), &format!("{to}:51820"))?;
            let before = home.log().len();
            home.run(&["reload"])?;
            let said = home.log().split_off(before);
            ensure!(said.contains(&format!("dial the hub at {to}:51820")), "{said}");
        }
        sees(&world.phone, world::NAS4, "192.168.40.2")
    };
    told().inspect_err(|_| eprintln!("relay up at home said:\n{}", home.log()))
}

fn connect_phone_by_address(world: &World, hub: &Relay<'_>) -> Result<()> {
    hub.edit(&format!("{NAME}:51820"), &format!("{}:51820", world::VPS))?;
    connect_phone(world, hub).map(drop)
}

fn dials(home: &Relay<'_>, address: &str) -> Result<()> {
    wait_for(&format!("home to dial {address}"), DEADLINE, || {
        let status = status(home)?;
        ensure!(status["home"]["address"] == format!("{address}:51820"), "{status}");
        Ok(())
    })
}
