//! Limits. Where a limit is to be reached it gives nothing back for an hour; where it is to give something back, that is
//! waited for.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Result, ensure};
use relay_common::{
    UplinkVerdict,
    uplink::{Limit, PrefixRule},
};
use relay_tests::{
    netns::wait_for,
    uplink::{
        Guard, KEY,
        message::{made_up, made_up_response, public_key},
    },
};

use super::{guard, there};

const HOUR: u64 = 3_600_000_000_000;

/// So many, and then no more.
const fn only(events: u64) -> Limit {
    Limit { interval: HOUR, tolerance: HOUR * (events - 1) }
}

/// No limit at all.
const NONE: Limit = Limit { interval: 0, tolerance: 0 };

/// A bucket that is full again at once is waited for so long; measured: a tick.
const DEADLINE: Duration = Duration::from_secs(5);

/// Initiations whose mac1 is right, each another one.
struct Knocks(u64);

impl Knocks {
    fn knock(&mut self, guard: &mut Guard, from: IpAddr) -> Result<UplinkVerdict> {
        self.0 += 1;
        guard.knock(from, &made_up(&public_key(KEY), self.0))
    }

    /// Knocks so often, and says how often it was let through; all others must get this verdict.
    fn knocks(&mut self, guard: &mut Guard, from: IpAddr, times: u32, else_: UplinkVerdict) -> Result<u32> {
        let mut passed = 0;
        for _ in 0..times {
            match self.knock(guard, from)? {
                UplinkVerdict::Initiation => passed += 1,
                other => ensure!(other == else_, "{other:?}, expected {else_:?}"),
            }
        }
        Ok(passed)
    }
}

#[test]
fn a_source_has_a_limit_of_its_own() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source = only(5);
    guard.settings.global = NONE;
    guard.apply()?;
    let mut knocks = Knocks(0);
    for from in there() {
        let passed = knocks.knocks(&mut guard, from, 20, UplinkVerdict::SourceRate)?;
        ensure!(passed == 5, "{passed} from {from}");
    }
    let neighbours: [IpAddr; 2] = ["203.0.113.10".parse()?, "2001:db8:99:1::9".parse()?];
    for from in neighbours {
        ensure!(knocks.knock(&mut guard, from)? == UplinkVerdict::Initiation, "{from} is another source");
    }
    let same: IpAddr = "2001:db8:99::1:2:3".parse()?;
    ensure!(knocks.knock(&mut guard, same)? == UplinkVerdict::SourceRate, "a /64 is one source");
    Ok(())
}

#[test]
fn a_limit_gives_back() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source = Limit::new(100, 3);
    guard.apply()?;
    let [from, _] = there();
    let mut knocks = Knocks(0);
    wait_for("a source to be over its limit", DEADLINE, || {
        let verdicts: Result<Vec<_>> = (0..20).map(|_| knocks.knock(&mut guard, from)).collect();
        ensure!(verdicts?.contains(&UplinkVerdict::SourceRate));
        Ok(())
    })?;
    wait_for("it to be let in again", DEADLINE, || {
        ensure!(knocks.knock(&mut guard, from)? == UplinkVerdict::Initiation);
        Ok(())
    })
}

/// What came over a limit was not looked at: whether its mac1 is right makes no difference.
#[test]
fn over_a_limit_nothing_is_looked_at() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source = only(1);
    guard.apply()?;
    let [from, _] = there();
    ensure!(Knocks(0).knock(&mut guard, from)? == UplinkVerdict::Initiation);
    ensure!(guard.knock(from, &made_up(&public_key(KEY + 1), 7))? == UplinkVerdict::SourceRate);
    ensure!(guard.knock(from, &made_up_response(&public_key(KEY), 8))? == UplinkVerdict::Response);
    Ok(())
}

#[test]
fn a_source_of_wrong_macs_is_not_looked_at_any_more() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.junk = only(3);
    guard.apply()?;
    let other = public_key(KEY + 1);
    for from in there() {
        for number in 0..2 {
            ensure!(guard.knock(from, &made_up(&other, number))? == UplinkVerdict::BadMac1);
        }
        ensure!(guard.knock(from, &made_up_response(&other, 2))? == UplinkVerdict::BadMac1);
        ensure!(guard.knock(from, &made_up(&other, 3))? == UplinkVerdict::JunkSource);
        ensure!(guard.knock(from, &made_up_response(&other, 4))? == UplinkVerdict::JunkSource);
        ensure!(guard.knock(from, &made_up(&public_key(KEY), 5))? == UplinkVerdict::JunkSource);
        let data = [&[4, 0, 0, 0][..], &[0; 60]].concat();
        ensure!(guard.knock(from, &data)? == UplinkVerdict::Data, "data goes on");
    }
    Ok(())
}

/// A flood in the name of a source that has a session does not shut it out.
#[test]
fn a_live_source_has_a_reserve() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source = only(2);
    guard.settings.global = only(1);
    guard.settings.junk = only(1);
    guard.settings.reserve = only(4);
    guard.apply()?;
    let mut knocks = Knocks(0);
    // A flood of others has taken all that there is for those who are not known.
    for number in 0..100_u32 {
        let from = IpAddr::V4(Ipv4Addr::from(0xc612_0000 + number));
        knocks.knock(&mut guard, from)?;
    }
    for from in there() {
        guard.live(from)?;
        for number in 1000..1010 {
            ensure!(guard.knock(from, &made_up(&public_key(KEY + 1), number))? == UplinkVerdict::BadMac1);
        }
        let passed = knocks.knocks(&mut guard, from, 10, UplinkVerdict::ReserveRate)?;
        ensure!(passed == 4, "{passed} from {from}");
    }
    Ok(())
}

#[test]
fn allowed_prefixes_have_no_limit() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.source = only(1);
    guard.settings.global = only(1);
    guard.settings.junk = only(1);
    guard.apply()?;
    let mut knocks = Knocks(0);
    for (from, prefix) in there().into_iter().zip(["203.0.113.0/24", "2001:db8:99::/48"]) {
        guard.rule(prefix.parse()?, PrefixRule::ALLOW)?;
        let passed = knocks.knocks(&mut guard, from, 50, UplinkVerdict::Odd)?;
        ensure!(passed == 50, "{passed} from {from}");
        for number in 1000..1003 {
            let verdict = guard.knock(from, &made_up(&public_key(KEY + 1), number))?;
            ensure!(verdict == UplinkVerdict::BadMac1, "its mac1 is looked at all the same");
        }
    }
    Ok(())
}

/// A flood from ever other sources gets the limit of all; who comes back has another one.
#[test]
fn all_unknown_sources_have_one_limit_and_those_who_return_another() -> Result<()> {
    let mut guard = guard()?;
    guard.settings.global = only(10);
    guard.settings.returning = only(3);
    guard.apply()?;
    let mut knocks = Knocks(0);
    let sources: Vec<IpAddr> = (0..30_u16)
        .map(|number| match number % 2 {
            0 => IpAddr::V4(Ipv4Addr::new(198, 18, 0, number as u8)),
            _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x77, number, 0, 0, 0, 1)),
        })
        .collect();
    for (number, &from) in sources.iter().enumerate() {
        let verdict = knocks.knock(&mut guard, from)?;
        let expected = if number < 10 { UplinkVerdict::Initiation } else { UplinkVerdict::GlobalRate };
        ensure!(verdict == expected, "number {number}: {verdict:?}");
    }
    for (number, &from) in sources[10..].iter().enumerate() {
        let verdict = knocks.knock(&mut guard, from)?;
        let expected = if number < 3 { UplinkVerdict::Initiation } else { UplinkVerdict::GlobalRate };
        ensure!(verdict == expected, "return {number}: {verdict:?}");
    }
    Ok(())
}
