//! What every hub of these tests has, whatever its tunnel is made of: addresses, routes, relay's table, the program, and
//! counters.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use relay_common::{PeerCounters, Verdict};
use relay_tests::{namespace::sysctl, program};
use relay_user::{
    firewall::table,
    kernel::datapath::{Datapath, Hook, Interface, Pins},
    maps::MapChange,
    observed::Device,
};

use crate::{
    hub::{FastPath, Firewall, Observation, Out},
    peers::{self, HOME, PHONE},
};

/// Makes a hub of the calling thread's namespace, whose devices wg0 and eth0 are there and up. `device` is what is known
/// of the peers.
pub(crate) fn set_up(fast_path: FastPath, firewall: Firewall, device: &Device) -> Result<Meter> {
    surround(&TUNNEL)?;
    load(firewall)?;
    let datapath = match fast_path {
        FastPath::Absent => None,
        FastPath::Off => Some(attach(device, false)?),
        FastPath::On => Some(attach(device, true)?),
    };
    Meter::new(datapath)
}

/// Gives the hub what is around its tunnel, once the tunnel itself is as these lines for `ip` say.
pub(crate) fn surround(tunnel: &[&str]) -> Result<()> {
    for (name, value) in SYSCTLS {
        sysctl(name, value)?;
    }
    ip(&[tunnel, &AROUND].concat())
}

/// Tells by how much a hub's counters have moved.
pub(crate) struct Meter {
    datapath: Option<Datapath>,
    before: Counts,
}

/// The counters that an observation is the difference of.
#[derive(Clone, Copy, Default)]
struct Counts {
    verdicts: [u64; Verdict::ALL.len()],
    peers: [PeerCounters; 2],
    forwarded: u64,
}

impl Meter {
    fn new(datapath: Option<Datapath>) -> Result<Self> {
        let mut meter = Self { datapath, before: Counts::default() };
        meter.before = meter.counts()?;
        Ok(meter)
    }

    /// What came of the packets that have passed since the last time, of which this left.
    pub(crate) fn observe(&mut self, out: Vec<Out>) -> Result<Observation> {
        let (before, after) = (self.before, self.counts()?);
        self.before = after;
        let mut verdicts = after.verdicts;
        for (verdict, before) in verdicts.iter_mut().zip(before.verdicts) {
            *verdict -= before;
        }
        let mut peers: [u64; 8] = bytemuck::cast(after.peers);
        for (moved, before) in peers.iter_mut().zip(bytemuck::cast::<_, [u64; 8]>(before.peers)) {
            *moved -= before;
        }
        let peers = bytemuck::cast(peers);
        Ok(Observation { out, verdicts, peers, forwarded: after.forwarded - before.forwarded })
    }

    fn counts(&self) -> Result<Counts> {
        let mut counts = Counts { forwarded: forwarded()?, ..Counts::default() };
        let Some(datapath) = &self.datapath else { return Ok(counts) };
        let counters = datapath.maps.counters()?;
        counts.verdicts = counters.verdicts;
        counts.peers = [counters.peers[&*PHONE], counters.peers[&*HOME]];
        Ok(counts)
    }
}

/// So that TUN behaves as WireGuard does (no redirects, no link-local address), ICMP is not rationed and sources are judged
/// as WireGuard leaves them. A first fragment that stays alone is told of by the kernel half a minute later, amid other rows;
/// here it is not.
const SYSCTLS: [(&str, &str); 15] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/wg0/send_redirects", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/wg0/rp_filter", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv4/ipfrag_time", "3600"),
    ("ipv6/ip6frag_time", "3600"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/icmp/ratemask", "\n"),
    ("ipv6/conf/wg0/addr_gen_mode", "1"),
    ("ipv6/conf/eth0/addr_gen_mode", "1"),
    ("ipv6/conf/wg0/disable_ipv6", "0"),
    ("ipv6/conf/eth0/disable_ipv6", "0"),
];

/// What relay gives the tunnel.
const TUNNEL: [&str; 5] = [
    "address add 10.9.0.1/24 dev wg0",
    "address add fd52:1a9::1/64 dev wg0 nodad",
    "route add 192.168.40.0/24 dev wg0",
    "route add 192.168.50.0/24 dev wg0",
    "route add fd40::/56 dev wg0",
];

const AROUND: [&str; 10] = [
    "address add 198.51.100.2/24 dev eth0",
    "address add 2001:db8::2/64 dev eth0 nodad",
    "route add default via 198.51.100.1",
    "route add default via 2001:db8::1 dev eth0",
    // Holes in the home's LANs, where the kernel knows better than the tunnel.
    "route add 192.168.40.64/26 via 198.51.100.9",
    "route add unreachable 192.168.40.200/32",
    "route add 2001:db8:40::/64 dev eth0",
    "route add unreachable fd40::dead/128",
    // A part of them behind a narrower way.
    "route add 192.168.40.128/27 dev wg0 mtu 1300",
    "route add fd40:0:0:80::/64 dev wg0 mtu 1300",
];

fn attach(device: &Device, enabled: bool) -> Result<Datapath> {
    let index = nix::net::if_::if_nametoindex("wg0").context("the index of wg0")?;
    let interface = Interface { name: "wg0".parse()?, index };
    let pins = Pins::new(interface.name.clone());
    let object = fs::read(program::object()?).context("read the eBPF object")?;
    let mut prepared = Datapath::prepare(&object, interface, pins, Hook::of_this_kernel())?;
    ensure!(prepared.maps.apply(&peers::changes(index, device)?)? == 0, "the maps overflow");
    prepared.maps.apply(&[MapChange::Enable(enabled)])?;
    Ok(prepared.commit()?)
}

fn load(firewall: Firewall) -> Result<()> {
    let mut table = table::desired("wg0", &[].into(), &[]);
    if firewall == Firewall::Clamp {
        table.chains.retain(|chain| chain.name.starts_with("mss"));
    }
    nft(&table::script(&table))
}

/// Gives rules to nftables, in the calling thread's namespace.
pub(crate) fn nft(rules: &str) -> Result<()> {
    tell("nft", &["-f", "-"], rules)
}

/// Has `ip` do this, in the calling thread's namespace: one process for all of it, since each takes long in a guest.
pub(crate) fn ip<Line: AsRef<str>>(lines: &[Line]) -> Result<()> {
    let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    tell("ip", &["-batch", "-"], &lines.join("\n"))
}

fn tell(program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    child.stdin.take().context("stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} refuses {text}\n{stderr}");
    Ok(())
}

/// The kernel's count of packets that it forwarded in this thread's namespace, both families together.
fn forwarded() -> Result<u64> {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (Some(names), Some(mut values)) = (lines.next(), lines.next()) else { bail!("no Ip lines in snmp") };
    let at = names.into_iter().position(|name| name == "ForwDatagrams").context("ForwDatagrams")?;
    let v4: u64 = values.nth(at).context("ForwDatagrams")?.parse()?;
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6")?;
    let line = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
    let v6: u64 = line.context("Ip6OutForwDatagrams")?.trim().parse()?;
    Ok(v4 + v6)
}
