//! What the guard in front of the UDP port drops, read from its maps: they are there whether or not a daemon runs.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use relay_common::{UplinkVerdict, uplink::SourceKey};

use super::super::{
    facts::{Heard, Knocks},
    guard,
    initiation::Sealed,
};
use crate::{
    kernel::datapath::{Pins, uplink::UplinkMaps},
    name::InterfaceName,
    uplink::{address_of, source_in_words},
};

/// How long to look at what the guard drops.
const KNOCKS: Duration = Duration::from_secs(1);
/// A source that has been quiet for so long has nothing to do with what happens now.
const QUIET: Duration = Duration::from_secs(60);
/// Sources with another hub's key that are told of.
const STRANGERS: usize = 32;

/// What is dropped while we look.
pub(super) async fn look(interface: &InterfaceName) -> Option<Knocks> {
    let maps = UplinkMaps::open(&Pins::of_uplink(interface.clone())).ok()?;
    let before = maps.counters().ok()?;
    let begun = Instant::now();
    tokio::time::sleep(KNOCKS).await;
    let (now, seconds) = (maps.counters().ok()?, begun.elapsed().as_secs_f64());
    let mut reasons: Vec<(String, u64)> = UplinkVerdict::ALL
        .iter()
        .filter(|verdict| verdict.drops())
        .map(|&verdict| {
            (verdict.name().to_owned(), now.verdict(verdict).saturating_sub(before.verdict(verdict)))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    let all = maps.sources().ok()?;
    // Their own clock, which began with the kernel: the latest of them is as good as now.
    let latest = all.values().map(|source| source.last).max().unwrap_or(0);
    let recent = all.iter().filter(|(_, source)| u128::from(latest - source.last) < QUIET.as_nanos());
    let mut sources: Vec<(String, u64)> =
        recent.map(|(&key, source)| (source_in_words(key), source.dropped)).collect();
    sources.sort_by_key(|(_, count)| Reverse(*count));
    let per_second = now.dropped().saturating_sub(before.dropped()) as f64 / seconds;
    Some(Knocks { per_second, dropped: now.dropped(), reasons, sources })
}

/// The sources of handshakes whose mac1 was wrong, each with a number that changes when another one comes; the guard keeps
/// such handshakes from every other ear.
pub(super) fn wrong_keys(interface: &InterfaceName) -> BTreeMap<SourceKey, u64> {
    let maps = UplinkMaps::open(&Pins::of_uplink(interface.clone()));
    let sources = maps.and_then(|maps| maps.sources()).unwrap_or_default();
    sources.into_iter().map(|(key, source)| (key, source.junk)).filter(|(_, junk)| *junk > 0).collect()
}

/// Those of them that came since `before`. In a flood they are nobody's trouble, and another finding tells of it.
pub(super) fn held_back(
    knocks: Option<&Knocks>,
    interface: &InterfaceName,
    before: &BTreeMap<SourceKey, u64>,
    at: SystemTime,
) -> Vec<Heard> {
    if knocks.is_none_or(guard::is_attack) {
        return Vec::new();
    }
    let now = wrong_keys(interface);
    let came = now.into_iter().filter(|(key, junk)| before.get(key) != Some(junk));
    came.take(STRANGERS)
        .map(|(key, _)| Heard {
            from: SocketAddr::new(address_of(key), 0),
            at,
            opened: Err(Sealed::OtherHub),
        })
        .collect()
}
