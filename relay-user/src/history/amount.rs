//! What is counted: as counters read, and as what was added.

use std::{ops::AddAssign, time::UNIX_EPOCH};

use relay_common::PeerCounters;
use serde::{Deserialize, Serialize};

use crate::{
    observed::DevicePeer,
    report::{Bytes, Packets, PeerFastPath},
};

/// What a peer's counters say at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// By WireGuard's count, bytes.
    pub received: u64,
    /// By WireGuard's count, bytes.
    pub sent: u64,
    /// What took the fast path.
    pub fast_path: PeerFastPath,
    /// Unix seconds of the latest handshake; 0 for never.
    pub handshake: u64,
}

impl Reading {
    /// From what WireGuard and the fast path have counted.
    #[must_use]
    pub fn new(live: &DevicePeer, carried: PeerCounters) -> Self {
        let since = live.latest_handshake.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            received: live.received,
            sent: live.sent,
            fast_path: PeerFastPath { received: carried.received.into(), sent: carried.sent.into() },
            handshake: since.map_or(0, |since| since.as_secs()),
        }
    }
}

/// What was added in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// By WireGuard's own count, outer messages included.
    pub received: Bytes,
    /// By WireGuard's own count.
    pub sent: Bytes,
    /// What took the fast path.
    pub fast_path: PeerFastPath,
    /// Handshakes seen: WireGuard makes one every two minutes while there is something to send.
    pub handshakes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = Self::from_row(std::array::from_fn(|n| self.to_row()[n].saturating_add(other.to_row()[n])));
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |mut sum, amount| {
            sum += amount;
            sum
        })
    }
}

/// The columns that a reading and an amount have in common, in the order of [`Reading::to_row`] and
/// [`Amount::to_row`].
pub(super) const COLUMNS: [&str; 7] = [
    "received",
    "sent",
    "fast_received_packets",
    "fast_received_bytes",
    "fast_sent_packets",
    "fast_sent_bytes",
    "handshakes",
];

/// Their values. SQLite's numbers have a sign, and 2^63 bytes are not to be had.
pub(super) type Row = [i64; COLUMNS.len()];

macro_rules! row {
    ($type:ident: $received:ident $(. $of_received:ident)?, $sent:ident $(. $of_sent:ident)?, $last:ident) => {
        impl $type {
            /// As columns.
            pub(super) fn to_row(self) -> Row {
                let PeerFastPath { received, sent } = self.fast_path;
                [
                    self.$received $(. $of_received)?,
                    self.$sent $(. $of_sent)?,
                    received.packets,
                    received.bytes,
                    sent.packets,
                    sent.bytes,
                    self.$last,
                ]
                .map(|value| i64::try_from(value).unwrap_or(i64::MAX))
            }

            /// From columns.
            pub(super) fn from_row(row: Row) -> Self {
                let [received, sent, received_packets, received_bytes, sent_packets, sent_bytes, last] =
                    row.map(|value| u64::try_from(value).unwrap_or(0));
                let mut read = Self::default();
                read.$received $(. $of_received)? = received;
                read.$sent $(. $of_sent)? = sent;
                read.fast_path.received = Packets { packets: received_packets, bytes: received_bytes };
                read.fast_path.sent = Packets { packets: sent_packets, bytes: sent_bytes };
                read.$last = last;
                read
            }
        }
    };
}

row!(Reading: received, sent, handshake);
row!(Amount: received.bytes, sent.bytes, handshakes);
