//! Who may send how much. The states of limits are written without a lock: where CPUs take from one at the same moment,
//! only one of them is counted. So a flood that keeps several CPUs busy gets at most as many times the limit through, which
//! is the same share of the machine.

use relay_common::{
    UplinkVerdict,
    uplink::{Limit, SAMPLE, UplinkSettings, bucket},
};

use super::maps;
use crate::mutant;

/// Why another handshake message of this source is not looked at; the source is blamed for it here, where its entry is at
/// hand. What is sent in the name of a source that has a live
/// session does not shut it out: wrong ones cost it nothing, and its initiations have a reserve of their own.
#[inline(always)]
pub(crate) fn refuse(source: u64, initiation: bool) -> Option<UplinkVerdict> {
    let (settings, now) = (maps::settings()?, maps::now());
    if let Some(reserve) = maps::live(source) {
        // SAFETY: an entry of the map, whose memory is not given back while the program runs.
        let state = unsafe { *reserve };
        if initiation && settings.reserve.take(state, now).is_none() {
            maps::blame(source, 1);
            return Some(UplinkVerdict::ReserveRate);
        }
        return None;
    }
    if let Some(entry) = maps::known(source) {
        // SAFETY: as above; one count more or less does not matter where two CPUs write.
        let entry = unsafe { &mut *entry };
        let verdict = if initiation && settings.source.take(entry.initiations, now).is_none() {
            Some(UplinkVerdict::SourceRate)
        } else if settings.junk.take(entry.junk, now).is_none() {
            Some(UplinkVerdict::JunkSource)
        } else {
            None
        };
        if verdict.is_some() {
            entry.dropped = entry.dropped.wrapping_add(1);
            entry.last = now;
            return verdict;
        }
    }
    // Where all that there is for unknown sources is taken, a mac1 that is right would not help.
    if initiation && !has_room(source, settings, now) {
        maps::turn_away(source, now);
        return Some(UplinkVerdict::GlobalRate);
    }
    None
}

/// Remembers a source for what was dropped of it, unless that was done where its limits were looked at. `so_far` is how
/// many packets had this verdict.
#[inline(always)]
pub(crate) fn blame(verdict: UplinkVerdict, source: u64, so_far: u64) {
    if mutant::UPLINK_DROPPED_FORGOTTEN {
        return;
    }
    match verdict {
        UplinkVerdict::SourceRate | UplinkVerdict::JunkSource | UplinkVerdict::ReserveRate => {}
        // Each of them: they tell of peers that have another hub's key.
        UplinkVerdict::BadMac1 => maps::blame(source, 1),
        _ if so_far.is_multiple_of(SAMPLE) => maps::blame(source, SAMPLE),
        _ => {}
    }
}

/// Whether [`among_all`] would let an initiation of an unknown source pass.
#[inline(always)]
fn has_room(source: u64, settings: &UplinkSettings, now: u64) -> bool {
    has(bucket::GLOBAL, settings.global, now)
        || (maps::was_turned_away(source, now) && has(bucket::RETURNING, settings.returning, now))
}

/// Counts a handshake message whose mac1 is wrong.
#[inline(always)]
pub(crate) fn count_junk(source: u64) {
    if maps::live(source).is_some() || mutant::UPLINK_JUNK_UNLIMITED {
        return;
    }
    if let (Some(settings), Some(entry)) = (maps::settings(), maps::source(source)) {
        // SAFETY: an entry of the map, whose memory is not given back while the program runs.
        let state = unsafe { &mut (*entry).junk };
        if let Some(next) = settings.junk.take(*state, maps::now()) {
            *state = next;
        }
    }
}

/// Counts an initiation that is right, and says whether it is one too many.
#[inline(always)]
pub(crate) fn count(source: u64) -> Option<UplinkVerdict> {
    let (settings, now) = (maps::settings()?, maps::now());
    if let Some(reserve) = maps::live(source) {
        // SAFETY: an entry of the map, whose memory is not given back while the program runs.
        let Some(next) = settings.reserve.take(unsafe { *reserve }, now) else {
            return Some(UplinkVerdict::ReserveRate);
        };
        // SAFETY: as above.
        unsafe { *reserve = next };
        return None;
    }
    let entry = maps::source(source)?;
    // SAFETY: as above.
    let Some(next) = settings.source.take(unsafe { (*entry).initiations }, now) else {
        return Some(UplinkVerdict::SourceRate);
    };
    if !mutant::UPLINK_LIMIT_NEVER_REACHED {
        // SAFETY: as above.
        unsafe { (*entry).initiations = next };
    }
    among_all(source, settings, now)
}

/// An initiation of an unknown source among those of all others. A spoofed flood has every source once; whoever is turned
/// away and asks again, as WireGuard does after five seconds, has a limit apart from it.
#[inline(always)]
fn among_all(source: u64, settings: &UplinkSettings, now: u64) -> Option<UplinkVerdict> {
    if take(bucket::GLOBAL, settings.global, now) {
        return None;
    }
    if maps::was_turned_away(source, now) && take(bucket::RETURNING, settings.returning, now) {
        return None;
    }
    maps::turn_away(source, now);
    Some(UplinkVerdict::GlobalRate)
}

/// Whether there is something in a bucket that all CPUs share.
#[inline(always)]
fn has(bucket: u32, limit: Limit, now: u64) -> bool {
    let Some(state) = maps::bucket(bucket) else { return true };
    // SAFETY: an array's entry stays where it is and is read whole.
    limit.take(unsafe { *state }, now).is_some()
}

/// Takes from a bucket that all CPUs share; whether there was something in it.
#[inline(always)]
fn take(bucket: u32, limit: Limit, now: u64) -> bool {
    let Some(state) = maps::bucket(bucket) else { return true };
    // SAFETY: an array's entry stays where it is and is read whole.
    let Some(next) = limit.take(unsafe { *state }, now) else { return false };
    // SAFETY: as above, written whole.
    unsafe { *state = next };
    true
}
