//! What was added while nobody looked, evenly over that time: a night without a daemon is no peak in the morning.

use super::{
    amount::{Amount, Row},
    thin::{BUCKET, DAY, HOUR, HOURLY, Slot},
};

/// The slots between two moments, and what of `amount` falls into each: five minutes long for up to a day, an hour for up
/// to 90 days, and a day beyond.
#[must_use]
pub fn spread(peer: i64, amount: Amount, from: i64, to: i64) -> Vec<(Slot, Amount)> {
    let gap = to.saturating_sub(from);
    if gap <= BUCKET {
        return vec![(Slot::at(peer, to), amount)];
    }
    let seconds = if gap <= DAY {
        BUCKET
    } else if gap <= HOURLY {
        HOUR
    } else {
        DAY
    };
    let whole = amount.to_row();
    // What is added up to a moment, rounded down: the last slot gets what is left of each rounding.
    let until = |end: i64| -> Row {
        let share = |value: i64| i128::from(value) * i128::from(end - from) / i128::from(gap);
        whole.map(|value| i64::try_from(share(value)).unwrap_or(value))
    };
    let mut slots = Vec::new();
    let mut before = Row::default();
    let mut start = from - from.rem_euclid(seconds);
    while start < to {
        let now = until((start + seconds).min(to));
        let part = Amount::from_row(std::array::from_fn(|n| now[n] - before[n]));
        if part != Amount::default() {
            slots.push((Slot { peer, start, seconds }, part));
        }
        before = now;
        start += seconds;
    }
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::Bytes;

    fn amount(bytes: u64) -> Amount {
        Amount { received: Bytes { bytes }, handshakes: 1, ..Amount::default() }
    }

    fn told(from: i64, to: i64, bytes: u64) -> Vec<(i64, i64, u64)> {
        let slots = spread(1, amount(bytes), from, to).into_iter();
        slots.map(|(slot, part)| (slot.start, slot.seconds, part.received.bytes)).collect()
    }

    #[test]
    fn evenly() {
        assert_eq!(told(590, 600, 7), [(600, 300, 7)], "between two samples");
        assert_eq!(told(700, 600, 7), [(600, 300, 7)], "the clock went back");
        assert_eq!(told(150, 900, 750), [(0, 300, 150), (300, 300, 300), (600, 300, 300)]);
        assert_eq!(told(0, 3 * DAY, 72).len(), 72, "by the hour");
        assert_eq!(told(0, 3 * DAY, 72)[71], (3 * DAY - HOUR, HOUR, 1));
        assert_eq!(told(0, 200 * DAY, 200)[199], (199 * DAY, DAY, 1));
        assert_eq!(told(0, 600, 1), [(300, 300, 1)], "a byte is not split");
    }

    proptest! {
        #[test]
        fn the_sum_stays(bytes in 0u64..=i64::MAX as u64, from in 0i64..1 << 40, gap in 0i64..500 * DAY) {
            let whole = amount(bytes);
            let slots = spread(1, whole, from, from + gap);
            prop_assert_eq!(slots.iter().map(|(_, part)| *part).sum::<Amount>(), whole);
            prop_assert!(slots.len() <= 2_200);
            for (slot, _) in slots {
                prop_assert_eq!(slot.start % slot.seconds, 0);
                prop_assert!(slot.start <= from + gap && slot.start + slot.seconds > from);
            }
        }
    }
}
