//! The fast path's maps changed behind the daemon's back, or WireGuard's peers under them: both are as the file says
//! again within seconds.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use relay_common::Route;
use relay_tests::{guest, netns::wait_for};
use relay_user::maps::{AllDirect, MapChange};

use crate::{
    DEADLINE, maps,
    star::{goes_fast, with_two},
};

#[test]
fn entries_changed_by_hand() -> Result<()> {
    with_two(|star, hub| {
        let mut maps = maps(&star.hub)?;
        let before = maps.read()?;
        let home: IpAddr = "10.9.0.2".parse()?;
        let phone: IpAddr = "10.9.0.3".parse()?;
        let twin: IpAddr = "10.77.0.3".parse()?;
        let lan = "192.168.40.0/24".parse()?;
        let (&homes, &phones) =
            (before.hosts.get(&home).context("home")?, before.hosts.get(&phone).context("phone")?);
        let key = *before.slots.keys().next().context("nobody has a slot")?;
        let rows: [(&str, Vec<MapChange>); 11] = [
            ("a way is gone", vec![MapChange::RemoveHost(home)]),
            (
                "two ways are exchanged",
                vec![MapChange::SetHost(home, phones), MapChange::SetHost(phone, homes)],
            ),
            ("a LAN is gone", vec![MapChange::RemoveLan(lan)]),
            ("a LAN leads to another", vec![MapChange::SetLan(lan, phones)]),
            ("a way for nobody's address", vec![MapChange::SetHost("203.0.113.9".parse()?, homes)]),
            ("one for an address of IPv6", vec![MapChange::SetHost("fd52:1aa::9".parse()?, homes)]),
            ("one for an address whose place another one has", vec![MapChange::SetHost(twin, homes)]),
            ("the hash map is asked in vain", vec![MapChange::AllDirect(AllDirect::default())]),
            ("a LAN of nobody's", vec![MapChange::SetLan("203.0.113.0/24".parse()?, Route::STACK)]),
            ("a slot is nobody's", vec![MapChange::FreeSlot(key)]),
            ("it is switched off", vec![MapChange::Enable(false)]),
        ];
        for (what, changes) in rows {
            hub.while_halted(|| {
                maps.apply(&changes)?;
                ensure!(maps.read()? != before, "{what}: nothing was injected");
                Ok(())
            })?;
            wait_for(&format!("the maps to be as before when {what}"), DEADLINE, || {
                let now = maps.read()?;
                ensure!(now == before, "{now:?}");
                Ok(())
            })?;
        }
        goes_fast(star, hub)
    })
}

#[test]
fn allowed_ips_moved_to_another_peer() -> Result<()> {
    with_two(|star, hub| {
        let sorted = || -> Result<Vec<String>> {
            let text = star.hub.run("wg show wg0 allowed-ips")?;
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            Ok(lines)
        };
        let before = sorted()?;
        let phone = before.iter().find(|line| line.contains("10.9.0.3/32")).context("no phone")?;
        let key = phone.split_whitespace().next().context("no key")?;
        // WireGuard takes the LAN from home without a word.
        star.hub.run(&format!("wg set wg0 peer {key} allowed-ips 10.9.0.3/32,192.168.40.0/24"))?;
        wait_for("each to have its own again", DEADLINE, || {
            let now = sorted()?;
            ensure!(now == before, "{now:?}");
            Ok(())
        })?;
        if crate::status(hub)?["backend"] != "kernel" {
            guest::skip(
                "packets after allowed IPs were moved by hand: gotatun shows such a prefix with the peer that lost it, so \
                 nothing is there to be healed until that peer changes",
            );
            return Ok(());
        }
        goes_fast(star, hub)
    })
}
