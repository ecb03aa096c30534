//! Buckets of any length as evenly spaced rates, for pictures.

use super::{amount::Amount, report::Bucket};

/// Bytes a second in each of `columns` equal stretches between two moments (Unix seconds). A bucket spreads evenly over
/// its time, of which nothing lies after `until`.
#[must_use]
pub fn rates(
    buckets: &[Bucket],
    since: i64,
    until: i64,
    columns: usize,
    bytes: impl Fn(&Amount) -> u64,
) -> Vec<f64> {
    let mut rates = vec![0.0; columns];
    let width = (until - since) as f64 / columns as f64;
    if width <= 0.0 {
        return rates;
    }
    for bucket in buckets {
        let (start, end) = (bucket.start as f64, (bucket.start + bucket.seconds).min(until) as f64);
        if end <= start {
            continue;
        }
        let rate = bytes(&bucket.amount) as f64 / (end - start);
        let offset = |moment: f64| (moment - since as f64) / width;
        let first = offset(start).max(0.0) as usize;
        let last = (offset(end).ceil().max(0.0) as usize).min(columns);
        for (column, sum) in rates.iter_mut().enumerate().take(last).skip(first) {
            let left = since as f64 + column as f64 * width;
            let shared = (end.min(left + width) - start.max(left)).max(0.0);
            *sum += rate * shared / width;
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Bytes;

    fn bucket(start: i64, seconds: i64, bytes: u64) -> Bucket {
        Bucket { start, seconds, amount: Amount { received: Bytes { bytes }, ..Amount::default() } }
    }

    fn received(buckets: &[Bucket], since: i64, until: i64, columns: usize) -> Vec<f64> {
        rates(buckets, since, until, columns, |amount| amount.received.bytes)
    }

    #[test]
    fn buckets_spread_over_their_time() {
        assert_eq!(received(&[bucket(0, 300, 3000)], 0, 600, 2), [10.0, 0.0]);
        assert_eq!(received(&[bucket(0, 600, 6000)], 0, 600, 2), [10.0, 10.0]);
        assert_eq!(received(&[bucket(0, 300, 3000), bucket(300, 300, 600)], 0, 600, 1), [6.0]);
        // Half of it lies before the picture.
        assert_eq!(received(&[bucket(0, 300, 3000)], 150, 450, 2), [10.0, 0.0]);
        // It is not over yet: what is in it came in the time that has passed.
        assert_eq!(received(&[bucket(300, 300, 1500)], 0, 450, 3), [0.0, 0.0, 10.0]);
        assert_eq!(received(&[bucket(900, 300, 1500)], 0, 450, 3), [0.0; 3], "after the end");
        assert_eq!(received(&[bucket(0, 300, 1)], 5, 5, 3), [0.0; 3], "no time at all");
        assert_eq!(received(&[], 0, 300, 0), [0.0; 0]);
    }
}
