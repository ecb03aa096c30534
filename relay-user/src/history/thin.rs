//! Old buckets become coarser, and the oldest go.
//!
//! | age | bucket |
//! |---|---|
//! | up to 7 days | 5 minutes |
//! | up to 90 days | an hour |
//! | up to 400 days | a day (of UTC) |
//!
//! A peer that is always busy so costs some 4,500 rows, 300 KB. What a peer has received and sent in all is kept apart
//! and for ever.

use std::collections::BTreeMap;

use super::amount::Amount;

/// Seconds of a bucket as it is written.
pub const BUCKET: i64 = 300;

pub(super) const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 86_400;

/// How old a bucket gets before it goes into its hour.
pub const FINE: i64 = 7 * DAY;
/// How old an hour gets before it goes into its day.
pub const HOURLY: i64 = 90 * DAY;
/// How old a day gets before it goes.
pub const KEPT: i64 = 400 * DAY;

/// A stretch of time, by Unix seconds, of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The peer's number in the database.
    pub peer: i64,
    /// Its begin, a multiple of its length.
    pub start: i64,
    /// Its length.
    pub seconds: i64,
}

impl Slot {
    /// The bucket in which something at that moment is written.
    #[must_use]
    pub fn at(peer: i64, moment: i64) -> Self {
        Self { peer, start: floor(moment, BUCKET), seconds: BUCKET }
    }

    /// Where its content belongs at `now`; `None` for nowhere any more. A slot becomes coarser only once all of the coarser
    /// one is that old, and never finer.
    #[must_use]
    pub fn place(self, now: i64) -> Option<Self> {
        let as_old = |length: i64, age: i64| floor(self.start, length) + length <= now - age;
        if as_old(DAY, KEPT) {
            return None;
        }
        let seconds = if as_old(DAY, HOURLY) {
            DAY
        } else if as_old(HOUR, FINE) {
            HOUR
        } else {
            BUCKET
        };
        if seconds <= self.seconds {
            return Some(self);
        }
        Some(Self { start: floor(self.start, seconds), seconds, ..self })
    }
}

fn floor(moment: i64, length: i64) -> i64 {
    moment - moment.rem_euclid(length)
}

/// What changes at `now`: the slots that go, and what is added to coarser ones in their place.
#[must_use]
pub fn thin(buckets: &[(Slot, Amount)], now: i64) -> (Vec<Slot>, BTreeMap<Slot, Amount>) {
    let mut gone = Vec::new();
    let mut added: BTreeMap<Slot, Amount> = BTreeMap::new();
    for (slot, amount) in buckets {
        match slot.place(now) {
            Some(place) if place == *slot => continue,
            Some(place) => *added.entry(place).or_default() += *amount,
            None => {}
        }
        gone.push(*slot);
    }
    (gone, added)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::Bytes;

    const NOW: i64 = 1_795_626_000;

    fn thinned(buckets: &BTreeMap<Slot, Amount>, now: i64) -> BTreeMap<Slot, Amount> {
        let list: Vec<_> = buckets.iter().map(|(slot, amount)| (*slot, *amount)).collect();
        let (gone, added) = thin(&list, now);
        let mut after = buckets.clone();
        after.retain(|slot, _| !gone.contains(slot));
        for (slot, amount) in added {
            *after.entry(slot).or_default() += amount;
        }
        after
    }

    #[test]
    fn how_old_buckets_become_coarser() {
        for (age, expected) in [
            (0, Some(BUCKET)),
            (FINE - 1, Some(BUCKET)),
            (FINE + HOUR + BUCKET, Some(HOUR)),
            (HOURLY - 1, Some(HOUR)),
            (HOURLY + DAY + BUCKET, Some(DAY)),
            (KEPT - 1, Some(DAY)),
            (KEPT + DAY + BUCKET, None),
            // The clock is ahead of itself.
            (-DAY, Some(BUCKET)),
        ] {
            let place = Slot::at(1, NOW - age).place(NOW);
            assert_eq!(place.map(|slot| slot.seconds), expected, "{age} s old");
        }
        let day = Slot { peer: 1, start: floor(NOW, DAY), seconds: DAY };
        assert_eq!(day.place(NOW), Some(day), "never finer");
    }

    proptest! {
        #[test]
        fn nothing_gets_lost_or_moves_far(
            ages in proptest::collection::vec((0i64..KEPT, 1i64..3, 0u64..1 << 40), 0..60),
            steps in proptest::collection::vec(0i64..40 * DAY, 1..4),
        ) {
            let mut buckets: BTreeMap<Slot, Amount> = BTreeMap::new();
            for (age, peer, bytes) in ages {
                let amount = Amount { received: Bytes { bytes }, handshakes: 1, ..Amount::default() };
                *buckets.entry(Slot::at(peer, NOW - age)).or_default() += amount;
            }
            let mut now = NOW;
            for step in steps {
                now += step;
                let after = thinned(&buckets, now);
                for peer in 1..3 {
                    // What is too old goes, by whole days; all else stays, in the same day.
                    let mut days: BTreeMap<i64, [u64; 2]> = BTreeMap::new();
                    for (index, side) in [&buckets, &after].into_iter().enumerate() {
                        for (slot, amount) in side.iter().filter(|(slot, _)| slot.peer == peer) {
                            let sums = days.entry(floor(slot.start, DAY)).or_default();
                            sums[index] += amount.received.bytes + amount.handshakes;
                        }
                    }
                    for (day, [before, after]) in days {
                        let kept = day + DAY > now - KEPT;
                        prop_assert_eq!(after, if kept { before } else { 0 });
                    }
                }
                prop_assert_eq!(&thinned(&after, now), &after, "twice changes nothing");
                for slot in after.keys() {
                    prop_assert_eq!(slot.start % slot.seconds, 0);
                }
                buckets = after;
            }
        }
    }
}
