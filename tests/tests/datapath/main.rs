//! The fast path's life in the kernel: loaded, pinned, taken over, replaced, removed, with traffic on it.
//!
//! The tunnel is a TUN device that the test holds, and forwarding is off: a packet that the program does not redirect
//! is lost and missed. Every case runs on both hooks where the kernel has both.

mod flows;
mod life;
mod maps;
mod neighbours;
mod refusals;

use std::{
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv6Addr},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use relay_common::{Route, Verdict, checksum};
use relay_tests::{
    namespace::{in_namespaces, output, run},
    tun::{Kind, Tun},
};
use relay_user::{
    kernel::datapath::{
        self, Datapath, DatapathError, EMBEDDED, Hook, Interface, PIN_ROOT, PinnedMaps, Pins,
    },
    key::PublicKey,
    maps::MapChange,
};

const PHONE: PublicKey = PublicKey::new([1; 32]);
const HOME: PublicKey = PublicKey::new([2; 32]);

/// Runs a case on every hook that this kernel has: a kernel with TCX (6.6) has clsact too.
fn on_each_hook(case: fn(Hook) -> Result<()>) {
    let has = |hook: &Hook| Hook::of_this_kernel() == Hook::Tcx || *hook == Hook::Clsact;
    for hook in [Hook::Tcx, Hook::Clsact].into_iter().filter(has) {
        in_namespaces(|| case(hook).with_context(|| format!("on {hook:?}")));
    }
}

fn tunnel() -> Result<Tun> {
    Tun::new("wg0", Kind::Tun, 1420)
}

fn interface(tunnel: &Tun) -> Result<Interface> {
    Ok(Interface { name: tunnel.name().parse()?, index: tunnel.index() })
}

fn pins() -> Pins {
    Pins::new("wg0".parse().expect("a name"))
}

/// The phone is 10.9.0.3 in slot 0, home is 10.9.0.2 with 192.168.40.0/24 in slot 1.
fn peers() -> Vec<MapChange> {
    let address = |last| IpAddr::from([10, 9, 0, last]);
    vec![
        MapChange::AssignSlot(PHONE, 0),
        MapChange::AssignSlot(HOME, 1),
        MapChange::SetHost(address(1), Route::STACK),
        MapChange::SetHost(address(3), Route::peer(0)),
        MapChange::SetHost(address(2), Route::peer(1)),
        MapChange::SetLan("192.168.40.0/24".parse().expect("a prefix"), Route::peer(1)),
        MapChange::Enable(true),
    ]
}

/// Loads, fills and attaches, as a starting daemon does; what the maps hold already is left alone.
fn start(interface: &Interface, hook: Hook) -> Result<Datapath> {
    let mut prepared = Datapath::prepare(EMBEDDED, interface.clone(), pins(), hook)?;
    if prepared.maps.read()?.slots.is_empty() {
        ensure!(prepared.maps.apply(&peers())? == 0, "the maps overflow");
    }
    Ok(prepared.commit()?)
}

/// From the phone to the NAS: UDP, with a number for payload.
fn packet(number: u64) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 3, 192, 168, 40, 10];
    let words = packet.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let check = !checksum::fold(words.sum());
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend([0x30, 0x39, 0, 80, 0, 16, 0, 0]);
    packet.extend(number.to_be_bytes());
    packet
}

/// Sends one packet and waits for it: lost, doubled and reordered ones are all errors.
fn pass(tunnel: &mut Tun, number: u64) -> Result<()> {
    tunnel.send(&packet(number))?;
    let (_, arrived) = tunnel.receive().with_context(|| format!("packet {number} was lost"))?;
    ensure!(arrived[28..] == number.to_be_bytes(), "packet {number} is not what arrived: {arrived:?}");
    ensure!(arrived[8] == 63, "packet {number} arrived with TTL {}", arrived[8]);
    Ok(())
}

/// As [`pass`], of IPv6.
fn pass6(tunnel: &mut Tun, [from, to]: [Ipv6Addr; 2], number: u64) -> Result<()> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 16, 17, 64];
    packet.extend([from, to].map(|address| address.octets()).concat());
    packet.extend([0x30, 0x39, 0, 80, 0, 16, 0, 0]);
    packet.extend(number.to_be_bytes());
    tunnel.send(&packet)?;
    let (_, arrived) = tunnel.receive().with_context(|| format!("packet {number} was lost"))?;
    packet[7] -= 1;
    ensure!(arrived == packet, "packet {number} is not what arrived: {arrived:?}");
    Ok(())
}

/// How many programs the ingress hook runs, both kinds of hook counted; asks neither relay nor its pins.
fn programs() -> Result<usize> {
    let tcx = match Hook::of_this_kernel() {
        Hook::Tcx => SchedClassifier::query_tcx("wg0", TcAttachType::Ingress)?.1.len(),
        Hook::Clsact => 0,
    };
    let filters = output("tc filter show dev wg0 ingress")?;
    Ok(tcx + filters.lines().filter(|line| line.contains("handle")).count())
}

fn redirected(maps: &PinnedMaps) -> Result<u64> {
    Ok(maps.counters()?.verdict(Verdict::Redirected))
}

/// Another process that loads the fast path for `wg0`; see `src/bin/load-fast-path.rs`.
struct Loader {
    child: Child,
    outcome: serde_json::Value,
}

impl Loader {
    fn start(hook: Hook, pinning: &str, capabilities: Option<&str>) -> Result<Self> {
        let loader = env!("CARGO_BIN_EXE_load-fast-path");
        let hook = match hook {
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        };
        let mut command = match capabilities {
            Some(capabilities) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--bounding-set=-all,{capabilities}")).arg(loader);
                command
            }
            None => Command::new(loader),
        };
        let child = command
            .args(["wg0", hook, pinning])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start load-fast-path")?;
        let mut loader = Self { child, outcome: serde_json::Value::Null };
        let mut line = String::new();
        BufReader::new(loader.child.stdout.take().context("stdout")?).read_line(&mut line)?;
        loader.outcome = serde_json::from_str(&line).context("load-fast-path died")?;
        Ok(loader)
    }

    /// `kill -9`, and waits for its end.
    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
