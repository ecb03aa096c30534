//! Reasons to drop that are not limits.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use relay_common::{
    UplinkVerdict,
    uplink::{PrefixRule, SAMPLE},
};
use relay_tests::{
    packet::{Ip as _, Ipv4, Ipv6, Transport},
    uplink::{
        Guard, HERE, KEY, PORT, THERE, framed,
        message::{handshake, made_up, public_key},
    },
};

use super::{guard, there};

#[test]
fn a_udp_length_other_than_ips_is_dropped() -> Result<()> {
    let mut guard = guard()?;
    let (initiation, _) = handshake(20, KEY)?;
    let udp = Transport::Udp(40_000, PORT, initiation);
    let packets = [
        (0x0800, Ipv4::new(THERE[0].parse()?, HERE[0].parse()?).carry(&udp), 20),
        (0x86dd, Ipv6::new(THERE[1].parse()?, HERE[1].parse()?).carry(&udp), 40),
    ];
    for (ether_type, packet, header) in packets {
        for length in [0, 7, 8, 155, 157, 65_535_u16] {
            let mut wrong = packet.clone();
            wrong[header + 4..header + 6].copy_from_slice(&length.to_be_bytes());
            let verdict = guard.judge(&framed(ether_type, &wrong))?;
            ensure!(verdict == UplinkVerdict::LengthMismatch, "{length} bytes: {verdict:?}");
        }
    }
    // Both say the same, and less than a UDP header.
    let mut ip = Ipv4::new(THERE[0].parse()?, HERE[0].parse()?);
    ip.total_length = Some(20 + 7);
    let mut short = ip.carry(&udp);
    short[24..26].copy_from_slice(&7_u16.to_be_bytes());
    ensure!(guard.judge(&framed(0x0800, &short))? == UplinkVerdict::LengthMismatch);
    Ok(())
}

#[test]
fn an_initiation_comes_once() -> Result<()> {
    let mut guard = guard()?;
    let (initiation, _) = handshake(20, KEY)?;
    let [first, second] = there();
    ensure!(guard.knock(first, &initiation)? == UplinkVerdict::Initiation);
    ensure!(guard.knock(first, &initiation)? == UplinkVerdict::Replay);
    ensure!(guard.knock(second, &initiation)? == UplinkVerdict::Replay, "from wherever");
    guard.live(second)?;
    ensure!(guard.knock(second, &initiation)? == UplinkVerdict::Replay, "with a session or without");
    ensure!(
        guard.knock(first, &handshake(20, KEY)?.0)? == UplinkVerdict::Initiation,
        "the next one is another"
    );
    Ok(())
}

/// What was dropped for its mac1 is not taken for a replay of itself.
#[test]
fn only_what_passed_is_remembered() -> Result<()> {
    let mut guard = guard()?;
    let [from, _] = there();
    let (initiation, _) = handshake(20, KEY)?;
    let mut damaged = initiation.clone();
    damaged[120] ^= 1;
    ensure!(guard.knock(from, &damaged)? == UplinkVerdict::BadMac1);
    ensure!(guard.knock(from, &damaged)? == UplinkVerdict::BadMac1);
    ensure!(guard.knock(from, &initiation)? == UplinkVerdict::Initiation);
    Ok(())
}

#[test]
fn denied_prefixes_get_nothing_through() -> Result<()> {
    let mut guard = guard()?;
    for from in there() {
        let (wide, narrow) = match from {
            std::net::IpAddr::V4(_) => ("203.0.0.0/8", "203.0.113.0/24"),
            std::net::IpAddr::V6(_) => ("2001:db8::/32", "2001:db8:99::/64"),
        };
        let data = [&[4, 0, 0, 0][..], &[0; 60]].concat();
        ensure!(guard.knock(from, &data)? == UplinkVerdict::Data);
        guard.rule(wide.parse()?, PrefixRule::DENY)?;
        ensure!(guard.knock(from, &data)? == UplinkVerdict::Denied);
        ensure!(guard.knock(from, &handshake(20, KEY)?.0)? == UplinkVerdict::Denied);
        guard.rule(narrow.parse()?, PrefixRule::ALLOW)?;
        ensure!(guard.knock(from, &data)? == UplinkVerdict::Data, "the longest prefix says it");
        ensure!(guard.knock(from, &handshake(20, KEY)?.0)? == UplinkVerdict::Initiation);
    }
    let other = "198.18.0.1".parse()?;
    ensure!(guard.knock(other, &[4; 32])? == UplinkVerdict::UnknownType, "no rule is for it");
    Ok(())
}

/// Where a source's limits or a mac1 were looked at each packet is written down, and of the rest one for so many. They are
/// counted on each CPU, so this stays on one.
#[test]
fn what_is_dropped_is_remembered_of_its_source() -> Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)?;
    let mut guard = guard()?;
    let dropped = |guard: &mut Guard, from| -> Result<u64> {
        let source = guard.source(from)?;
        ensure!(source.is_none_or(|source| source.last > 0), "{source:?}");
        Ok(source.map_or(0, |source| source.dropped))
    };
    for (from, number) in there().into_iter().zip(0..) {
        for _ in 1..2 * SAMPLE {
            ensure!(guard.knock(from, &[4; 32])? == UplinkVerdict::UnknownType);
        }
        ensure!(dropped(&mut guard, from)? == SAMPLE);
        ensure!(guard.knock(from, &[4; 32])? == UplinkVerdict::UnknownType);
        ensure!(dropped(&mut guard, from)? == 2 * SAMPLE);
        ensure!(guard.knock(from, &made_up(&public_key(KEY + 1), number))? == UplinkVerdict::BadMac1);
        ensure!(dropped(&mut guard, from)? == 2 * SAMPLE + 1);
        ensure!(guard.knock(from, &made_up(&public_key(KEY), number))? == UplinkVerdict::Initiation);
        ensure!(dropped(&mut guard, from)? == 2 * SAMPLE + 1, "what passes is no fault");
    }
    Ok(())
}

/// The tests above and beside this one name every verdict; this one says so.
#[test]
fn every_verdict_is_named_by_a_test() {
    let sources = [
        include_str!("lengths.rs"),
        include_str!("limits.rs"),
        include_str!("mac1.rs"),
        include_str!("others.rs"),
        include_str!("reasons.rs"),
    ]
    .concat();
    let missing: BTreeSet<String> = UplinkVerdict::ALL
        .iter()
        .map(|verdict| format!("UplinkVerdict::{verdict:?}"))
        .filter(|name| !sources.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
