//! `relay stats`: counters per peer, from the daemon, or from pinned maps and netlink where none runs.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    cli::{Files, StatsArgs},
    config,
    control::client::{self, ControlError},
    daemon,
    desired::Backend,
    kernel::{
        datapath::{self, Interface, PinnedMaps, Pins},
        netlink::Netlink,
        wireguard,
    },
    observed::LinkKind,
    report::{FastPath, Stats},
    stats, table,
};

/// Prints them, once or again and again.
///
/// # Errors
/// Neither a daemon nor the kernel can be asked.
pub async fn run(files: &Files, args: &StatsArgs) -> anyhow::Result<()> {
    if args.watch {
        return super::watch::run(|| look(files), args.json).await;
    }
    let stats = look(files).await?;
    if args.json {
        return super::print_json(&stats);
    }
    super::print(&table::stats(&stats, super::now()))
}

async fn look(files: &Files) -> anyhow::Result<Stats> {
    match client::stats(&files.socket).await {
        Err(ControlError::NotRunning(_)) => without_daemon(&files.config).await,
        answer => Ok(answer?),
    }
}

async fn without_daemon(path: &Path) -> anyhow::Result<Stats> {
    super::need_root("read counters without the daemon")?;
    let netlink = Netlink::connect()?;
    let config::Config { desired, .. } = daemon::load(path, &netlink, None).await?;
    let name = &desired.interface;
    let link = netlink.link(name).await?.filter(crate::observed::Link::is_ours);
    let link =
        link.with_context(|| format!("relay is not running, and there is no interface {name} of its"))?;
    let backend = if link.kind == LinkKind::WireGuard { Backend::Kernel } else { Backend::Userspace };
    let device = wireguard::read(name, backend)?;

    let pins = Pins::new(name.clone());
    let interface = Interface { name: name.clone(), index: link.index };
    let attached = datapath::attached(&interface, &pins)?;
    let maps = if pins.exist() { Some(PinnedMaps::open(&pins)?) } else { None };
    let counters = maps.as_ref().map(PinnedMaps::counters).transpose()?;
    let enabled = maps.as_ref().map(PinnedMaps::read).transpose()?.is_some_and(|state| state.enabled);
    let fast_path = match (attached, enabled) {
        (Some(_), true) => FastPath::on("as the daemon left it; no daemon runs"),
        (Some(_), false) => FastPath::off("as the daemon left it; no daemon runs"),
        (None, _) => FastPath::off("not attached; no daemon runs"),
    };
    Ok(stats::collect(&desired, backend, fast_path, device.as_ref(), counters.as_ref()))
}
