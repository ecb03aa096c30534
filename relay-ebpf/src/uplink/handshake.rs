//! Initiations and responses: limits, replays and mac1.
//!
//! What takes long stands in functions that the verifier looks at once and for themselves, whoever calls them: those whose
//! symbols are global and whose arguments are numbers (Documentation/bpf/verifier.rst). Inside of one another, every way
//! through the one would be tried with every way through the other, and, without CAP_PERFMON, also the ways that a processor
//! takes which guesses wrong. So what they share is in the scratch and in the maps.

use relay_common::UplinkVerdict;

use super::{frame::Frame, limits, mac1, maps, parse::Datagram};
use crate::mutant;

/// The types (whitepaper 5.4.2, 5.4.3), with the three reserved bytes behind them.
pub(crate) const INITIATION: u64 = 1;
/// See [`INITIATION`].
pub(crate) const RESPONSE: u64 = 2;

/// What the functions return for "go on", which is the value of no verdict.
const GO_ON: u64 = u64::MAX;

/// The verdict for a handshake message whose length is right.
#[inline(always)]
pub(crate) fn weigh(frame: &Frame, datagram: &Datagram, allowed: bool) -> UplinkVerdict {
    let Datagram { source, kind, .. } = *datagram;
    let refused = if allowed { GO_ON } else { uplink_refuse(source, kind) };
    if let Some(verdict) = UplinkVerdict::of(refused) {
        return verdict;
    }
    let Some(scratch) = maps::scratch() else { return UplinkVerdict::Odd };
    let whole = if kind == INITIATION {
        scratch.load_initiation(frame, datagram.payload)
    } else {
        scratch.load_response(frame, datagram.payload)
    };
    if !whole {
        return UplinkVerdict::Odd;
    }
    if kind == INITIATION && !mutant::UPLINK_REPLAY_ACCEPTED && maps::came_before(scratch.ephemeral()) {
        return UplinkVerdict::Replay;
    }
    if mutant::UPLINK_REPLAY_OF_WHAT_WAS_DROPPED {
        uplink_remember();
    }
    let holds = mac1::uplink_mac1(kind) != 0;
    if !holds {
        if !allowed {
            uplink_count_junk(source);
        }
        return UplinkVerdict::BadMac1;
    }
    if kind != INITIATION {
        return UplinkVerdict::Response;
    }
    let refused = if allowed { GO_ON } else { uplink_count(source) };
    if let Some(verdict) = UplinkVerdict::of(refused) {
        return verdict;
    }
    uplink_remember();
    UplinkVerdict::Initiation
}

/// The value of the verdict that says why another handshake message of this source is not looked at, or [`GO_ON`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uplink_refuse(source: u64, kind: u64) -> u64 {
    value(limits::refuse(source, kind == INITIATION))
}

/// Counts a message of this source whose mac1 is wrong.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uplink_count_junk(source: u64) -> u64 {
    limits::count_junk(source);
    GO_ON
}

/// Counts an initiation of this source that is right: the value of the verdict that says that it is one too many, or
/// [`GO_ON`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uplink_count(source: u64) -> u64 {
    value(limits::count(source))
}

/// Remembers the initiation in the scratch, which passes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uplink_remember() -> u64 {
    if let Some(scratch) = maps::scratch() {
        maps::remember(scratch.ephemeral());
    }
    GO_ON
}

#[inline(always)]
fn value(verdict: Option<UplinkVerdict>) -> u64 {
    verdict.map_or(GO_ON, |verdict| verdict as u64)
}
