//! What it leaves behind (nothing), and what it leaves alone.

use std::path::Path;

use aya::{Ebpf, programs::SchedClassifier};
use relay_common::program;

use super::*;

#[test]
fn removing_it_leaves_nothing() {
    on_each_hook(|hook| {
        let device = tunnel()?;
        datapath::remove(&pins()).context("where nothing is")?;
        drop(start(&interface(&device)?, hook)?);
        ensure!(Path::new(PIN_ROOT).exists());
        datapath::remove(&pins())?;
        ensure!(!Path::new(PIN_ROOT).exists(), "{PIN_ROOT} is still there");
        ensure!(programs()? == 0, "{} programs", programs()?);
        // The hook itself stays as long as the device: to remove it costs packets.
        let qdisc = output("tc qdisc show dev wg0")?.contains("clsact");
        ensure!(qdisc == (hook == Hook::Clsact), "clsact is there: {qdisc}");
        datapath::remove(&pins()).context("a second time")?;
        let closed = PinnedMaps::open(&pins()).err();
        ensure!(matches!(closed, Some(DatapathError::NotLoaded { .. })), "{closed:?}");

        drop(start(&interface(&device)?, hook)?);
        device.delete()?;
        datapath::remove(&pins()).context("after the device is gone")?;
        ensure!(!Path::new(PIN_ROOT).exists(), "{PIN_ROOT} is still there");
        Ok(())
    });
}

#[test]
fn another_interfaces_pins_are_left_alone() {
    on_each_hook(|hook| {
        let (device, other) = (tunnel()?, Tun::new("wg1", Kind::Tun, 1420)?);
        drop(start(&interface(&device)?, hook)?);
        let others = Pins::new(other.name().parse()?);
        let prepared = Datapath::prepare(EMBEDDED, interface(&other)?, others.clone(), hook)?;
        let datapath = prepared.commit()?;
        datapath::remove(&pins())?;
        ensure!(others.maps().exists());
        ensure!(datapath.attached()? == Some(hook));
        datapath::remove(&others).map_err(Into::into)
    });
}

/// Pins a program that is nobody's of ours to `/sys/fs/bpf/foreign`.
fn pin_foreign() -> Result<()> {
    let mut ebpf = Ebpf::load(EMBEDDED)?;
    let program: &mut SchedClassifier =
        ebpf.program_mut(program::TUNNEL).context("the object has no tunnel")?.try_into()?;
    program.load()?;
    Ok(program.pin("/sys/fs/bpf/foreign")?)
}

#[test]
fn other_programs_are_listed() {
    on_each_hook(|hook| {
        let tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        ensure!(datapath::foreign_programs(tunnel.index(), &pins())?.is_empty());
        run("tc qdisc replace dev wg0 clsact")?;
        pin_foreign()?;
        run("tc filter add dev wg0 ingress pref 7 bpf direct-action object-pinned /sys/fs/bpf/foreign")?;
        let foreign = datapath::foreign_programs(tunnel.index(), &pins())?;
        ensure!(foreign.len() == 1 && foreign[0].contains("priority 7"), "{foreign:?}");
        if hook == Hook::Tcx {
            let loader = Loader::start(hook, "unpinned", None)?;
            let foreign = datapath::foreign_programs(tunnel.index(), &pins())?;
            ensure!(foreign.len() == 2 && foreign[0].contains("TCX program"), "{foreign:?}");
            loader.kill()?;
        }
        drop(start(&interface(&tunnel)?, hook)?);
        datapath::remove(&pins())?;
        let left = output("tc filter show dev wg0 ingress")?;
        ensure!(left.contains("pref 7 "), "the other program's filter went too: {left}");
        Ok(())
    });
}

/// Whoever must leave an interface as it was takes the qdisc away too, but not from under anybody's filter.
#[test]
fn a_qdisc_that_was_added_goes_again() {
    on_each_hook(|hook| {
        let mut device = tunnel()?;
        let interface = interface(&device)?;
        let before = output("tc qdisc show dev wg0")?;
        let added = datapath::add_qdisc(&interface, hook)?;
        ensure!(added == (hook == Hook::Clsact), "added: {added}");
        ensure!(!datapath::add_qdisc(&interface, hook)?, "added twice");
        let attached = start(&interface, hook)?;
        pass(&mut device, 1)?;
        attached.detach()?;
        ensure!(programs()? == 0, "{} programs", programs()?);
        ensure!(redirected(&PinnedMaps::open(&pins())?)? == 1, "the counters are gone");
        datapath::remove(&pins())?;
        if hook == Hook::Clsact {
            pin_foreign()?;
            run("tc filter add dev wg0 egress bpf direct-action object-pinned /sys/fs/bpf/foreign")?;
            ensure!(!datapath::remove_qdisc(interface.index)?, "removed from under a filter");
            run("tc filter delete dev wg0 egress")?;
            ensure!(datapath::remove_qdisc(interface.index)?, "not removed");
        }
        let after = output("tc qdisc show dev wg0")?;
        ensure!(before == after, "before: {before}, after: {after}");
        Ok(())
    });
}
