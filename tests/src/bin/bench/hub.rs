//! `bench hub`: a whole hub with kernel WireGuard, and what a packet costs it alone.
//!
//! The phone encrypts its packets in advance; a program sends them from inside the kernel. Each arrives at the hub's
//! network card (a veth), is decrypted, forwarded, encrypted for the home, and counted and dropped where it would be given
//! to the other card. The same packets dropped where they arrive are the baseline. What is left is the hub's: from the
//! first card's driver to the second one's. In a guest whose clock counts instructions (`-icount shift=0,sleep=off`) a
//! nanosecond is one.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::TcAttachType;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, sched_yield, setns, unshare},
};
use relay_tests::{
    guest::patience,
    namespace::{output, run, sysctl},
    packet::{Ip as _, Ipv4, Tcp, Transport, flag},
    tun::in_new_namespace,
};
use relay_user::key::PublicKey;
use serde_json::{Value, json};

use crate::{
    kinds::{FAR, NEAR},
    machine,
    net::{self, HOME4, PHONE4, Routes},
    profile,
    programs::Programs,
    rules::{self, nft},
    spoke::Spoke,
    spread::Spread,
    tunnel::Tunnel,
};

/// Packets in one run, each of which WireGuard takes once.
const PACKETS: usize = 1024;

/// How often each is measured. Instructions are nearly the same each time.
const ROUNDS: usize = 3;

/// So many nanoseconds from one sample to the next: no multiple of what the kernel does at regular intervals.
const SAMPLE: u64 = 7_919;

/// Runs that are sampled.
const SAMPLED: usize = 8;

/// Longest that packets may take to come out.
const DEADLINE: Duration = Duration::from_secs(5);

/// A way of running the hub.
struct Mode {
    name: &'static str,
    /// What stands in the way: nothing, or connections are tracked.
    rules: rules::Through,
    fast_path: bool,
    /// What else is set, as nftables takes it.
    nft: &'static str,
    /// What else is set, as files below /sys/class/net/wg0 with their contents.
    sysfs: &'static [(&'static str, &'static str)],
    /// Whether UDP packets of one flow may be merged.
    merge: bool,
}

impl Mode {
    const fn new(name: &'static str, rules: rules::Through, fast_path: bool) -> Self {
        Self { name, rules, fast_path, nft: "", sysfs: &[], merge: false }
    }
}

/// WireGuard's own packets, which a hub need not track.
const UNTRACKED: &str = "table inet outer {
 chain arriving {
 type filter hook prerouting priority raw
 udp dport 51820 notrack
 }
 chain leaving {
 type filter hook output priority raw
 udp sport 51820 notrack
 }
}
";

const THREADED: &[(&str, &str)] = &[("threaded", "1")];
const DEFERRED: &[(&str, &str)] = &[("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "50000")];
const BOTH: &[(&str, &str)] =
    &[("threaded", "1"), ("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "50000")];

const MODES: [Mode; 10] = [
    Mode::new("kernel path", rules::Through::Forward, false),
    Mode::new("kernel path, conntrack", rules::Through::Conntrack, false),
    Mode::new("fast path", rules::Through::Forward, true),
    Mode::new("fast path, conntrack", rules::Through::Conntrack, true),
    Mode {
        nft: UNTRACKED,
        ..Mode::new("fast path, conntrack, outer untracked", rules::Through::Conntrack, true)
    },
    Mode { merge: true, ..Mode::new("fast path, UDP GRO", rules::Through::Forward, true) },
    Mode { sysfs: THREADED, ..Mode::new("fast path, threaded NAPI", rules::Through::Forward, true) },
    Mode {
        sysfs: THREADED,
        merge: true,
        ..Mode::new("fast path, threaded, UDP GRO", rules::Through::Forward, true)
    },
    Mode {
        sysfs: DEFERRED,
        merge: true,
        ..Mode::new("fast path, deferred, UDP GRO", rules::Through::Forward, true)
    },
    Mode {
        sysfs: BOTH,
        merge: true,
        ..Mode::new("fast path, threaded, deferred, UDP GRO", rules::Through::Forward, true)
    },
];

/// Those that are sampled.
const PROFILED: [&str; 3] = ["kernel path, conntrack", "kernel path", "fast path"];

/// What is sent.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// Bytes from the IP header on.
    length: usize,
    tcp: bool,
}

const LOADS: [Load; 4] = [
    Load { name: "UDP 64", length: 64, tcp: false },
    Load { name: "UDP 512", length: 512, tcp: false },
    Load { name: "UDP 1350", length: 1350, tcp: false },
    Load { name: "TCP 1350 bulk", length: 1350, tcp: true },
];

impl Load {
    fn packet(self, number: usize) -> Vec<u8> {
        let header = Ipv4::new(PHONE4, HOME4);
        if !self.tcp {
            return header.carry(&Transport::Udp(40_000, 7, vec![0; self.length - 28]));
        }
        let payload = vec![0; self.length - 40];
        let sequence = u32::try_from(1 + number * payload.len()).expect("a few megabytes");
        header.carry(&Transport::Tcp(Tcp { sequence, payload, ..Tcp::new(flag::ACK) }))
    }

    fn answer(self) -> Vec<u8> {
        let header = Ipv4::new(HOME4, PHONE4);
        if self.tcp {
            let ack = Tcp { source: 80, destination: 40_000, sequence: 0, ..Tcp::new(flag::ACK) };
            header.carry(&Transport::Tcp(ack))
        } else {
            header.carry(&Transport::Udp(7, 40_000, b"answer".to_vec()))
        }
    }
}

/// The measurement.
pub(crate) fn measure(objects: &Path, quick: bool) -> Result<Value> {
    let machine = machine::describe();
    machine::go_last()?;
    let (rounds, modes) = if quick { (1, &MODES[..3]) } else { (ROUNDS, &MODES[..]) };
    let (mut rows, mut profiles, mut unavailable) = (Vec::new(), Vec::new(), Vec::new());
    for mode in modes {
        let mut hub = match Hub::new(mode, objects) {
            Ok(hub) => hub,
            // Older kernels lack some of what is tried beside the plain ways.
            Err(error) if !mode.sysfs.is_empty() || mode.merge => {
                unavailable.push(json!({ "path": mode.name, "why": format!("{error:#}") }));
                continue;
            }
            Err(error) => return Err(error).with_context(|| mode.name),
        };
        for load in LOADS {
            let mut runs = Vec::new();
            let mut lost = 0;
            for _ in 0..rounds {
                let run = hub.run(load).with_context(|| format!("{}, {}", mode.name, load.name))?;
                lost += run.lost;
                runs.push(run.net);
            }
            eprintln!(
                "    {}, {}: {:?}",
                mode.name,
                load.name,
                Spread::of(runs.clone()).map(|spread| spread.median)
            );
            rows.push(json!({
                "path": mode.name, "kind": load.name, "lost": lost, "net": Spread::of(runs).map(Spread::json),
            }));
        }
        if PROFILED.contains(&mode.name) && !quick {
            let profile = hub.profile(LOADS[0]).with_context(|| format!("sampling {}", mode.name))?;
            profiles.push(json!({ "path": mode.name, "kind": LOADS[0].name, "profile": profile }));
        }
    }
    Ok(json!({
        "bench": "hub", "machine": machine, "packets": PACKETS, "rounds": rounds,
        "rows": rows, "profiles": profiles, "unavailable": unavailable,
    }))
}

/// One run.
struct Run {
    /// Nanoseconds a packet less those of the baseline.
    net: f64,
    lost: u64,
}

/// A hub with a phone and a home.
struct Hub {
    namespace: File,
    near: File,
    phone: Spoke,
    home: Spoke,
    key: [u8; 32],
    programs: Programs,
    /// Attached as long as this is there.
    _tunnel: Option<Tunnel>,
}

impl Hub {
    fn new(mode: &Mode, objects: &Path) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("making the hub's namespaces")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("keeping mounts private")?;
        // So that it shows the hub's devices.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mounting /sys")?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        run("ip link set lo up")?;
        let (near, there) = (spoke("near", 1, "eth0")?, spoke("home", 2, "eth1")?);
        for (device, number) in [("eth0", 1), ("eth1", 2)] {
            run(&format!("ip address add 172.31.{number}.1/24 dev {device}"))?;
            run(&format!("ip link set {device} up"))?;
            run(&format!("ip neighbour add 172.31.{number}.2 lladdr {} dev {device}", mac(NEAR)))?;
        }
        run("ethtool -K eth0 gro on")?;

        run("ip link add wg0 type wireguard")?;
        let secret = "/run/bench-hub.key";
        fs::write(secret, output("wg genkey")?)?;
        run(&format!("wg set wg0 listen-port 51820 private-key {secret}"))?;
        fs::remove_file(secret)?;
        let key: PublicKey = output("wg show wg0 public-key")?.trim().parse()?;
        run("ip link set wg0 mtu 1420 up")?;
        net::TUNNEL
            .iter()
            .filter(|line| !line.contains("::"))
            .try_for_each(|line| run(&format!("ip {line}")))?;
        sysctl("ipv4/ip_forward", if mode.fast_path { "0" } else { "1" })?;
        mode.rules.set_up()?;
        if !mode.nft.is_empty() {
            nft(mode.nft)?;
        }
        if mode.merge {
            run("ethtool -K wg0 rx-udp-gro-forwarding on")?;
        }
        let tunnel = if mode.fast_path {
            let mut tunnel = Tunnel::load(objects, 0, &Routes::of_two())?;
            tunnel.on("wg0")?;
            Some(tunnel)
        } else {
            None
        };
        let near_index = within(&near, || Ok(nix::net::if_::if_nametoindex("near")?))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        let mut programs = Programs::load_timed(objects, near_index)?;
        programs.on("count_and_drop", "eth1", TcAttachType::Egress)?;
        let phone = Spoke::new(&near, [172, 31, 1, 2], [172, 31, 1, 1])?;
        let home = Spoke::new(&there, [172, 31, 2, 2], [172, 31, 2, 1])?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        for (spoke, allowed) in [(&phone, "10.9.0.3/32"), (&home, "10.9.0.2/32,192.168.40.0/24")] {
            let (peer, endpoint) = (spoke.public_key(), spoke.endpoint());
            run(&format!("wg set wg0 peer {peer} endpoint {endpoint} allowed-ips {allowed}"))?;
        }
        // The threads are those of the peers.
        for (file, value) in mode.sysfs {
            let path = format!("/sys/class/net/wg0/{file}");
            fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))?;
        }
        Ok(Self { namespace, near, phone, home, key: *key.as_bytes(), programs, _tunnel: tunnel })
    }

    fn run(&mut self, load: Load) -> Result<Run> {
        self.prepare(load)?;
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        let link = self.programs.end_frames_on("eth0")?;
        let (baseline, arrived) = self.pass()?;
        ensure!(arrived == PACKETS as u64, "{arrived} of {PACKETS} packets arrived");
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        drop(link);
        let (took, arrived) = self.pass()?;
        Ok(Run {
            net: (took as f64 - baseline as f64) / PACKETS as f64,
            lost: arrived.abs_diff(PACKETS as u64),
        })
    }

    /// Where a hub's instructions go, the source's among them.
    fn profile(&mut self, load: Load) -> Result<Value> {
        let mut samples = Vec::new();
        for _ in 0..SAMPLED {
            self.prepare(load)?;
            self.programs.samples()?;
            let link = self.programs.sample_every(SAMPLE)?;
            self.pass()?;
            drop(link);
            samples.extend(self.programs.samples()?);
        }
        profile::read(&samples)
    }

    /// New sessions, a flow that is known, and packets that the hub has not seen.
    fn prepare(&mut self, load: Load) -> Result<()> {
        self.programs.open_sink(true)?;
        self.home.shake_hands(self.key).context("the home")?;
        self.phone.shake_hands(self.key).context("the phone")?;
        self.phone.send(&load.packet(0))?;
        std::thread::sleep(patience(Duration::from_millis(20)));
        self.home.send(&load.answer())?;
        std::thread::sleep(patience(Duration::from_millis(20)));
        self.programs.open_sink(false)?;
        let frames = (0..PACKETS).map(|number| self.phone.frame(&load.packet(number)));
        let frames = frames.collect::<Result<Vec<_>>>()?;
        self.programs.fill(&frames)
    }

    /// Sends all packets and waits until they are out; the time from the first to the last, and how many there are.
    fn pass(&mut self) -> Result<(u64, u64)> {
        self.programs.took()?;
        let before = self.programs.counts()?;
        within(&self.near, || self.programs.send(PACKETS as u32))?;
        let begun = Instant::now();
        let mut arrived = self.programs.counts()? - before;
        while arrived < PACKETS as u64 && begun.elapsed() < DEADLINE {
            // Everybody else goes first.
            sched_yield()?;
            arrived = self.programs.counts()? - before;
        }
        Ok((self.programs.took()?, arrived))
    }
}

/// A spoke's namespace with a cable to the hub, which is the calling thread's, where the other end is called `name`.
pub(crate) fn spoke(device: &str, number: u8, name: &str) -> Result<File> {
    let hub = nix::unistd::gettid();
    let (here, there) = (mac(NEAR), mac(FAR));
    in_new_namespace(|| {
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        run("ip link set lo up")?;
        run(&format!(
            "ip link add {device} address {here} type veth peer name {name} address {there} netns {hub}"
        ))?;
        run(&format!("ip address add 172.31.{number}.2/24 dev {device}"))?;
        run(&format!("ip link set {device} up"))?;
        run(&format!("ip neighbour add 172.31.{number}.1 lladdr {there} dev {device}"))?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    })
}

/// Does something in another network namespace, and comes back.
pub(crate) fn within<T>(namespace: &File, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let here = File::open("/proc/thread-self/ns/net")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a namespace")?;
    let done = act();
    setns(&here, CloneFlags::CLONE_NEWNET).context("coming back")?;
    done
}

/// As `ip` takes it.
pub(crate) fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
