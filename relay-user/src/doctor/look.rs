//! Gathers the facts. Nothing on the host is changed; a few pings go through the tunnel.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use futures::future::join_all;
use ipnet::{IpNet, Ipv4Net};
use relay_common::{UplinkVerdict, uplink::SourceKey};
use tokio::task::spawn_blocking;

use super::{
    facts::{Daemon, Facts, Heard, Host as HostFacts, Knocks, OtherRelay, Refused, Uplink, Way, around},
    guard,
    initiation::{self, Sealed},
    probe::{self, Probe},
};
use crate::{
    address::is_public,
    cli::Files,
    control::client::{self, ControlError},
    daemon,
    desired::{Desired, InterfaceName, Peer},
    error::chain,
    failure, fast_path,
    firewall::{exit, opening, packet::Version},
    host::Host,
    kernel::{
        datapath::{self, Interface, Pins, uplink::UplinkMaps},
        firewall as nft, initiations, lock,
        netlink::{Netlink, default_interface},
        ping::{self, Question, Said},
        way_out, wireguard,
    },
    name::PeerName,
    observed::{Device, Link, Observed},
    plan::{self, Change},
    report::{FastPath, Status},
    uplink::{address_of, source_in_words},
};

/// How long to listen for those who knock: a handshake that is not answered is tried again after 5 s and some jitter
/// (whitepaper 6.1).
const LISTEN: Duration = Duration::from_secs(6);
/// Initiations that are opened in one go, so that a flood of them costs nothing: opening one takes two X25519.
const MOST: usize = 32;
/// How long an answer through the tunnel may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Homes that are asked without being named.
const HOMES: usize = 8;
/// How long a daemon may take to do what it has seen.
const SETTLED: Duration = Duration::from_millis(1500);
/// How long a resolver may take.
const RESOLVER: Duration = Duration::from_secs(5);

/// Looks at everything, and closer at `peer` if one is named.
///
/// # Errors
/// rtnetlink cannot be asked.
pub async fn look(files: &Files, peer: Option<&str>) -> anyhow::Result<Facts> {
    let netlink = Netlink::connect()?;
    let root = nix::unistd::geteuid().is_root();
    let config = daemon::load(&files.config, &netlink, None).await.map_err(|error| Refused {
        message: chain(error.as_ref()),
        hint: failure::hint(&error),
        forbidden: !root && is_forbidden(&error),
    });
    let daemon = daemon_of(&files.socket).await;
    let mut facts = Facts {
        now: SystemTime::now(),
        unseen: Vec::new(),
        path: files.config.clone(),
        written: std::fs::metadata(&files.config).and_then(|file| file.modified()).ok(),
        config,
        daemon,
        kernel_wireguard: None,
        link: None,
        port_taken: None,
        host: Err("only root may read WireGuard and the firewall".to_owned()),
        relays: Vec::new(),
        uplink: None,
        endpoint: None,
        heard: None,
        device: None,
        probes: BTreeMap::new(),
        knocks: None,
    };
    if root {
        facts.kernel_wireguard = Some(wireguard::kernel_available().map_err(|error| error.to_string()));
    } else {
        facts.unseen = ["WireGuard", "the firewall", "who knocks", "what answers through the tunnel"]
            .map(str::to_owned)
            .into();
    }
    let links = netlink.links().await?;
    let Ok(config) = &facts.config else {
        if facts.config.as_ref().is_err_and(|refused| refused.forbidden) {
            facts.unseen.insert(0, files.config.display().to_string());
        }
        return Ok(facts);
    };
    let desired = config.desired.in_force(facts.timestamp()).into_owned();
    // A home has another end's troubles, and its `status` tells them.
    let Some(port) = desired.listen_port() else { return Ok(facts) };
    facts.link = netlink.link(&desired.interface).await?;
    facts.relays = relays(&links, &desired.interface);
    if root {
        facts.host = host(&desired, port, &netlink, facts.status()).await;
        facts.device = facts.host.as_ref().ok().and_then(|host| host.observed.device.clone());
    }
    facts.port_taken = port_taken(&facts, port);
    facts.uplink = uplink(&netlink, &links, &desired, facts.device.as_ref()).await?;
    if let Some(endpoint) = desired.endpoint() {
        facts.endpoint = Some(resolve(endpoint).await);
    }
    if root {
        facts.knocks = knocks(&desired.interface).await;
        through_the_tunnel(&mut facts, &desired, port, peer).await;
    }
    Ok(facts)
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

async fn daemon_of(socket: &Path) -> Daemon {
    match client::status(socket).await {
        Ok(status) => Daemon::Runs(Box::new(status)),
        Err(ControlError::NotRunning(_)) => Daemon::Absent,
        Err(error @ ControlError::Permission(_)) => Daemon::Forbidden(error.to_string()),
        Err(error) => Daemon::Broken(error.to_string()),
    }
}

fn relays(links: &[Link], ours: &InterfaceName) -> Vec<OtherRelay> {
    let others = links.iter().filter(|link| link.is_ours() && ours.as_str() != link.name);
    let held = |name: &InterfaceName| lock::is_held(Path::new(daemon::RUN_DIR), name);
    others
        .filter_map(|link| Some((link, link.name.parse().ok()?)))
        .map(|(link, name)| OtherRelay { interface: link.name.clone(), runs: held(&name) })
        .collect()
}

async fn host(
    desired: &Desired,
    port: u16,
    netlink: &Netlink,
    status: Option<&Status>,
) -> Result<HostFacts, String> {
    let failed = |error: crate::host::HostError| chain(&error);
    let mut host = Host::open(desired, netlink.clone(), Path::new(daemon::RUN_DIR)).await.map_err(failed)?;
    if let Some(status) = status {
        // It was chosen when the daemon began.
        host.backend = status.backend;
    }
    let mut observed = host.observe(desired).await.map_err(failed)?;
    let backend = host.backend;
    let left = |observed: &Observed| -> Vec<String> {
        let changes = plan::plan(desired, backend, observed, &FastPath::off(""));
        changes.iter().filter(|change| is_drift(change)).map(ToString::to_string).collect()
    };
    let mut drift = left(&observed);
    if !drift.is_empty() && status.is_some() {
        tokio::time::sleep(SETTLED).await;
        host.firewall_may_have_changed();
        observed = host.observe(desired).await.map_err(failed)?;
        let still = left(&observed);
        drift.retain(|change| still.contains(change));
    }
    let closers = closers(desired, port, &observed).await?;
    let attached = match (status, &observed.link) {
        (Some(status), _) => status.attached.clone(),
        (None, Some(link)) => {
            let interface = Interface { name: desired.interface.clone(), index: link.index };
            let pins = Pins::new(desired.interface.clone());
            datapath::attached(&interface, &pins).ok().flatten().map(|hook| hook.to_string())
        }
        (None, None) => None,
    };
    let decided = match (status, &attached) {
        (Some(status), _) => status.fast_path.clone(),
        (None, Some(_)) => fast_path::decide(desired.fast_path(), observed.forwarding.as_ref(), None),
        (None, None) => FastPath::off("no program is attached; the kernel forwards"),
    };
    Ok(HostFacts { backend, observed, closers, drift, fast_path: decided, attached })
}

/// The fast path and the firewall's openings are judged for themselves.
fn is_drift(change: &Change) -> bool {
    !matches!(
        change,
        Change::LoadFastPath
            | Change::UnloadFastPath
            | Change::SetMaps(_)
            | Change::LoadUplink(_)
            | Change::UnloadUplink
            | Change::SetUplink(_)
            | Change::Open(_)
            | Change::Close(_)
    )
}

/// How long to look at what the guard drops.
const KNOCKS: Duration = Duration::from_secs(1);
/// A source that has been quiet for so long has nothing to do with what happens now.
const QUIET: Duration = Duration::from_secs(60);

/// What the guard drops, read from its maps: they are there whether or not a daemon runs.
async fn knocks(interface: &InterfaceName) -> Option<Knocks> {
    let maps = UplinkMaps::open(&Pins::of_uplink(interface.clone())).ok()?;
    let before = maps.counters().ok()?;
    let begun = Instant::now();
    tokio::time::sleep(KNOCKS).await;
    let (now, seconds) = (maps.counters().ok()?, begun.elapsed().as_secs_f64());
    let mut reasons: Vec<(String, u64)> = UplinkVerdict::ALL
        .iter()
        .filter(|verdict| verdict.drops())
        .map(|&verdict| {
            (verdict.name().to_owned(), now.verdict(verdict).saturating_sub(before.verdict(verdict)))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    let all = maps.sources().ok()?;
    // Their own clock, which began with the kernel: the latest of them is as good as now.
    let latest = all.values().map(|source| source.last).max().unwrap_or(0);
    let recent = all.iter().filter(|(_, source)| u128::from(latest - source.last) < QUIET.as_nanos());
    let mut sources: Vec<(String, u64)> =
        recent.map(|(&key, source)| (source_in_words(key), source.dropped)).collect();
    sources.sort_by_key(|(_, count)| Reverse(*count));
    let per_second = now.dropped().saturating_sub(before.dropped()) as f64 / seconds;
    Some(Knocks { per_second, dropped: now.dropped(), reasons, sources })
}

async fn closers(
    desired: &Desired,
    port: u16,
    observed: &Observed,
) -> Result<Vec<(opening::Way, String)>, String> {
    if observed.openings.is_empty() {
        return Ok(Vec::new());
    }
    let ruleset = nft::read().await.map_err(|error| chain(&error))?;
    let peers = desired.peers.values().flat_map(Peer::allowed_ips);
    let prefixes: Vec<IpNet> = desired.addresses.iter().map(IpNet::trunc).chain(peers).collect();
    let uplink = observed.uplinks.get(&Version::V4).or(observed.uplinks.get(&Version::V6));
    let exits = exit::exits(desired, &observed.uplinks);
    let name = desired.interface.as_str();
    Ok(opening::closers(&ruleset, name, port, uplink.map(String::as_str), &prefixes, &exits))
}

/// Whether somebody else has the port, where WireGuard does not.
fn port_taken(facts: &Facts, port: u16) -> Option<String> {
    let ours = facts.device.as_ref().is_some_and(|device| device.listen_port == port);
    let daemons = facts.status().is_some_and(|status| status.listen_port == port);
    if ours || daemons {
        return None;
    }
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let tries = [UdpSocket::bind(("0.0.0.0", port)), UdpSocket::bind(("::", port))];
    tries.into_iter().filter_map(Result::err).find(taken).map(|error| error.to_string())
}

async fn uplink(
    netlink: &Netlink,
    links: &[Link],
    desired: &Desired,
    device: Option<&Device>,
) -> anyhow::Result<Option<Uplink>> {
    let Some(found) = netlink.uplink().await? else { return Ok(None) };
    let Some(link) = links.iter().find(|link| link.index == found.index) else { return Ok(None) };
    let routes = netlink.routes().await?;
    let defaults = || routes.iter().filter(|route| route.destination.prefix_len() == 0 && route.table == 254);
    let of_route =
        defaults().filter(|route| route.interface == Some(found.index)).filter_map(|route| route.mtu).min();
    let by_v6 = found.addresses.iter().any(|address| address.is_ipv6() && is_public(address))
        && default_interface(&routes, true) == Some(found.index);
    let carries = of_route.map_or(link.mtu, |mtu| mtu.min(link.mtu));
    let mut ways = vec![Way { whose: found.interface.clone(), carries, around: around(by_v6) }];
    for (key, live) in device.iter().flat_map(|device| &device.peers) {
        let (Some(peer), Some(endpoint)) = (desired.peers.get(key), live.endpoint) else { continue };
        // No way there: then nothing gets there, and the handshake says so.
        let Ok(mtu) = way_out::path_mtu(endpoint) else { continue };
        ways.push(Way {
            whose: format!("the way to {}", peer.name),
            carries: mtu,
            around: around(endpoint.is_ipv6()),
        });
    }
    let mut host_addresses = Vec::new();
    for link in links.iter().filter(|link| link.name != desired.interface.as_str()) {
        let addresses = netlink.addresses(link.index).await?;
        host_addresses.extend(addresses.iter().map(IpNet::addr).filter(|address| !address.is_loopback()));
    }
    let mut out: Vec<u32> = defaults()
        .filter(|route| route.destination.addr().is_ipv4())
        .filter_map(|route| route.interface)
        .collect();
    out.sort_unstable();
    out.dedup();
    let names = links.iter().filter(|link| out.len() > 1 && out.contains(&link.index)).map(|link| &link.name);
    const STRICT: u8 = 1;
    let strict = names.filter(|name| way_out::rp_filter(name) == STRICT).cloned().collect();
    Ok(Some(Uplink {
        driver: way_out::driver(&found.interface),
        queues: way_out::receive_queues(&found.interface),
        interface: found.interface,
        addresses: found.addresses,
        host_addresses,
        ways,
        strict,
    }))
}

async fn resolve(endpoint: &str) -> Result<Vec<std::net::IpAddr>, String> {
    match tokio::time::timeout(RESOLVER, tokio::net::lookup_host(endpoint)).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no resolver answers within {} s", RESOLVER.as_secs())),
    }
}

/// Listens and asks at the same time, and reads WireGuard once more: a handshake may be over meanwhile.
async fn through_the_tunnel(facts: &mut Facts, desired: &Desired, port: u16, named: Option<&str>) {
    let away = |(key, peer): (&crate::key::PublicKey, &Peer)| {
        named.is_none_or(|name| name == peer.name.as_str()) && !facts.is_connected(key)
    };
    let listens = facts.device.is_some() && desired.peers.iter().any(away);
    let ear = async {
        if !listens {
            return None;
        }
        spawn_blocking(move || initiations::listen(port, LISTEN, MOST)).await.ok().and_then(Result::ok)
    };
    let connected = desired.peers.iter().filter(|(key, _)| facts.is_connected(key)).map(|(_, peer)| peer);
    let asked: Vec<&Peer> = match named {
        Some(name) => connected.filter(|peer| peer.name.as_str() == name).collect(),
        None => connected.filter(|peer| !peer.lans.is_empty()).take(HOMES).collect(),
    };
    let before = wrong_keys(&desired.interface);
    let questions = asked.into_iter().map(|peer| ask(desired.interface.clone(), peer));
    let (heard, probes) = tokio::join!(ear, join_all(questions));
    let at = SystemTime::now();
    facts.heard = heard.map(|heard| {
        let open = |heard: initiations::Initiation| Heard {
            from: heard.from,
            at,
            opened: initiation::open(&desired.private_key, &heard.message),
        };
        heard.into_iter().map(open).chain(held_back(facts, &desired.interface, &before, at)).collect()
    });
    facts.probes = probes.into_iter().map(|(name, probe)| (name.to_string(), probe)).collect();
    if let (true, Ok(host)) = (listens, &facts.host)
        && let Ok(Some(device)) =
            tokio::task::block_in_place(|| wireguard::read(&desired.interface, host.backend))
    {
        facts.device = Some(device);
        facts.now = at;
    }
}

/// The sources of handshakes whose mac1 was wrong, each with a number that changes when another one comes; the guard keeps
/// such handshakes from every other ear.
fn wrong_keys(interface: &InterfaceName) -> BTreeMap<SourceKey, u64> {
    let maps = UplinkMaps::open(&Pins::of_uplink(interface.clone()));
    let sources = maps.and_then(|maps| maps.sources()).unwrap_or_default();
    sources.into_iter().map(|(key, source)| (key, source.junk)).filter(|(_, junk)| *junk > 0).collect()
}

/// Those of them that came while we listened. In a flood they are nobody's trouble, and another finding tells of it.
fn held_back(
    facts: &Facts,
    interface: &InterfaceName,
    before: &BTreeMap<SourceKey, u64>,
    at: SystemTime,
) -> Vec<Heard> {
    if facts.knocks.as_ref().is_none_or(guard::is_attack) {
        return Vec::new();
    }
    let now = wrong_keys(interface);
    let came = now.into_iter().filter(|(key, junk)| before.get(key) != Some(junk));
    came.take(MOST)
        .map(|(key, _)| Heard {
            from: SocketAddr::new(address_of(key), 0),
            at,
            opened: Err(Sealed::OtherHub),
        })
        .collect()
}

async fn ask(tunnel: InterfaceName, peer: &Peer) -> (PeerName, Probe) {
    let name = peer.name.clone();
    let addresses: Vec<std::net::Ipv4Addr> = peer
        .addresses
        .iter()
        .filter_map(|address| match address {
            std::net::IpAddr::V4(v4) => Some(*v4),
            std::net::IpAddr::V6(_) => None,
        })
        .collect();
    let lans: Vec<Ipv4Net> = peer
        .lans
        .iter()
        .filter_map(|lan| match lan {
            IpNet::V4(v4) => Some(*v4),
            IpNet::V6(_) => None,
        })
        .collect();
    let asked = spawn_blocking(move || questions(&tunnel, addresses.first().copied(), &lans)).await;
    let failed = |why: String| Probe { failed: Some(why), ..Probe::default() };
    let probe = match asked {
        Ok(Ok(probe)) => probe,
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    };
    (name, probe)
}

fn questions(
    tunnel: &InterfaceName,
    address: Option<std::net::Ipv4Addr>,
    lans: &[Ipv4Net],
) -> io::Result<Probe> {
    let mut found = Probe::default();
    if let Some(to) = address {
        // Twice, since one packet may be lost, and the first may wait for a handshake.
        let here = |answer: &ping::Answer| matches!(answer.said, Said::Here { .. });
        let once = || ping::ask(tunnel, &[Question { to, hops: probe::FAR }], ANSWER, here);
        let answers = once()?.iter().any(here) || once()?.iter().any(here);
        found.tunnel = Some((to, answers));
    }
    for &lan in lans {
        let (near, far) = (probe::near(lan), probe::far(lan));
        let near = ping::ask(tunnel, &near, ANSWER, |answer| answer.said == Said::TimeExceeded)?;
        let answers = ping::ask(tunnel, &far, ANSWER, probe::is_behind)?;
        found.lans.push((lan, probe::behind(&near, &answers, far.len())));
    }
    Ok(found)
}
