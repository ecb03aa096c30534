//! What relay does not adopt, and that it leaves nothing behind where it refuses.

use anyhow::{Result, ensure};
use relay_tests::{
    lab::relay::{self, Relay},
    netns::Netns,
};

/// What a command that fails says.
fn refused(machine: &Netns, args: &[&str]) -> Result<String> {
    let output = machine.command(relay::binary()?).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "relay {} did it: {said}", args.join(" "));
    Ok(said)
}

#[test]
fn what_is_nobodys_to_adopt() -> Result<()> {
    let machine = Netns::new("refuses")?;
    machine.run("ip link add eth0 type veth peer name far")?;
    machine.run("ip tuntap add mode tun name tun0")?;
    for (args, expected) in [
        (&["adopt", "wg0"][..], "there is no interface wg0"),
        (&["adopt", "eth0"], "eth0 is no WireGuard interface"),
        (&["adopt", "tun0"], "no WireGuard of its network namespace answers"),
        (&["adopt", "wg0", "--netns", "/run/nothing"], "cannot enter the network namespace /run/nothing"),
        (&["adopt", "wg0", "--netns", "/proc/version"], "cannot enter the network namespace /proc/version"),
        (&["status", "--adopted", "wg0"], "nobody keeps wg0 adopted"),
        (&["stats", "--adopted", "wg0"], "there is no interface wg0"),
    ] {
        let said = refused(&machine, args)?;
        ensure!(said.contains(expected) && said.contains("\nhint: "), "{args:?}: {said}");
    }
    let left = machine.run("find /run/relay /sys/fs/bpf/relay").unwrap_or_default();
    ensure!(left.is_empty(), "{left}");
    machine.run(&format!("{} release eth0", relay::binary()?.display())).map(drop)
}

#[test]
fn what_is_relays_own() -> Result<()> {
    let machine = Netns::new("own")?;
    machine.run_all(
        "ip link add eth0 type veth peer name far
         ip address add 198.51.100.2/24 dev eth0
         ip link set far up
         ip link set eth0 up",
    )?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.up()?;
    let said = refused(&machine, &["adopt", "wg0"])?;
    ensure!(said.contains("another relay already runs interface wg0"), "{said}");
    hub.stop()?;
    if hub.stats().is_ok() {
        // Where the interface stays without its daemon.
        for verb in ["adopt", "release"] {
            let said = refused(&machine, &[verb, "wg0"])?;
            ensure!(said.contains("relay's own, kept by `relay up`"), "{said}");
        }
    }
    hub.run(&["down"]).map(drop)
}
