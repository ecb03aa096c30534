//! `relay stats`: counters per peer, from the daemon, or from pinned maps and netlink where none runs; and with `--since`
//! the history.

use std::{io::ErrorKind, path::Path};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    adopt::{self, Foreign, Options},
    cli::{Files, StatsArgs},
    config,
    control::client::{self, ControlError},
    daemon,
    desired::{Backend, InterfaceName},
    failure::Failure,
    history::{self, chart, since::Since, text},
    kernel::{
        datapath::{self, Interface, PinnedMaps, Pins},
        netlink::Netlink,
        wireguard,
    },
    maps::Counters,
    observed::LinkKind,
    report::{Standing, Stats},
    stats, table,
};

/// Prints the hub's, or those of an adopted interface, once or again and again.
///
/// # Errors
/// Neither who keeps it nor the kernel can be asked; there is no history.
pub async fn run(files: &Files, adopted: Option<&Options>, args: &StatsArgs) -> anyhow::Result<()> {
    if let Some(since) = args.since {
        return history(files, args, since);
    }
    let json = args.report.show.json;
    if args.watch {
        return super::watch::run(|| look(files, adopted), json).await;
    }
    let stats = look(files, adopted).await?;
    if json {
        return super::print_json(&stats);
    }
    super::print(&table::stats(&stats, super::now()))
}

/// Asks who keeps the interface, or where nobody does, the kernel.
pub(super) async fn look(files: &Files, adopted: Option<&Options>) -> anyhow::Result<Stats> {
    if let Some(adopted) = adopted {
        super::keeps(adopted).await?;
    }
    let socket = adopted.map_or(&files.socket, |adopted| &adopted.socket);
    match (client::stats(socket).await, adopted) {
        (Err(ControlError::NotRunning(_)), Some(adopted)) => without_keeper(adopted).await,
        (Err(ControlError::NotRunning(_)), None) => without_daemon(&files.config).await,
        (answer, _) => Ok(answer?),
    }
}

fn history(files: &Files, args: &StatsArgs, since: Since) -> anyhow::Result<()> {
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let since = since.moment(now, &zone).filter(|since| *since < now);
    let since =
        since.ok_or_else(|| Failure::refused("--since: nothing was counted yet after that moment"))?;
    let interface = super::down::interface(&files.config)?;
    let path = history::file(&files.state, &interface);
    let history = match std::fs::File::open(&path) {
        Ok(_) => history::report::read(&path, interface.as_str(), since, now)
            .map_err(|error| Failure::new(format!("cannot read the history {}: {error}", path.display()))),
        Err(error) => {
            let failure = Failure::new(format!("cannot read the history {}: {error}", path.display()));
            Err(match error.kind() {
                ErrorKind::NotFound => failure.hint("`relay up` writes it while it runs"),
                ErrorKind::PermissionDenied => failure.hint("run this as root"),
                _ => failure,
            })
        }
    }?;
    if args.report.show.json {
        super::print_json(&history)
    } else if args.csv {
        super::print(&history.csv())
    } else if let Some(file) = &args.svg {
        let svg = chart::svg(&history, &zone);
        if file == Path::new("-") {
            return super::print(&svg);
        }
        std::fs::write(file, svg).with_context(|| format!("writing the chart {}", file.display()))
    } else {
        super::print(&text::table(&history, &zone))
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

    let (fast_path, counters) = left_behind(name, link.index, &Pins::new(name.clone()))?;
    Ok(stats::collect(&desired, backend, fast_path, device.as_ref(), counters.as_ref()))
}

async fn without_keeper(options: &Options) -> anyhow::Result<Stats> {
    super::need_root("read counters without whoever keeps the interface")?;
    let place = &options.place;
    let seen = Foreign::open(place.clone())?.see().await?;
    let (fast_path, counters) = left_behind(&place.interface, seen.link.index, &place.pins())?;
    Ok(adopt::report::stats(place, seen.backend, fast_path, Some(&seen.device), counters.as_ref()))
}

/// The fast path that goes on without its daemon.
fn left_behind(
    name: &InterfaceName,
    index: u32,
    pins: &Pins,
) -> anyhow::Result<(Standing, Option<Counters>)> {
    let interface = Interface { name: name.clone(), index };
    let attached = datapath::attached(&interface, pins)?;
    let maps = if pins.exist() { Some(PinnedMaps::open(pins)?) } else { None };
    let counters = maps.as_ref().map(PinnedMaps::counters).transpose()?;
    let enabled = maps.as_ref().map(PinnedMaps::read).transpose()?.is_some_and(|state| state.enabled);
    let fast_path = match (attached, enabled) {
        (Some(_), true) => Standing::on("as the daemon left it; no daemon runs"),
        (Some(_), false) => Standing::off("as the daemon left it; no daemon runs"),
        (None, _) => Standing::off("not attached; no daemon runs"),
    };
    Ok((fast_path, counters))
}
