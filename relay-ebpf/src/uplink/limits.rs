//! Who may send how much. The states of limits are written without a lock: where CPUs take from one at the same moment,
//! only one of them is counted. So a flood that keeps several CPUs busy gets at most as many times the limit through, which
//! is the same share of the machine.

use relay_common::{
    UplinkVerdict,
    uplink::{Limit, UplinkSettings, UplinkSource, bucket},
};

use super::maps;

/// What a source is held to.
pub(crate) enum Limits {
    /// Nothing: it is in `allow`, or the kernel has no memory for it.
    None,
    /// Its own reserve, since it has a live session. What is sent in its name does not shut it out: a wrong mac1 costs
    /// it nothing.
    Reserve(*mut u64),
    /// Those of an unknown source.
    Source(*mut UplinkSource),
}

impl Limits {
    #[inline(always)]
    pub(crate) fn of(source: u64, allowed: bool) -> Self {
        if allowed {
            return Self::None;
        }
        if let Some(reserve) = maps::live(source) {
            return Self::Reserve(reserve);
        }
        maps::source(source).map_or(Self::None, Self::Source)
    }

    /// Why another initiation is not looked at.
    #[inline(always)]
    pub(crate) fn refuse_initiation(&self, settings: &UplinkSettings) -> Option<UplinkVerdict> {
        let now = maps::now();
        match *self {
            Self::None => None,
            Self::Reserve(state) => {
                // SAFETY: an entry of the map, whose memory is not given back while the program runs.
                let state = unsafe { *state };
                settings.reserve.take(state, now).is_none().then_some(UplinkVerdict::ReserveRate)
            }
            Self::Source(entry) => {
                // SAFETY: as above.
                let state = unsafe { (*entry).initiations };
                match settings.source.take(state, now) {
                    None => Some(UplinkVerdict::SourceRate),
                    Some(_) => self.refuse_junk(settings),
                }
            }
        }
    }

    /// Why another handshake message is not looked at, of a source that has sent too many wrong ones.
    #[inline(always)]
    pub(crate) fn refuse_junk(&self, settings: &UplinkSettings) -> Option<UplinkVerdict> {
        let Self::Source(entry) = *self else { return None };
        // SAFETY: an entry of the map, whose memory is not given back while the program runs.
        let state = unsafe { (*entry).junk };
        settings.junk.take(state, maps::now()).is_none().then_some(UplinkVerdict::JunkSource)
    }

    /// Counts a handshake message whose mac1 is wrong.
    #[inline(always)]
    pub(crate) fn count_junk(&mut self, settings: &UplinkSettings) -> UplinkVerdict {
        if let Self::Source(entry) = *self {
            // SAFETY: an entry of the map, whose memory is not given back while the program runs.
            let state = unsafe { &mut (*entry).junk };
            if let Some(next) = settings.junk.take(*state, maps::now()) {
                *state = next;
            }
        }
        UplinkVerdict::BadMac1
    }

    /// Counts an initiation that is right, and says whether it is one too many.
    #[inline(always)]
    pub(crate) fn count_initiation(&mut self, source: u64, settings: &UplinkSettings) -> UplinkVerdict {
        let now = maps::now();
        match *self {
            Self::None => UplinkVerdict::Initiation,
            Self::Reserve(state) => {
                // SAFETY: an entry of the map, whose memory is not given back while the program runs.
                let state = unsafe { &mut *state };
                let Some(next) = settings.reserve.take(*state, now) else {
                    return UplinkVerdict::ReserveRate;
                };
                *state = next;
                UplinkVerdict::Initiation
            }
            Self::Source(entry) => {
                // SAFETY: as above.
                let state = unsafe { &mut (*entry).initiations };
                let Some(next) = settings.source.take(*state, now) else {
                    return UplinkVerdict::SourceRate;
                };
                *state = next;
                among_all(source, settings, now)
            }
        }
    }
}

/// An initiation of an unknown source among those of all others. A spoofed flood has every source once; whoever is turned
/// away and asks again, as WireGuard does after five seconds, has a limit apart from it.
#[inline(always)]
fn among_all(source: u64, settings: &UplinkSettings, now: u64) -> UplinkVerdict {
    if take(bucket::GLOBAL, settings.global, now) {
        return UplinkVerdict::Initiation;
    }
    if maps::was_turned_away(source, now) && take(bucket::RETURNING, settings.returning, now) {
        return UplinkVerdict::Initiation;
    }
    maps::turn_away(source, now);
    UplinkVerdict::GlobalRate
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
