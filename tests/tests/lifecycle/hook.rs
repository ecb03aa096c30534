//! Which program the tunnel's hook runs, and with which maps: by what the kernel says, not relay.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{MapInfo, loaded_maps},
    programs::{SchedClassifier, TcAttachType, loaded_programs},
};
use relay_common::map;
use relay_tests::{
    lab::World,
    netns::{Netns, wait_for},
};

use crate::DEADLINE;

/// Where relay pins for the tunnel.
pub(crate) const PINS: &str = "/sys/fs/bpf/relay/wg0";

/// The program on the hook.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// The kernel's digest of its instructions.
    pub(crate) tag: u64,
    /// The maps that are pinned, by id; the program's own.
    pub(crate) maps: BTreeSet<u32>,
}

/// What the hook runs: one program, whose maps are those of the one layout that is pinned.
pub(crate) fn running(world: &World, layout: u32) -> Result<Running> {
    let programs = programs(&world.vps)?;
    let [id] = programs[..] else { anyhow::bail!("the hook runs {programs:?}") };
    let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
    let info = info.with_context(|| format!("the kernel knows no program {id}"))?;
    let uses: BTreeSet<u32> = info.map_ids()?.unwrap_or_default().into_iter().collect();

    let pinned = pinned(&world.vps, layout)?;
    for (name, id) in &pinned {
        // Userspace's own, which no program reads.
        ensure!(uses.contains(id) || name == map::PEERS, "program {info:?} does not use the pinned {name}");
    }
    Ok(Running { tag: info.tag(), maps: pinned.into_iter().map(|(_, id)| id).collect() })
}

/// Waits until the kernel has forgotten maps: it frees them some time after the last user is gone.
pub(crate) fn gone(maps: &BTreeSet<u32>) -> Result<()> {
    wait_for("the old maps to go", DEADLINE, || {
        let loaded: BTreeSet<u32> = loaded_maps().filter_map(Result::ok).map(|info| info.id()).collect();
        let left: Vec<_> = loaded.intersection(maps).collect();
        ensure!(left.is_empty(), "maps {left:?} are still there");
        Ok(())
    })
}

/// The ids of the programs on the hook, attached by either way.
fn programs(vps: &Netns) -> Result<Vec<u32>> {
    let filters = vps.run("tc filter show dev wg0 ingress").unwrap_or_default();
    let words: Vec<&str> = filters.split_whitespace().collect();
    let mut ids: Vec<u32> =
        words.windows(2).filter(|pair| pair[0] == "id").filter_map(|pair| pair[1].parse().ok()).collect();
    ids.extend(vps.inside(|| {
        // A kernel before 6.6 does not know the question.
        let tcx = SchedClassifier::query_tcx("wg0", TcAttachType::Ingress);
        Ok(tcx.map_or_else(|_| Vec::new(), |(_, links)| links.iter().map(|info| info.id()).collect()))
    })?);
    Ok(ids)
}

/// The pinned maps by name. Nothing may be pinned but them and the link.
fn pinned(vps: &Netns, layout: u32) -> Result<Vec<(String, u32)>> {
    vps.inside(|| {
        let layout = layout.to_string();
        let names = names(PINS)?;
        let others: Vec<_> = names.iter().filter(|name| **name != layout && *name != "link").collect();
        ensure!(others.is_empty() && names.contains(&layout), "{PINS} holds {names:?}, not layout {layout}");
        let folder = format!("{PINS}/{layout}");
        let id = |name: String| -> Result<_> {
            let info = MapInfo::from_pin(format!("{folder}/{name}"))?;
            Ok((name, info.id()))
        };
        self::names(&folder)?.into_iter().map(id).collect()
    })
}

fn names(folder: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {folder}"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
