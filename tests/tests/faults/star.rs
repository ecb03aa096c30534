//! A hub with people connected: each peer is a machine with a cable of its own to the hub.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{peer::wg_quick_up, relay::Relay, world::VPS},
    netns::{Netns, wait_for},
};

use crate::DEADLINE;

/// The machines.
pub(crate) struct Star {
    pub(crate) hub: Netns,
    pub(crate) peers: Vec<Netns>,
}

impl Star {
    /// So many peers, with nothing running yet.
    pub(crate) fn new(peers: usize) -> Result<Self> {
        let hub = Netns::new("hub")?;
        hub.run(&format!("ip address add {VPS}/32 dev lo"))?;
        let mut star = Self { hub, peers: Vec::new() };
        for number in 0..peers {
            let peer = Netns::new(&format!("peer{number}"))?;
            let port = format!("port{number}");
            star.hub.cable(&port, &peer, "eth0")?;
            star.hub.run(&format!("ip address add 10.200.{number}.1/24 dev {port}"))?;
            peer.run(&format!("ip address add 10.200.{number}.2/24 dev eth0"))?;
            peer.run(&format!("ip route add {VPS}/32 via 10.200.{number}.1"))?;
            star.peers.push(peer);
        }
        Ok(star)
    }

    /// Home, which holds 10.9.0.2 and has a LAN.
    pub(crate) fn home(&self) -> &Netns {
        &self.peers[0]
    }

    /// The phone, 10.9.0.3.
    pub(crate) fn phone(&self) -> &Netns {
        &self.peers[1]
    }
}

/// A hub that is up, with home and phone connected.
pub(crate) fn with_two(act: impl FnOnce(&Star, &mut Relay<'_>) -> Result<()>) -> Result<()> {
    let star = Star::new(2)?;
    let mut hub = Relay::init(&star.hub, &relay_tests::lab::relay::binary()?)?;
    hub.up()?;
    let home = hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    let phone = hub.run(&["peer", "add", "phone"])?;
    wg_quick_up(star.home(), "tunnel", &home)?;
    wg_quick_up(star.phone(), "tunnel", &phone)?;
    star.home().run("ip address add 192.168.40.2/32 dev lo")?;
    for (machine, other) in [(star.phone(), "10.9.0.2"), (star.home(), "10.9.0.3")] {
        reach(machine, other)?;
    }
    wait_for("both to be published", DEADLINE, || {
        let hosts = crate::maps(&star.hub)?.read()?.hosts;
        for address in ["10.9.0.2", "10.9.0.3"] {
            let route = hosts.get(&address.parse()?).context(address)?;
            ensure!(route.slot().is_some(), "{address} is the stack's");
        }
        Ok(())
    })?;
    crate::settled(&star.hub, &hub)?;
    act(&star, &mut hub).inspect_err(|_| eprintln!("relay up said:\n{}", hub.log()))
}

/// Waits until somebody answers a ping.
pub(crate) fn reach(machine: &Netns, address: &str) -> Result<()> {
    wait_for(&format!("an answer from {address}"), DEADLINE, || ping(machine, address))
}

/// One ping, answered within two seconds.
pub(crate) fn ping(machine: &Netns, address: &str) -> Result<()> {
    machine.run(&format!("ping -n -q -c 1 -W 2 {address}")).map(drop)
}

/// Pings that go on until the machine goes, one each 10 ms.
pub(crate) fn keep_pinging(machine: &Netns, address: &str) -> Result<u32> {
    let line = format!("exec ping -n -q -i 0.01 {address} > /dev/null 2>&1");
    machine.spawn(machine.command("sh").args(["-c", &line]))
}

/// Counts the echo requests that reach a machine, whatever it does with them.
pub(crate) fn count_requests(machine: &Netns) -> Result<()> {
    machine.nft(
        "add table ip seen\nadd counter ip seen requests\nadd chain ip seen in { type filter hook prerouting priority -300; }\nadd rule ip seen in icmp type echo-request counter name requests",
    )
}

/// How many came since [`count_requests`].
pub(crate) fn requests(machine: &Netns) -> Result<u64> {
    let text = machine.run("nft list counter ip seen requests")?;
    let mut words = text.split_whitespace();
    words.by_ref().find(|word| *word == "packets");
    words.next().and_then(|number| number.parse().ok()).with_context(|| format!("no counter in: {text}"))
}

/// The fast path carries pings from the phone to home, both ways.
pub(crate) fn goes_fast(star: &Star, hub: &Relay<'_>) -> Result<()> {
    // A userspace hub that was made anew has lost its sessions, and home notices only when it wants something.
    reach(star.home(), "10.9.0.1")?;
    reach(star.phone(), "192.168.40.2")?;
    wait_for("pings by the fast path", DEADLINE, || {
        let before = hub.stats()?;
        ping(star.phone(), "192.168.40.2")?;
        let (redirected, _) = hub.stats()?.since(&before)?;
        ensure!(redirected >= 2, "{redirected} packets were redirected");
        Ok(())
    })
}
