//! More LANs than the fast path's maps hold: what finds no room goes by the stack and is told of, the rest goes fast.

use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_common::{MAX_LANS, Verdict};
use relay_tests::{guest, netns::wait_for};
use relay_user::key::PublicKey;

use crate::{
    busy, maps,
    star::{ping, with_two},
    status,
};

/// LANs that find no room.
const SURPLUS: usize = 5;
/// LANs of one peer that is not there.
const EACH: usize = 400;
/// Home's first LAN, before all others in the maps' order, and its last, behind all others.
const FIRST: &str = "11.0.0.0/30";
const LAST: &str = "150.0.0.0/30";
/// Sixteen thousand routes and entries took 12 s on the host.
const LONG: Duration = Duration::from_secs(120);

/// LANs between home's two, so many, of peers that are not there but have an address.
fn others(lans: usize) -> String {
    let lan = |number: usize| Ipv4Addr::from(0x0b10_0000 + (u32::try_from(number).unwrap_or(u32::MAX) << 2));
    let mut text = String::new();
    for (peer, begin) in (0..lans).step_by(EACH).enumerate() {
        let mut key = [9; 32];
        key[0] = u8::try_from(peer).unwrap_or(u8::MAX);
        let list: Vec<String> =
            (begin..lans.min(begin + EACH)).map(|number| format!("\"{}/30\"", lan(number))).collect();
        let _ = write!(
            text,
            "\n[[peer]]\nname = \"filler{peer}\"\npublic_key = \"{}\"\naddresses = [\"10.9.0.{}\"]\nendpoint = \"192.0.2.{}:51820\"\nlans = [{}]\n",
            PublicKey::new(key),
            100 + peer,
            1 + peer,
            list.join(", ")
        );
    }
    text
}

#[test]
fn more_lans_than_the_map_holds() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("16,384 LANs: each look at as many routes takes a guest longer than a second");
        return Ok(());
    }
    let _busy = busy();
    with_two(|star, hub| {
        let (first, last) = ("11.0.0.1", "150.0.0.1");
        for address in [first, last] {
            star.home().run(&format!("ip address add {address}/32 dev lo"))?;
        }
        let hub_key = status(hub)?["public_key"].as_str().context("no key")?.to_owned();
        star.phone().run(&format!("wg set tunnel peer {hub_key} allowed-ips 10.9.0.0/24,{FIRST},{LAST}"))?;
        for lan in [FIRST, LAST] {
            star.phone().run(&format!("ip route add {lan} dev tunnel"))?;
        }
        // Home has three, and one of them, the last, finds no room with SURPLUS - 1 of the others.
        let lans = MAX_LANS as usize + SURPLUS - 3;
        hub.edit("\"192.168.40.0/24\"", &format!("\"192.168.40.0/24\", \"{FIRST}\", \"{LAST}\""))?;
        let text = star.hub.run("cat /run/lab/relay.toml")?;
        hub.write(&format!("{text}{}", others(lans)))?;
        // What does not fit is a problem, and reload says so by its exit code.
        let said = hub.run(&["reload"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        let told = format!("{SURPLUS} entries did not fit");
        ensure!(said.contains(&told), "{said}");
        wait_for("status to say so", LONG, || {
            let status = status(hub)?;
            ensure!(status["fast_path"]["state"] == "on", "{status}");
            ensure!(status["problems"].to_string().contains(&told), "{status}");
            Ok(())
        })?;
        let maps = maps(&star.hub)?;
        let state = maps.read()?;
        ensure!(
            state.lans.keys().filter(|lan| lan.addr().is_ipv4()).count() == MAX_LANS as usize,
            "not full"
        );
        let has = |lan: &str| -> Result<bool> { Ok(state.lans.contains_key(&lan.parse()?)) };
        ensure!(has(FIRST)? && !has(LAST)?, "another one than the last was left out");
        let moved = |address: &str| -> Result<[u64; 3]> {
            let before = maps.counters()?;
            wait_for("an answer", LONG, || ping(star.phone(), address))?;
            let after = maps.counters()?;
            let verdicts = [Verdict::Redirected, Verdict::UnknownDestination, Verdict::UnknownSource];
            Ok(verdicts.map(|verdict| after.verdict(verdict) - before.verdict(verdict)))
        };
        let [fast, ..] = moved(first)?;
        ensure!(fast >= 2, "{first} is in the map, and {fast} packets went fast");
        let [_, requests, answers] = moved(last)?;
        ensure!(
            requests >= 1 && answers >= 1,
            "{last} is not in the map: {requests} and {answers} by the stack"
        );
        Ok(())
    })
}
