//! What loading needs, and what is said where that is missing.

use std::path::Path;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use relay_common::{LAYOUT, global};

use super::*;

#[test]
fn two_capabilities_are_enough() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        for _ in 0..2 {
            let loader = Loader::start(hook, "pinned", Some("+net_admin,+bpf"))?;
            ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
            ensure!(loader.outcome["foreign"] == serde_json::json!([]), "{}", loader.outcome);
        }
        PinnedMaps::open(&pins())?.apply(&peers())?;
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn a_missing_capability_is_named() {
    on_each_hook(|hook| {
        let _tunnel = tunnel()?;
        for (have, missing) in [("+net_admin", "CAP_BPF"), ("+bpf", "CAP_NET_ADMIN")] {
            let loader = Loader::start(hook, "pinned", Some(have))?;
            let error = loader.outcome["error"].as_str().with_context(|| loader.outcome.to_string())?;
            ensure!(error.contains(&format!("lacks {missing} ")), "with {have}: {error}");
            ensure!(programs()? == 0, "{} programs", programs()?);
        }
        Ok(())
    });
}

#[test]
fn a_missing_bpf_file_system_is_mounted_or_asked_for() {
    in_namespaces(|| {
        let hook = Hook::of_this_kernel();
        let mut device = tunnel()?;
        run("umount /sys/fs/bpf")?;
        while run("umount /sys/fs/bpf").is_ok() {}
        let loader = Loader::start(hook, "pinned", Some("+net_admin,+bpf"))?;
        let error = loader.outcome["error"].as_str().with_context(|| loader.outcome.to_string())?;
        ensure!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        drop(start(&interface(&device)?, hook)?);
        pass(&mut device, 1)
    });
}

#[test]
fn an_object_of_another_layout_is_refused() {
    in_namespaces(|| {
        let tunnel = tunnel()?;
        let refused = |object: &[u8]| -> Result<Option<DatapathError>> {
            Ok(Datapath::prepare(object, interface(&tunnel)?, pins(), Hook::of_this_kernel()).err())
        };
        let nothing = refused(&[])?;
        ensure!(matches!(nothing, Some(DatapathError::NoObject)), "{nothing:?}");
        let cut = refused(&EMBEDDED[..EMBEDDED.len() / 2])?;
        ensure!(matches!(cut, Some(DatapathError::BadObject(_))), "{cut:?}");
        let other = refused(&with_layout(LAYOUT + 1)?)?.context("another layout was taken")?.to_string();
        let both = [LAYOUT + 1, LAYOUT].map(|layout| other.contains(&format!("layout {layout}")));
        ensure!(both == [true, true], "{other}");
        ensure!(!Path::new(PIN_ROOT).exists(), "a refused object left something behind");
        Ok(())
    });
}

/// The object with another number in its global `LAYOUT`.
fn with_layout(layout: u32) -> Result<Vec<u8>> {
    let file = object::File::parse(EMBEDDED)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(global::LAYOUT)).context("LAYOUT")?;
    let section = file.section_by_index(symbol.section_index().context("LAYOUT has no section")?)?;
    let (start, _) = section.file_range().context("LAYOUT is not in the file")?;
    let at = (start + symbol.address()) as usize;
    let mut bytes = EMBEDDED.to_vec();
    ensure!(bytes[at..at + 4] == LAYOUT.to_le_bytes(), "LAYOUT stands elsewhere");
    bytes[at..at + 4].copy_from_slice(&layout.to_le_bytes());
    Ok(bytes)
}
