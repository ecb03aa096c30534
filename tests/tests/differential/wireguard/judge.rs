//! Whether what came of a case is right, by kernel WireGuard.

use std::collections::BTreeMap;

use relay_common::{PeerCounters, Traffic, Verdict};

use super::{
    carried::{Spoke, carry, sender},
    world::{Setup, observe},
};
use crate::{
    hub::{FastPath, Firewall, MTU, Observation, Sent},
    moved, outs,
    rows::{Path, Row},
};

/// Rows that arrive at the hub as something else than they are: WireGuard cuts off what stands behind a packet's end, its
/// padding fills up what is missing, and it takes merged packets apart before it encrypts them.
pub(super) const OTHERWISE: [(&str, Path); 6] = [
    ("v4 total length too long", Path::Fast),
    ("v4 bytes behind its end", Path::Fast),
    ("v6 bytes behind its end", Path::Fast),
    ("v6 payload length 0", Path::Fast),
    ("v6 jumbogram", Path::Stack(Verdict::Options)),
    ("gso v4 with a wrong header checksum", Path::Fast),
];

pub(super) fn path(row: &Row) -> Path {
    OTHERWISE.iter().find(|(name, _)| *name == row.name).map_or(row.path, |(_, path)| *path)
}

/// What a case was seen to do without the program, with it switched on, and perhaps with it switched off.
pub(super) struct Seen {
    pub(super) alone: Observation,
    pub(super) on: Observation,
    pub(super) off: Option<Observation>,
}

/// How rows are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) firewall: Firewall,
    pub(super) merging: bool,
    pub(super) switched_off: bool,
}

/// As they are: one packet at a time, the firewall's clamp alone.
pub(super) const PLAIN: Manner = Manner { firewall: Firewall::Clamp, merging: false, switched_off: false };

pub(super) fn compare(manner: Manner, cases: &[Vec<Sent>]) -> Vec<Seen> {
    let Manner { firewall, merging, switched_off } = manner;
    let observe = |fast_path| observe(Setup { fast_path, firewall, merging }, cases);
    let mut off = switched_off.then(|| observe(FastPath::Off).into_iter());
    let both = observe(FastPath::Absent).into_iter().zip(observe(FastPath::On));
    both.map(|(alone, on)| Seen { alone, on, off: off.as_mut().and_then(Iterator::next) }).collect()
}

/// What must hold of every case, whichever way its packets take.
pub(super) fn check(case: &[Sent], seen: &Seen, merging: bool) -> Result<(), String> {
    let Seen { alone, on, off } = seen;
    let arrived = arrivals(case).len() as u64;
    let others = off.iter().map(|off| ("off", off)).chain([("on", on)]);
    let redirected = on.verdicts[Verdict::Redirected as usize];
    for (what, other) in others {
        let (mut other, mut alone) = (outs(other), outs(alone));
        if what == "on" && redirected > 0 && redirected < arrived {
            // What is redirected may overtake what is not: see `wire`.
            other.sort_by(|one, two| one.bytes.cmp(&two.bytes));
            alone.sort_by(|one, two| one.bytes.cmp(&two.bytes));
        }
        if other != alone {
            return Err(format!("switched {what}\n    {other:?}\nwithout it\n    {alone:?}"));
        }
    }
    if arrived == 0 && !alone.out.is_empty() {
        return Err(format!("WireGuard carried none of it, and out came {:?}", alone.out));
    }
    if on.verdicts.iter().sum::<u64>() != arrived {
        return Err(format!("{arrived} packets arrived, verdicts {:?}", moved(on)));
    }
    if let Some(off) = off {
        let expected: &[_] = if arrived > 0 { &[(Verdict::Off, arrived)] } else { &[] };
        if moved(off) != expected {
            return Err(format!("switched off, verdicts {:?}, not {expected:?}", moved(off)));
        }
    }
    // The kernel counts a merged packet once, the program each of its segments.
    let forwarded = [Some(on.forwarded + redirected), off.as_ref().map(|off| off.forwarded)];
    if !merging && forwarded.iter().flatten().any(|count| *count != alone.forwarded) {
        return Err(format!(
            "forwarded or redirected {forwarded:?}, by the kernel alone {}",
            alone.forwarded
        ));
    }
    check_peers(case, on, merging)
}

/// What one peer sends the other gets, and nobody else.
fn check_peers(case: &[Sent], on: &Observation, merging: bool) -> Result<(), String> {
    let redirected = on.verdicts[Verdict::Redirected as usize];
    let mut fast = arrivals(case);
    if redirected == 0 {
        fast.clear();
    } else if redirected < fast.len() as u64 {
        // Segments that are too long go by the stack; the last of them may be shorter.
        fast.retain(|(_, length)| *length <= u64::from(MTU));
    }
    if redirected != fast.len() as u64 {
        return Err(format!("some of it was redirected and some not: {:?}", moved(on)));
    }
    let traffic = |from| {
        let bytes = fast.iter().filter(|(spoke, _)| *spoke == from).map(|(_, bytes)| *bytes);
        bytes.fold(Traffic::default(), |sum, bytes| Traffic {
            packets: sum.packets + 1,
            // The headers of merged segments count once.
            bytes: if merging { 0 } else { sum.bytes + bytes },
        })
    };
    let (up, down) = (traffic(Spoke::Phone), traffic(Spoke::Home));
    let expected = [PeerCounters { received: up, sent: down }, PeerCounters { received: down, sent: up }];
    let mut counted = on.peers;
    if merging {
        for peer in &mut counted {
            (peer.received.bytes, peer.sent.bytes) = (0, 0);
        }
    }
    if counted == expected { Ok(()) } else { Err(format!("peers' counters {counted:?}, not {expected:?}")) }
}

/// What arrives at the hub of a case's packets: from whom, and its length.
pub(super) fn arrivals(case: &[Sent]) -> Vec<(Spoke, u64)> {
    let arrive = |sent| carry(sent).into_iter().flatten().map(move |length| (sender(sent), length));
    case.iter().flat_map(arrive).collect()
}

/// Says what is wrong with a row; each row is judged, so that one failure does not hide another.
pub(super) fn judge(row: &Row, seen: &Seen, merging: bool) -> Result<(), String> {
    check(&row.packets, seen, merging)?;
    let expected = expected(row);
    if !moved(&seen.on).into_iter().eq(expected.clone()) {
        return Err(format!("verdicts {:?}, not {expected:?}", moved(&seen.on)));
    }
    let redirected = expected.get(&Verdict::Redirected).copied().unwrap_or_default();
    if (seen.on.out.len() as u64) < redirected {
        return Err(format!("{} came out, {redirected} were redirected", seen.on.out.len()));
    }
    Ok(())
}

/// How many of each verdict a row makes.
pub(super) fn expected(row: &Row) -> BTreeMap<Verdict, u64> {
    let mut expected = BTreeMap::new();
    for (_, length) in arrivals(&row.packets) {
        let verdict = match path(row) {
            Path::Stack(Verdict::TooBig) if length <= u64::from(MTU) => Verdict::Redirected,
            Path::Stack(verdict) => verdict,
            Path::Fast => Verdict::Redirected,
        };
        *expected.entry(verdict).or_default() += 1;
    }
    expected
}
