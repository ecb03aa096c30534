//! Maps: what they hold, and what becomes of those that an earlier relay left.

use std::{collections::BTreeSet, fs, net::Ipv6Addr};

use relay_common::{Direct6, LAYOUT, PeerSlot};
use relay_user::{
    datapath_plan::diff,
    maps::{AllDirect, Maps},
};

use super::*;

#[test]
fn an_old_layout_goes_when_the_new_one_runs() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        let old = pins().folder().join((LAYOUT - 1).to_string());
        fs::rename(pins().maps(), &old)?;

        let mut prepared = Datapath::prepare(EMBEDDED, interface(&tunnel)?, pins(), hook)?;
        pass(&mut tunnel, 1).context("by the old program, before the new maps are filled")?;
        prepared.maps.apply(&peers())?;
        pass(&mut tunnel, 2).context("by the old program")?;
        ensure!(redirected(&prepared.maps)? == 0, "the new maps were used before commit");
        ensure!(old.exists());
        let datapath = prepared.commit()?;
        ensure!(!old.exists(), "the old maps are still pinned");
        pass(&mut tunnel, 3).context("by the new program")?;
        ensure!(redirected(&datapath.maps)? == 1);
        Ok(())
    });
}

#[test]
fn maps_of_another_shape_are_made_anew() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        // A map of the same name and another size, as a build leaves that forgot to raise its number.
        let path = pins().maps().join("HOSTS4");
        fs::remove_file(&path)?;
        run(&format!(
            "bpftool map create {} type hash key 4 value 8 entries 16 name HOSTS4",
            path.display()
        ))?;

        let mut prepared = Datapath::prepare(EMBEDDED, interface(&tunnel)?, pins(), hook)?;
        pass(&mut tunnel, 1).context("by the old program")?;
        prepared.maps.apply(&peers())?;
        drop(prepared.commit()?);
        pass(&mut tunnel, 2).context("by the new program")
    });
}

#[test]
fn a_full_map_is_counted_and_no_failure() {
    in_namespaces(|| {
        const SURPLUS: usize = 3;
        let mut tunnel = tunnel()?;
        let mut datapath = start(&interface(&tunnel)?, Hook::of_this_kernel())?;
        let held = datapath.maps.read()?;
        // All of them but the first two want a place in the table that another has.
        let hosts = relay_common::MAX_HOSTS as usize + 2 + SURPLUS;
        let lans = relay_common::MAX_LANS as usize - held.lans.len() + SURPLUS;
        let host = |number: usize| {
            let (high, low) = (number as u32 % 60_000 + 1000, number as u32 / 60_000);
            IpAddr::from((high << 16 | 0xb000 | low).to_be_bytes())
        };
        let lan = |number: usize| {
            let [a, b, c, d] = (0x0c00_0000 + (number as u32) * 4).to_be_bytes();
            ipnet::IpNet::new(IpAddr::from([a, b, c, d]), 30).expect("30 bits")
        };
        let many: Vec<_> = (0..hosts)
            .map(|number| MapChange::SetHost(host(number), Route::peer(1)))
            .chain((0..lans).map(|number| MapChange::SetLan(lan(number), Route::peer(1))))
            .collect();
        let overflow = datapath.maps.apply(&many)?;
        ensure!(overflow == 2 * SURPLUS, "{overflow} found no room");
        let state = datapath.maps.read()?;
        let expected = held.hosts.len() + hosts - SURPLUS;
        ensure!(state.hosts.len() == expected, "{} hosts", state.hosts.len());
        let put =
            (0..hosts).filter(|number| state.hosts.get(&host(*number)) == Some(&Route::peer(1))).count();
        ensure!(put == hosts - SURPLUS, "{put} of the hosts lead where they were led");
        ensure!(state.lans.len() == relay_common::MAX_LANS as usize, "{} lans", state.lans.len());
        pass(&mut tunnel, 1)
    });
}

#[test]
fn maps_hold_what_was_put_there() {
    in_namespaces(|| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, Hook::of_this_kernel())?.maps;
        let (v6, lan6) = ("fd52:1a9::2".parse()?, "fd40::/56".parse()?);
        maps.apply(&[MapChange::SetHost(v6, Route::peer(1)), MapChange::SetLan(lan6, Route::STACK)])?;
        let state = PinnedMaps::open(&pins())?.read()?;
        ensure!(state.enabled);
        ensure!(state.slots == [(PHONE, 0), (HOME, 1)].into(), "{state:?}");
        ensure!(state.hosts.len() == 4 && state.hosts[&v6] == Route::peer(1), "{state:?}");
        ensure!(state.lans.len() == 2 && state.lans[&lan6] == Route::STACK, "{state:?}");

        pass(&mut tunnel, 1)?;
        let newcomer = PublicKey::new([3; 32]);
        let gone = MapChange::RemoveHost("10.9.0.3".parse()?);
        maps.apply(&[gone.clone(), gone, MapChange::FreeSlot(PHONE), MapChange::FreeSlot(PHONE)])?;
        maps.apply(&[MapChange::RemoveLan(lan6), MapChange::RemoveLan(lan6)])?;
        maps.apply(&[MapChange::AssignSlot(newcomer, 0), MapChange::Enable(false)])?;
        let counters = maps.counters()?;
        ensure!(counters.peers[&newcomer] == relay_common::PeerCounters::default(), "{counters:?}");
        ensure!(counters.peers[&HOME].sent.packets == 1, "{counters:?}");
        tunnel.send(&packet(2))?;
        let after = maps.counters()?;
        ensure!(after.verdict(Verdict::Off) == 1 && after.verdict(Verdict::Redirected) == 1, "{after:?}");
        Ok(())
    });
}

/// The table has one place for all addresses that end alike; whoever comes later stands in the hash map.
#[test]
fn addresses_that_end_alike_keep_apart() {
    in_namespaces(|| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, Hook::of_this_kernel())?.maps;
        let [phone, twin, nobody] =
            ["10.9.0.3", "10.77.0.3", "0.0.0.0"].map(|text| text.parse().expect(text));
        let held = |maps: &PinnedMaps| -> Result<[Option<Route>; 3]> {
            let hosts = maps.read()?.hosts;
            Ok([phone, twin, nobody].map(|address| hosts.get(&address).copied()))
        };
        let (to_phone, to_home) = (Some(Route::peer(0)), Some(Route::peer(1)));

        maps.apply(&[MapChange::SetHost(twin, Route::peer(1)), MapChange::SetHost(nobody, Route::STACK)])?;
        ensure!(held(&maps)? == [to_phone, to_home, Some(Route::STACK)]);
        pass(&mut tunnel, 1).context("from the one that came first")?;
        maps.apply(&[MapChange::RemoveHost(nobody), MapChange::RemoveHost(phone)])?;
        ensure!(held(&maps)? == [None, to_home, None]);

        // The place is free, and the next write moves the other one there.
        maps.apply(&[MapChange::SetHost(twin, Route::STACK), MapChange::SetHost(phone, Route::peer(0))])?;
        ensure!(held(&maps)? == [to_phone, Some(Route::STACK), None]);
        pass(&mut tunnel, 2).context("from the one that came last")?;
        maps.apply(&[MapChange::RemoveHost(twin), MapChange::SetHost(phone, Route::peer(0))])?;
        ensure!(held(&maps)? == [to_phone, None, None]);
        pass(&mut tunnel, 3).context("from the one that is left")?;
        maps.apply(&[MapChange::RemoveHost(phone)])?;
        ensure!(held(&maps)? == [None; 3], "one of them stood twice");
        Ok(())
    });
}

/// The table of IPv6 is of one network, chosen once.
#[test]
fn addresses_of_one_network_have_places() {
    in_namespaces(|| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, Hook::of_this_kernel())?.maps;
        let before = maps.read()?;
        let [phone, home, alike, abroad] = ["fd52:1a9::3", "fd52:1a9::2", "fd52:1a9::7:3", "fd52:1aa::3"]
            .map(|text| text.parse::<Ipv6Addr>().expect(text));
        let [here, there] = [phone, abroad].map(|address| Direct6::network(address.octets()));
        let set = |address: Ipv6Addr, slot| MapChange::SetHost(address.into(), Route::peer(slot));
        let remove = |address: Ipv6Addr| MapChange::RemoveHost(address.into());
        // Who stands in the hash map, and where everybody leads.
        let hold = |maps: &PinnedMaps, crowded: &[Ipv6Addr], ways: &[(Ipv6Addr, PeerSlot)]| -> Result<()> {
            let state = maps.read()?;
            let crowded: BTreeSet<_> = crowded.iter().copied().map(IpAddr::from).collect();
            ensure!(state.crowded == crowded, "{:?}", state.crowded);
            ensure!(state.all_direct.v4 == before.all_direct.v4, "of the other family");
            let ways = ways.iter().map(|(address, slot)| (IpAddr::from(*address), Route::peer(*slot)));
            let hosts = before.hosts.clone().into_iter().chain(ways).collect();
            ensure!(state.hosts == hosts, "{:?}", state.hosts);
            Ok(())
        };
        // From one to another, counted for just that peer.
        let mut sent = 0;
        let mut goes = |maps: &PinnedMaps, [from, to]: [Ipv6Addr; 2], peer: &PublicKey| -> Result<()> {
            let received = || Ok::<_, anyhow::Error>(maps.counters()?.peers[peer].received.packets);
            let before = received()?;
            sent += 1;
            pass6(&mut tunnel, [from, to], sent).with_context(|| format!("from {from}"))?;
            ensure!(received()? == before + 1, "{from} is somebody else's");
            Ok(())
        };
        let all_direct = MapChange::AllDirect(AllDirect { v6: true, ..before.all_direct });

        maps.apply(&[set(phone, 0), set(home, 1)])?;
        hold(&maps, &[phone, home], &[(phone, 0), (home, 1)])?;
        ensure!(maps.read()?.network6.is_none() && !maps.read()?.all_direct.v6);
        goes(&maps, [phone, home], &PHONE).context("before a network is chosen")?;
        maps.apply(&[MapChange::Network6(here), MapChange::Network6(there)])?;
        ensure!(maps.read()?.network6 == Some(here), "it was chosen twice");
        goes(&maps, [phone, home], &PHONE).context("still by the hash map")?;

        // Into the table first, and out of the hash map when it is written once more.
        maps.apply(&[set(phone, 0), set(home, 1)])?;
        hold(&maps, &[phone, home], &[(phone, 0), (home, 1)])?;
        // What stands in both is the table's.
        maps.apply(&[set(phone, 1), set(home, 0)])?;
        hold(&maps, &[phone, home], &[(phone, 1), (home, 0)])?;
        goes(&maps, [home, phone], &PHONE).context("by the table, though the hash map says otherwise")?;
        maps.apply(&[set(phone, 0), set(home, 1)])?;
        maps.apply(&[set(phone, 0), set(home, 1), all_direct])?;
        hold(&maps, &[], &[(phone, 0), (home, 1)])?;
        goes(&maps, [phone, home], &PHONE).context("by the table alone")?;

        maps.apply(&[set(alike, 1), set(abroad, 1)])?;
        hold(&maps, &[alike, abroad], &[(phone, 0), (home, 1), (alike, 1), (abroad, 1)])?;
        ensure!(!maps.read()?.all_direct.v6, "they are where nobody looks");
        for (way, peer) in [([phone, home], PHONE), ([alike, phone], HOME), ([abroad, phone], HOME)] {
            goes(&maps, way, &peer)?;
        }

        // What stands in both goes from both.
        maps.apply(&[remove(phone), set(alike, 1), set(abroad, 1)])?;
        hold(&maps, &[alike, abroad], &[(home, 1), (alike, 1), (abroad, 1)])?;
        maps.apply(&[remove(alike)])?;
        hold(&maps, &[abroad], &[(home, 1), (abroad, 1)])?;
        maps.apply(&[remove(abroad), remove(home)])?;
        hold(&maps, &[], &[])
    });
}

/// HOSTS4, as HOSTS6, is asked from before an address comes to stand there, until it is empty; who can leave it does.
#[test]
fn the_hash_map_is_asked_while_it_holds_something() {
    in_namespaces(|| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, Hook::of_this_kernel())?.maps;
        let [home, phone, twin] =
            ["10.9.0.2", "10.9.0.3", "10.77.0.3"].map(|text| text.parse::<IpAddr>().expect(text));
        // What must be done for just these to have a way, and does it.
        let have = |maps: &mut PinnedMaps, hosts: &[IpAddr]| -> Result<Vec<MapChange>> {
            let state = maps.read()?;
            let slot = |host: &IpAddr| Route::peer(u32::from(*host == home));
            let wanted = Maps {
                slots: state.slots.clone(),
                hosts: hosts.iter().map(|host| (*host, slot(host))).collect(),
                lans: state.lans.clone(),
                network6: None,
                overflow: 0,
            };
            let changes = diff(&wanted, true, &state);
            maps.apply(&changes)?;
            let now = maps.read()?;
            ensure!(now.hosts == wanted.hosts, "{changes:?} led to {:?}", now.hosts);
            Ok(changes)
        };
        let [all, not_all] = [true, false].map(|v4| [MapChange::AllDirect(AllDirect { v4, v6: true })]);

        let (back, gone) = ([MapChange::SetHost(phone, Route::peer(0))], [MapChange::RemoveHost(twin)]);
        ensure!(have(&mut maps, &[home, phone])?.starts_with(&all));
        pass(&mut tunnel, 1).context("all in the table")?;
        ensure!(have(&mut maps, &[home, twin])?.starts_with(&[MapChange::RemoveHost(phone)]));
        ensure!(have(&mut maps, &[home, phone, twin])? == back);
        pass(&mut tunnel, 2).context("the twin has the place")?;
        ensure!(have(&mut maps, &[home, phone, twin])?.is_empty());
        maps.apply(&all)?;
        ensure!(have(&mut maps, &[home, phone, twin])? == not_all, "by hand, it was untrue");
        ensure!(have(&mut maps, &[home, phone])? == gone);
        pass(&mut tunnel, 3).context("the place is free, and the phone still in the hash map")?;
        ensure!(have(&mut maps, &[home, phone])? == back, "into the table");
        pass(&mut tunnel, 4).context("the phone in both")?;
        ensure!(have(&mut maps, &[home, phone])? == back, "out of the hash map");
        ensure!(have(&mut maps, &[home, phone])? == all);
        ensure!(have(&mut maps, &[home, phone])?.is_empty());
        pass(&mut tunnel, 5).context("all in the table again")?;

        // Who writes by hand is no exception.
        maps.apply(&[MapChange::SetHost(twin, Route::peer(1))])?;
        ensure!(!maps.read()?.all_direct.v4, "the twin is where nobody looks");
        ensure!(have(&mut maps, &[home, phone])? == gone);
        ensure!(have(&mut maps, &[home, phone])? == all);
        Ok(())
    });
}
