//! What was added between two readings, also where the counters began anew in between.

use super::amount::{Amount, Reading};
use crate::report::{Bytes, Packets, PeerFastPath};

/// What the counters said before, if they went on since then.
///
/// `known` is the device of the last sample, `device` the one that is read; `stored` is the peer's last reading there.
#[must_use]
pub fn before(known: Option<&str>, device: &str, stored: Option<Reading>, now: Reading) -> Reading {
    match known {
        // The first sample of all: nobody knows when what it says was counted.
        None => now,
        // A device that was made anew counts from zero.
        Some(known) if known != device => Reading::default(),
        // A peer that was not there began from zero too.
        Some(_) => stored.unwrap_or_default(),
    }
}

/// What was added since `before`. Counters that went down began from zero; WireGuard's and the fast path's do so
/// independently.
#[must_use]
pub fn delta(before: Reading, now: Reading) -> Amount {
    let anew = now.received < before.received || now.sent < before.sent;
    let since = |before: u64, now: u64| if anew { now } else { now - before };
    Amount {
        received: Bytes { bytes: since(before.received, now.received) },
        sent: Bytes { bytes: since(before.sent, now.sent) },
        fast_path: carried(before.fast_path, now.fast_path),
        handshakes: u64::from(now.handshake > before.handshake),
    }
}

fn carried(before: PeerFastPath, now: PeerFastPath) -> PeerFastPath {
    let numbers =
        |path: PeerFastPath| [path.received.packets, path.received.bytes, path.sent.packets, path.sent.bytes];
    let (before, now) = (numbers(before), numbers(now));
    let anew = before.iter().zip(now).any(|(&before, now)| now < before);
    let [received_packets, received_bytes, sent_packets, sent_bytes] =
        std::array::from_fn(|n| if anew { now[n] } else { now[n] - before[n] });
    PeerFastPath {
        received: Packets { packets: received_packets, bytes: received_bytes },
        sent: Packets { packets: sent_packets, bytes: sent_bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(received: u64, sent: u64, packets: u64, handshake: u64) -> Reading {
        let packets = Packets { packets, bytes: packets * 100 };
        Reading { received, sent, fast_path: PeerFastPath { received: packets, sent: packets }, handshake }
    }

    fn told(amount: Amount) -> [u64; 4] {
        let fast = amount.fast_path.received;
        assert_eq!((fast, fast.bytes), (amount.fast_path.sent, fast.packets * 100));
        [amount.received.bytes, amount.sent.bytes, fast.packets, amount.handshakes]
    }

    #[test]
    fn what_was_added() {
        for (what, before, now, expected) in [
            ("nothing", reading(5, 6, 7, 8), reading(5, 6, 7, 8), [0, 0, 0, 0]),
            ("something", reading(5, 6, 7, 8), reading(15, 26, 37, 9), [10, 20, 30, 1]),
            ("the peer was made anew", reading(5, 6, 7, 8), reading(3, 9, 8, 0), [3, 9, 1, 0]),
            ("only the maps were", reading(5, 6, 7, 8), reading(6, 8, 2, 8), [1, 2, 2, 0]),
            ("from zero", reading(0, 0, 0, 0), reading(1, 2, 3, 4), [1, 2, 3, 1]),
            ("the clock went back", reading(1, 1, 1, 900), reading(2, 2, 2, 800), [1, 1, 1, 0]),
        ] {
            assert_eq!(told(delta(before, now)), expected, "{what}");
        }
        let most = reading(u64::MAX, u64::MAX, 0, u64::MAX);
        assert_eq!(told(delta(Reading::default(), most)), [u64::MAX, u64::MAX, 0, 1]);
    }

    #[test]
    fn what_was_before() {
        let (stored, now) = (reading(1, 1, 1, 1), reading(9, 9, 9, 9));
        assert_eq!(before(None, "a", None, now), now, "a first look counts nothing");
        assert_eq!(before(None, "a", Some(stored), now), now);
        assert_eq!(before(Some("a"), "a", Some(stored), now), stored);
        assert_eq!(before(Some("a"), "a", None, now), Reading::default(), "a new peer");
        assert_eq!(before(Some("a"), "b", Some(stored), now), Reading::default(), "a new device");
    }
}
