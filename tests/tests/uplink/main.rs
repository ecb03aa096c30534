//! The guard in front of the listen port, on a hub's machine: where it is attached and where not, what it drops, and that
//! everything else goes on meanwhile.

mod attached;
mod cost;
mod floods;
mod life;
mod rotation;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use relay_tests::{
    lab::relay,
    netns::{Netns, wait_for},
    uplink::frame,
};
use serde_json::Value;

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(20);

/// The hub's address on its uplink, and its neighbour's, from where everything comes.
const HUB: &str = "198.51.100.2";
/// See [`HUB`].
const NEIGHBOUR: &str = "198.51.100.1";

/// The port that the guard watches.
const PORT: u16 = 51820;

/// For a test that floods, or that must not lose a packet while another floods.
fn alone() -> MutexGuard<'static, ()> {
    static PROCESSORS: Mutex<()> = Mutex::new(());
    PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine for the hub, whose uplink's driver takes XDP programs, and the neighbour at its other end.
fn machines() -> Result<(Netns, Netns)> {
    let (machine, neighbour) = (Netns::new("hub")?, Netns::new("neighbour")?);
    machine.cable("eth0", &neighbour, "eth0")?;
    machine.run_all(&format!(
        "ip address add {HUB}/24 dev eth0
         ip route add default via {NEIGHBOUR}"
    ))?;
    neighbour.run(&format!("ip address add {NEIGHBOUR}/24 dev eth0"))?;
    Ok((machine, neighbour))
}

/// A hub with a phone, not up yet.
fn configured(machine: &Netns) -> Result<relay::Relay<'_>> {
    let hub = relay::Relay::init(machine, &relay::binary()?)?;
    hub.run(&["peer", "add", "phone"])?;
    Ok(hub)
}

/// What `relay status` says of the guard: its state and the reason.
fn guard(hub: &relay::Relay<'_>) -> Result<(bool, String)> {
    let status: Value = serde_json::from_str(&hub.run(&["status", "--json"])?)?;
    let guard = &status["uplink"];
    let reason = guard["reason"].as_str().with_context(|| format!("status has no guard: {status}"))?;
    Ok((guard["state"] == "on", reason.to_owned()))
}

/// Waits until status says that of the guard.
fn wait_for_guard(hub: &relay::Relay<'_>, on: bool, words: &str) -> Result<()> {
    wait_for("the guard", DEADLINE, || {
        let (state, reason) = guard(hub)?;
        ensure!(state == on && reason.contains(words), "on: {state}, {reason}");
        Ok(())
    })
}

/// What the guard has counted under a verdict.
fn counted(hub: &relay::Relay<'_>, verdict: &str) -> Result<u64> {
    let stats = hub.stats()?.0;
    let uplink = &stats["uplink"];
    let count = uplink["passed"].get(verdict).or(uplink["dropped"].get(verdict));
    count.and_then(Value::as_u64).with_context(|| format!("no {verdict} in {uplink}"))
}

/// Whether an XDP program is on the hub's uplink, by the kernel's word.
fn has_program(machine: &Netns, interface: &str) -> Result<bool> {
    Ok(machine.run(&format!("ip link show dev {interface}"))?.contains("prog/xdp"))
}

/// A frame to the hub's port, from whomever.
fn hub_frame(machine: &Netns, from: IpAddr, payload: &[u8]) -> Result<Vec<u8>> {
    static ADDRESS: OnceLock<Mutex<HashMap<String, [u8; 6]>>> = OnceLock::new();
    let mut known = ADDRESS.get_or_init(Mutex::default).lock().expect("no panic while held");
    let to = match known.get(machine.name()) {
        Some(to) => *to,
        None => {
            let text = machine.run("cat /sys/class/net/eth0/address")?;
            let bytes: Vec<u8> =
                text.trim().split(':').map(|hex| u8::from_str_radix(hex, 16)).collect::<Result<_, _>>()?;
            let to = bytes.try_into().map_err(|_| anyhow!("eth0 has the address {text}"))?;
            known.insert(machine.name().to_owned(), to);
            to
        }
    };
    let mut frame = frame(SocketAddr::new(from, 40_000), SocketAddr::new(HUB.parse()?, PORT), payload);
    frame[..6].copy_from_slice(&to);
    Ok(frame)
}

/// Addresses that nobody has, one after the other.
fn spoofed(number: u64) -> IpAddr {
    let [.., b, c, d] = (number % (1 << 17)).to_be_bytes();
    IpAddr::from([198, 18 + b, c, d])
}

/// Sends datagrams to a port of the hub.
fn send(from: &Netns, port: u16, datagrams: &[Vec<u8>]) -> Result<()> {
    from.inside(|| {
        let socket = UdpSocket::bind(SocketAddr::new(NEIGHBOUR.parse()?, 0))?;
        for datagram in datagrams {
            socket.send_to(datagram, SocketAddr::new(HUB.parse()?, port))?;
        }
        Ok(())
    })
}
