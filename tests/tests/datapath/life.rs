//! Who holds it: processes that die, devices that go, programs that are replaced while packets flow.

use std::{
    net::Ipv6Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use relay_tests::{
    guest,
    namespace::sysctl,
    packet::{Ip as _, Ipv4, Ipv6, Transport},
};

use super::*;

#[test]
fn the_kernel_decides_the_hook() {
    in_namespaces(|| {
        // TCX came with 6.6 (commit e420bed02507).
        let expected = if guest::kernel_version() >= (6, 6) { Hook::Tcx } else { Hook::Clsact };
        let mut tunnel = tunnel()?;
        let datapath = start(&interface(&tunnel)?, Hook::of_this_kernel())?;
        ensure!(datapath.attached()? == Some(expected), "attached by {:?}", datapath.attached()?);
        pass(&mut tunnel, 1)?;
        guest::fact(&serde_json::json!({"attach": expected.to_string()}));
        Ok(())
    });
}

#[test]
fn what_is_pinned_outlives_its_process() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let loader = Loader::start(hook, "pinned", None)?;
        ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
        let mut maps = PinnedMaps::open(&pins())?;
        maps.apply(&peers())?;
        for number in 0..100 {
            pass(&mut tunnel, number)?;
        }
        loader.kill()?;
        for number in 100..200 {
            pass(&mut tunnel, number)?;
        }
        ensure!(datapath::attached(&interface(&tunnel)?, &pins())? == Some(hook));
        let counters = PinnedMaps::open(&pins())?.counters()?;
        ensure!(counters.verdict(Verdict::Redirected) == 200, "{counters:?}");
        let (phone, home) = (counters.peers[&PHONE], counters.peers[&HOME]);
        ensure!((phone.received.packets, phone.received.bytes) == (200, 200 * 36), "{phone:?}");
        ensure!((home.sent.packets, home.sent.bytes) == (200, 200 * 36), "{home:?}");
        ensure!((phone.sent.packets, home.received.packets) == (0, 0), "{phone:?} {home:?}");
        Ok(())
    });
}

#[test]
fn dropping_it_leaves_it_attached() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn replacing_it_loses_no_packet() {
    on_each_hook(|hook| {
        const TIMES: usize = 8;
        let mut tunnel = tunnel()?;
        let interface = interface(&tunnel)?;
        drop(start(&interface, hook)?);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                let replaced = (0..TIMES).try_for_each(|_| start(&interface, hook).map(drop));
                done.store(true, Ordering::Release);
                replaced
            });
            let mut sent = 0;
            while !done.load(Ordering::Acquire) {
                pass(&mut tunnel, sent)?;
                sent += 1;
            }
            replacing.join().expect("the thread does not panic")?;
            ensure!(sent > 0, "nothing was sent meanwhile");
            ensure!(redirected(&PinnedMaps::open(&pins())?)? == sent, "not every packet was counted");
            ensure!(programs()? == 1, "{} programs", programs()?);
            Ok(())
        })
    });
}

#[test]
fn switching_it_loses_no_packet() {
    on_each_hook(|hook| {
        const TIMES: u64 = 500;
        let mut tunnel = tunnel()?;
        for scope in ["all", "wg0"] {
            sysctl(&format!("ipv4/conf/{scope}/send_redirects"), "0")?;
            sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        run("ip address add 10.9.0.1/24 dev wg0")?;
        run("ip route add 192.168.40.0/24 dev wg0")?;
        sysctl("ipv4/ip_forward", "1")?;
        let mut maps = start(&interface(&tunnel)?, hook)?.maps;
        for number in 0..TIMES {
            maps.apply(&[MapChange::Enable(number % 2 == 0)])?;
            pass(&mut tunnel, number)?;
        }
        let counters = maps.counters()?;
        let (fast, off) = (counters.verdict(Verdict::Redirected), counters.verdict(Verdict::Off));
        ensure!((fast, off) == (TIMES / 2, TIMES / 2), "{counters:?}");
        Ok(())
    });
}

#[test]
fn the_mtu_is_the_one_of_the_moment() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let datapath = start(&interface(&tunnel)?, hook)?;
        let ip = Ipv4::new([10, 9, 0, 3].into(), [192, 168, 40, 10].into());
        let packet = ip.carry(&Transport::Udp(40_000, 80, vec![0x5a; 1300 - 28]));
        for (mtu, fits) in [(1420, true), (1299, false), (1300, true), (1280, false), (9000, true)] {
            let before = datapath.maps.counters()?;
            tunnel.set_mtu(mtu)?;
            tunnel.send(&packet)?;
            if fits {
                let (_, arrived) = tunnel.receive().with_context(|| format!("lost at MTU {mtu}"))?;
                ensure!(arrived.len() == packet.len(), "{} bytes arrived at MTU {mtu}", arrived.len());
            }
            let after = datapath.maps.counters()?;
            let moved = |verdict| after.verdict(verdict) - before.verdict(verdict);
            let moved = [Verdict::Redirected, Verdict::TooBig].map(moved);
            ensure!(moved == [u64::from(fits), u64::from(!fits)], "at MTU {mtu}: {moved:?}");
        }
        Ok(())
    });
}

/// Sends what comes out in again, as a hub does that believes the other one to be the way; says how often that went.
fn circles(tunnel: &mut Tun, maps: &PinnedMaps, mut packet: Vec<u8>) -> Result<usize> {
    for circle in 0.. {
        ensure!(circle < 256, "it never ends");
        let before = redirected(maps)?;
        tunnel.send(&packet)?;
        if redirected(maps)? == before {
            return Ok(circle);
        }
        packet = tunnel.receive()?.1;
    }
    unreachable!("the loop returns");
}

#[test]
fn a_loop_between_hubs_ends() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let mut datapath = start(&interface(&tunnel)?, hook)?;
        let (phone, home): (Ipv6Addr, Ipv6Addr) = ("fd52:1a9::3".parse()?, "fd52:1a9::2".parse()?);
        datapath.maps.apply(&[
            MapChange::SetHost(phone.into(), Route::peer(0)),
            MapChange::SetHost(home.into(), Route::peer(1)),
        ])?;
        let echo = |kind| Transport::Icmp(kind, 0, [0, 1, 0, 2], vec![7; 56]);
        let v4 = Ipv4 { ttl: 255, ..Ipv4::new([10, 9, 0, 3].into(), [10, 9, 0, 2].into()) };
        let v6 = Ipv6 { hop_limit: 255, ..Ipv6::new(phone, home) };
        for packet in [v4.carry(&echo(8)), v6.carry(&echo(128))] {
            ensure!(circles(&mut tunnel, &datapath.maps, packet)? == 254);
        }
        let counters = datapath.maps.counters()?;
        ensure!(counters.verdict(Verdict::TtlExpired) == 2, "{counters:?}");
        Ok(())
    });
}

#[test]
fn a_device_made_anew_gets_the_program_anew() {
    on_each_hook(|hook| {
        let mut first = tunnel()?;
        let datapath = start(&interface(&first)?, hook)?;
        pass(&mut first, 1)?;
        let gone = interface(&first)?;
        first.delete()?;
        ensure!(datapath.attached()?.is_none(), "attached to a device that is gone");

        let mut second = tunnel()?;
        ensure!(second.index() != gone.index, "the index was used again at once");
        let refused = Datapath::prepare(EMBEDDED, gone, pins(), hook).err();
        ensure!(matches!(refused, Some(DatapathError::NoInterface { .. })), "{refused:?}");
        let datapath = start(&interface(&second)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut second, 2)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        ensure!(redirected(&datapath.maps)? == 2, "the counters did not survive");
        Ok(())
    });
}

#[test]
fn a_link_to_a_renamed_device_is_not_mistaken_for_ours() {
    on_each_hook(|hook| {
        let first = tunnel()?;
        drop(start(&interface(&first)?, hook)?);
        run("ip link set wg0 down")?;
        run("ip link set wg0 name old0")?;
        let mut second = tunnel()?;
        let datapath = start(&interface(&second)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut second, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn leftovers_of_a_process_that_died_before_pinning() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let loader = Loader::start(hook, "unpinned", None)?;
        ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
        ensure!(programs()? == 1, "{} programs", programs()?);
        loader.kill()?;
        let datapath = start(&interface(&tunnel)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn a_change_of_hook_leaves_one_program() {
    if Hook::of_this_kernel() != Hook::Tcx {
        // TCX came with 6.6 (commit e420bed02507); before, there is no other hook to change to.
        return;
    }
    for (before, after) in [(Hook::Clsact, Hook::Tcx), (Hook::Tcx, Hook::Clsact)] {
        in_namespaces(move || {
            let mut tunnel = tunnel()?;
            drop(start(&interface(&tunnel)?, before)?);
            let datapath = start(&interface(&tunnel)?, after)?;
            ensure!(datapath.attached()? == Some(after));
            pass(&mut tunnel, 1)?;
            ensure!(programs()? == 1, "{} programs", programs()?);
            Ok(())
        });
    }
}
