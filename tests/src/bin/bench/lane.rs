//! A hub in a network namespace of its own, for one way through it: packets come by a cable, arrive on an L3 device as if
//! from WireGuard, and end where they would be given to WireGuard again.
//!
//! ```text
//! near ═══ far ──▶ wg0 (TUN) ingress ──▶ what is measured ──▶ wg0 egress, counted and dropped
//! ```
//!
//! All of it runs on the CPU that sends, one batch after the other, so nothing waits and nothing overflows.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::TcAttachType;
use nix::sched::{CloneFlags, setns, unshare};
use relay_tests::{
    namespace::{run, sysctl},
    tun::{Kind as TunKind, Tun},
};

use crate::{
    kinds::{FAR, Kind, NEAR, Way},
    net::{self, Routes},
    programs::Programs,
    rules,
    tunnel::Tunnel,
};

/// The tunnel's MTU: WireGuard's usual one.
const MTU: u32 = 1420;

/// What the kernel has put off it does within a tick; a CPU that others use too may take longer.
const PATIENCE: Duration = Duration::from_millis(200);

/// More packets than the kernel sends out of the tunnel by itself while one run lasts.
const STRANGERS: u64 = 4;

/// So that TUN behaves as WireGuard does: no redirects, no address that nobody gave it.
const SYSCTLS: [(&str, &str); 8] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/wg0/send_redirects", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/wg0/rp_filter", "0"),
    ("ipv6/conf/wg0/addr_gen_mode", "1"),
    ("ipv6/conf/wg0/disable_ipv6", "0"),
];

/// The hub. It is gone when this is.
pub(crate) struct Lane {
    pub(crate) path: rules::Through,
    namespace: File,
    wg0: Tun,
    programs: Programs,
    /// Attached as long as this is there.
    _tunnel: Option<Tunnel>,
    /// Kinds whose flow is known to those who track connections.
    greeted: Vec<Kind>,
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Nanoseconds a packet; a merged one is one.
    pub(crate) nanoseconds: f64,
    /// Packets that were sent and have not come to the sink.
    pub(crate) lost: u64,
}

impl Lane {
    /// Makes the hub, and the calling thread's namespace its own.
    pub(crate) fn new(path: rules::Through, objects: &Path, routes: &Routes) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let namespace = File::open("/proc/thread-self/ns/net").context("opening the namespace")?;
        // The cable carries what is sent and nothing of the kernel's own.
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        let (near, far) = (mac(NEAR), mac(FAR));
        run("ip link set lo up")?;
        run(&format!("ip link add near address {near} type veth peer name far address {far}"))?;
        // Without it a veth takes no frames of XDP.
        run("ethtool -K far gro on")?;
        run("ip link set near up")?;
        run("ip link set far up")?;
        let wg0 = Tun::new("wg0", TunKind::TunVnet { offload: true }, MTU)?;
        for (name, value) in SYSCTLS {
            sysctl(name, value)?;
        }
        net::TUNNEL.iter().try_for_each(|line| run(&format!("ip {line}")))?;
        path.set_up()?;

        let near = nix::net::if_::if_nametoindex("near")?;
        let mut programs = Programs::load(objects, near, wg0.index())?;
        programs.on("into_tunnel", "far", TcAttachType::Ingress)?;
        let tunnel = match path {
            rules::Through::Baseline => {
                programs.on("count_and_drop", "wg0", TcAttachType::Ingress)?;
                None
            }
            rules::Through::FastPath => {
                // Nothing but the program can have forwarded what arrives.
                sysctl("ipv4/ip_forward", "0")?;
                sysctl("ipv6/conf/all/forwarding", "0")?;
                let mut tunnel = Tunnel::load(objects, 0, routes)?;
                tunnel.on("wg0")?;
                Some(tunnel)
            }
            _ => None,
        };
        if path != rules::Through::Baseline {
            programs.on("count_and_drop", "wg0", TcAttachType::Egress)?;
        }
        Ok(Self { path, namespace, wg0, programs, _tunnel: tunnel, greeted: Vec::new() })
    }

    /// Sends packets of one kind and says what each of them took.
    pub(crate) fn run(&mut self, kind: Kind, packets: u32) -> Result<Run> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
        if !self.greeted.contains(&kind) {
            self.greet(kind)?;
            self.greeted.push(kind);
        }
        let merged = match kind.way() {
            Way::Cable(frame) => {
                self.programs.fill(&[frame])?;
                None
            }
            Way::Device(header, packet) => Some(self.wg0.framed(header, &packet)?),
        };
        // So that caches are warm.
        self.pass(merged.as_deref(), packets / 16)?;
        self.pass(merged.as_deref(), packets)
    }

    /// Sends these frames, which differ by their ends alone, one after the other, again and again.
    pub(crate) fn run_frames(&mut self, frames: &[Vec<u8>], packets: u32) -> Result<Run> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
        self.programs.fill_with_ends(frames)?;
        self.pass(None, packets / 4)?;
        self.pass(None, packets)
    }

    /// Sends packets from inside the kernel, or this one by writing it again and again, and waits until all are there, or
    /// no more come.
    fn pass(&mut self, written: Option<&[u8]>, packets: u32) -> Result<Run> {
        let before = self.programs.counts()?;
        let nanoseconds = match written {
            Some(bytes) => {
                let begun = Instant::now();
                (0..packets).try_for_each(|_| self.wg0.send_framed(bytes))?;
                begun.elapsed().as_nanos() as f64 / f64::from(packets)
            }
            None => self.programs.send(packets)?,
        };
        let mut arrived = self.programs.counts()? - before;
        let sent = Instant::now();
        while arrived < packets.into() && sent.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
            arrived = self.programs.counts()? - before;
        }
        // The kernel may say something of its own meanwhile, such as which multicast groups it is in.
        ensure!(arrived <= u64::from(packets) + STRANGERS, "{arrived} packets came of {packets}");
        Ok(Run { nanoseconds, lost: u64::from(packets).saturating_sub(arrived) })
    }

    /// Shows a flow's beginning to those who track connections.
    fn greet(&mut self, kind: Kind) -> Result<()> {
        let before = self.programs.counts()?;
        let greeting = kind.greeting();
        for packet in &greeting {
            self.wg0.send(packet)?;
        }
        let moved = self.programs.counts()? - before;
        if moved < greeting.len() as u64 {
            bail!(
                "{}: of {} packets at the beginning of {}, {moved} came",
                self.path.name(),
                greeting.len(),
                kind.name
            );
        }
        Ok(())
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
