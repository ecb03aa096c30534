//! Gathers the facts. Nothing on the host is changed; pings go through the tunnel.

mod knocks;
mod tunnel;

use std::{
    collections::BTreeMap,
    io,
    net::UdpSocket,
    path::Path,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use super::facts::{
    Daemon, Ears, Facts, Host as HostFacts, Kernel, OtherRelay, Refused, Service, Uplink, Way, around,
};
use crate::{
    address::is_public,
    cli::Files,
    control::client::{self, ControlError},
    daemon,
    desired::{Desired, InterfaceName, Peer},
    error::chain,
    failure, fast_path,
    firewall::{exit, opening},
    host::Host,
    kernel::{
        datapath::{self, Hook, Interface, Pins},
        firewall as nft, lock,
        netlink::{Netlink, default_interface},
        way_out, wireguard,
    },
    observed::{Device, Link, Observed},
    plan::{self, Change},
    report::{Standing, Status},
    service,
};

/// How long a daemon may take to do what it has seen.
const SETTLED: Duration = Duration::from_millis(1500);
/// How long a resolver may take.
const RESOLVER: Duration = Duration::from_secs(5);

/// Looks at everything, and closer at `peer` if one is named; says what takes long.
///
/// # Errors
/// rtnetlink cannot be asked.
pub async fn look(files: &Files, peer: Option<&str>, say: impl Fn(&str)) -> anyhow::Result<Facts> {
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
        service: service_of(&files.config).await,
        kernel: None,
        kernel_wireguard: None,
        link: None,
        port_taken: None,
        host: Err("only root may read WireGuard and the firewall".to_owned()),
        relays: Vec::new(),
        uplink: None,
        endpoint: None,
        ears: Ears::Unused,
        device: None,
        probes: BTreeMap::new(),
        not_asked: 0,
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
        facts.kernel = Some(kernel(facts.host.is_ok()).await);
        facts.device = facts.host.as_ref().ok().and_then(|host| host.observed.device.clone());
    }
    facts.port_taken = port_taken(&facts, port);
    facts.uplink = uplink(&netlink, &links, &desired, facts.device.as_ref()).await?;
    if let Some(endpoint) = desired.endpoint() {
        facts.endpoint = Some(resolve(endpoint).await);
    }
    if root {
        facts.knocks = knocks::look(&desired.interface).await;
        tunnel::look(&mut facts, &desired, port, peer, say).await;
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

/// systemd's unit, where systemd runs and the unit is for this file.
async fn service_of(config: &Path) -> Option<Service> {
    if !sd_notify::booted().unwrap_or(false) {
        return None;
    }
    let mut units = [service::UNIT_PATH, service::PACKAGED_UNIT].into_iter();
    let unit = units.find_map(|path| std::fs::read_to_string(path).ok())?;
    if !service::serves(&unit, config) {
        return None;
    }
    let mut command = tokio::process::Command::new("systemctl");
    command.args(["--quiet", "is-failed", service::UNIT]);
    Some(Service { failed: command.status().await.is_ok_and(|status| status.success()) })
}

/// What the kernel has; whoever could read the host could read nftables.
async fn kernel(host_is_read: bool) -> Kernel {
    let exists = |path: &str| Path::new(path).exists();
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let nftables =
        if host_is_read { Ok(()) } else { nft::read().await.map(drop).map_err(|error| chain(&error)) };
    Kernel {
        release: release.unwrap_or_else(|_| "this kernel".to_owned()),
        // Both come with CONFIG_BPF_SYSCALL (kernel/bpf/syscall.c, kernel/sysctl.c).
        bpf: exists("/proc/sys/kernel/unprivileged_bpf_disabled")
            || exists("/proc/sys/kernel/bpf_stats_enabled"),
        hook: Hook::of_this_kernel(),
        bpffs: datapath::has_bpffs(),
        btf: exists("/sys/kernel/btf/vmlinux"),
        nftables,
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
        let plan = plan::plan(desired, backend, observed, &Standing::off(""));
        plan.changes.iter().filter(|change| is_drift(change)).map(ToString::to_string).collect()
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
        (None, None) => Standing::off("no program is attached; the kernel forwards"),
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
    let uplink = observed.uplink_name();
    let exits = exit::exits(desired, &observed.uplinks);
    let name = desired.interface.as_str();
    Ok(opening::closers(&ruleset, name, port, uplink, &prefixes, &exits))
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
