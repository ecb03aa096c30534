//! What crosses the line for `uplink`: verdicts, settings, and what is remembered of sources.

use bytemuck::{Pod, Zeroable};

use crate::mac1::MacKey;

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal, $drop:literal;)+) => {
        /// What `uplink` decided for a packet. The value is the index in [`crate::map::UPLINK_VERDICTS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum UplinkVerdict { $($(#[doc = $doc])+ $variant = $value,)+ }

        impl UplinkVerdict {
            /// Every verdict, by index.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in `stats` and metrics: stable, snake_case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The one with that value.
            #[must_use]
            #[inline(always)]
            pub const fn of(value: u64) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }

            /// Whether the packet goes no further; else the kernel gets it, unchanged.
            #[must_use]
            #[inline(always)]
            pub const fn drops(self) -> bool {
                match self { $(Self::$variant => $drop,)+ }
            }
        }
    };
}

verdicts! {
    /// Not UDP to the listen port on an address of this machine, or the guard has no port to watch.
    NotOurs = 0, "not_ours", false;
    /// A fragment, of whatever.
    Fragment = 1, "fragment", false;
    /// To the listen port and yet nothing to judge: IPv4 options, or shorter than it says itself.
    Odd = 2, "odd", false;
    /// A data message.
    Data = 3, "data", false;
    /// An initiation within the limits, its mac1 right.
    Initiation = 4, "initiation", false;
    /// A response, its mac1 right.
    Response = 5, "response", false;
    /// A cookie reply.
    Cookie = 6, "cookie", false;
    /// From a prefix of `deny`.
    Denied = 7, "denied", true;
    /// No message of WireGuard: another type, or reserved bytes that are not zero.
    UnknownType = 8, "unknown_type", true;
    /// Not as long as messages of its type are.
    WrongLength = 9, "wrong_length", true;
    /// The UDP header says another length than the IP header.
    LengthMismatch = 10, "length_mismatch", true;
    /// An initiation or response whose mac1 is not for our key.
    BadMac1 = 11, "bad_mac1", true;
    /// Another handshake message of a source that keeps sending wrong ones; its mac1 was not looked at.
    JunkSource = 12, "junk_source", true;
    /// An initiation that came before, to the byte.
    Replay = 13, "replay", true;
    /// More initiations than one source may send.
    SourceRate = 14, "source_rate", true;
    /// More initiations than a source may send that has a live session.
    ReserveRate = 15, "reserve_rate", true;
    /// More initiations than all unknown sources together may send, and the first of its source.
    GlobalRate = 16, "global_rate", true;
}

/// A source as limits see it: an IPv4 address, or the /64 of an IPv6 one. Eight bytes in network order.
///
/// An IPv4 address stands as the prefix `0:ffff:a.b.c.d::/64`, which belongs to nobody (0000::/8, RFC 4291 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct SourceKey(pub [u8; 8]);

const _: () = assert!(size_of::<SourceKey>() == 8);

impl SourceKey {
    /// What marks IPv4.
    pub const V4: [u8; 4] = [0, 0, 0xff, 0xff];

    /// Of an IPv4 address.
    #[must_use]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        let [w, x, y, z] = Self::V4;
        Self([w, x, y, z, a, b, c, d])
    }

    /// Of an IPv6 address.
    #[must_use]
    pub const fn v6(address: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = address;
        Self([a, b, c, d, e, f, g, h])
    }
}

/// What a prefix of [`crate::map::UPLINK_PREFIXES`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct PrefixRule(u32);

const _: () = assert!(size_of::<PrefixRule>() == 4);

impl PrefixRule {
    /// No prefix is for it.
    pub const NONE: Self = Self(0);
    /// Everything from there to the listen port is dropped.
    pub const DENY: Self = Self(1);
    /// Initiations from there are not counted against any limit.
    pub const ALLOW: Self = Self(2);
}

/// A limit of events: one each `interval`, and some at once. The state is one number, the time at which the bucket is
/// empty again (the generic cell rate algorithm, ITU-T I.371 annex A), so that it is read and written whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Limit {
    /// Nanoseconds between events in the long run.
    pub interval: u64,
    /// Nanoseconds that the state may be ahead of the clock.
    pub tolerance: u64,
}

const _: () = assert!(size_of::<Limit>() == 16);

impl Limit {
    /// So many events a second, and so many at once.
    #[must_use]
    pub const fn new(per_second: u64, burst: u64) -> Self {
        let interval = 1_000_000_000 / per_second;
        Self { interval, tolerance: interval * (burst - 1) }
    }

    /// The state after one more event at `now`; `None` where that is one too many.
    #[must_use]
    #[inline(always)]
    pub const fn take(self, state: u64, now: u64) -> Option<u64> {
        let from = if state > now { state } else { now };
        if from - now > self.tolerance { None } else { Some(from + self.interval) }
    }
}

/// What the guard goes by; one entry in [`crate::map::UPLINK_SETTINGS`].
///
/// It is written word by word while the program reads it. So a key that is in use stays in its place: another one goes to
/// the other place, and only then is the old one taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UplinkSettings {
    /// The listen port, as a number; 0 passes everything.
    pub port: u32,
    /// Whether [`crate::map::UPLINK_PREFIXES`] holds anything.
    pub has_prefixes: u32,
    /// The addresses of [`crate::map::UPLINK_LOCAL`] that most comes to, IPv4 and IPv6, each two words in network order;
    /// zeroes where there is none. What is one of them need not be looked up.
    pub usual: [[u64; 2]; 2],
    /// Whether each of `keys` is one.
    pub has_key: [u32; 2],
    /// What mac1 is checked against: any of them will do.
    pub keys: [MacKey; 2],
    /// Initiations of one source.
    pub source: Limit,
    /// Initiations of a source with a live session.
    pub reserve: Limit,
    /// Wrong handshake messages of one source before its next ones are not looked at.
    pub junk: Limit,
    /// Initiations of all unknown sources.
    pub global: Limit,
    /// The same for those which `global` turned away once and which ask again.
    pub returning: Limit,
}

const _: () = assert!(size_of::<UplinkSettings>() == 192);

impl UplinkSettings {
    /// The listen port watched, no key known, and the limits that relay has.
    ///
    /// An initiation that passes costs the kernel an X25519, some 24 µs. So what all unknown sources may send takes 5 % of
    /// one CPU at most, and lets ten thousand peers in within ten seconds after a restart. One source is what a
    /// household or an office behind one address may need, all of them starting at once.
    #[must_use]
    pub const fn watching(port: u16) -> Self {
        Self {
            port: port as u32,
            has_prefixes: 0,
            usual: [[0; 2]; 2],
            has_key: [0; 2],
            keys: [MacKey::NONE; 2],
            source: Limit::new(20, 40),
            reserve: Limit::new(20, 40),
            junk: Limit::new(50, 50),
            global: Limit::new(1000, 1000),
            returning: Limit::new(1000, 1000),
        }
    }
}

/// The places of [`crate::map::UPLINK_BUCKETS`].
pub mod bucket {
    /// Of [`super::UplinkSettings::global`].
    pub const GLOBAL: u32 = 0;
    /// Of [`super::UplinkSettings::returning`].
    pub const RETURNING: u32 = 1;
    /// How many there are.
    pub const COUNT: usize = 2;
}

/// What is remembered of a source. Times are those of the kernel's monotonic clock in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct UplinkSource {
    /// State of [`UplinkSettings::source`].
    pub initiations: u64,
    /// State of [`UplinkSettings::junk`].
    pub junk: u64,
    /// Packets dropped; see [`SAMPLE`].
    pub dropped: u64,
    /// When one was dropped last.
    pub last: u64,
}

const _: () = assert!(size_of::<UplinkSource>() == 32);

/// Of what is dropped before a limit of its source or its mac1 was looked at, one packet of so many is written down under its
/// source, for all of them: a flood is told by them as well, and costs a lookup less.
pub const SAMPLE: u64 = 16;

/// How many sources without a session are remembered; the least recently seen goes first.
pub const MAX_SOURCES: u32 = 32_768;

/// How many initiations are remembered that passed.
pub const MAX_INITIATIONS: u32 = 16_384;

/// How many addresses of this machine are watched.
pub const MAX_LOCAL: u32 = 4096;

/// How many prefixes `allow` and `deny` may have together.
pub const MAX_PREFIXES: u32 = 4096;

/// How many sources have a reserve.
pub const MAX_LIVE: u32 = crate::MAX_PEERS;

/// Those that were turned away, each a few bits in a cell (a Bloom filter in blocks): memory does not grow with a flood,
/// and what was turned away comes back to a bit that says so. Two halves, one of which is written, the other still read.
pub mod turned_away {
    /// Cells in one half.
    pub const CELLS: u32 = 1 << 18;
    /// Cells in all.
    pub const COUNT: usize = 2 * CELLS as usize;
    /// The clock shifted right by so much numbers the halves: 8.6 s each. A source is remembered for one at least and two
    /// at most; WireGuard asks again after 5 s (whitepaper 6.1, REKEY_TIMEOUT).
    pub const CLOCK_SHIFT: u32 = 33;
    /// A cell's upper bits say which half it was written for; the lower ones are the filter.
    pub const BITS: u32 = 48;

    /// Where a source is in a half, and its bits there.
    #[must_use]
    #[inline(always)]
    pub fn place(source: u64) -> (u32, u64) {
        // Stafford's mix 13, as in SplitMix64.
        let mixed = (source ^ (source >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        let bit = |at: u32| 1_u64 << (((mixed >> at) as u32 & 0xff) * BITS / 256);
        (mixed as u32 % CELLS, bit(24) | bit(32) | bit(40))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_index_and_names_differ() {
        let names: std::collections::BTreeSet<_> = UplinkVerdict::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), UplinkVerdict::ALL.len());
        for (index, verdict) in UplinkVerdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index, "{verdict:?}");
            assert_eq!(UplinkVerdict::of(index as u64), Some(*verdict));
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limit = Limit::new(10, 4);
        let second = 1_000_000_000;
        let mut state = 0;
        let mut take = |now| match limit.take(state, now) {
            Some(next) => {
                state = next;
                true
            }
            None => false,
        };
        let start = 77 * second;
        let at_once = (0..100).filter(|_| take(start)).count();
        assert_eq!(at_once, 4);
        let in_ten_seconds = (0..10_000).filter(|millisecond| take(start + millisecond * 1_000_000)).count();
        assert_eq!(in_ten_seconds, 99);
        let after_a_rest = (0..100).filter(|_| take(start + 100 * second)).count();
        assert_eq!(after_a_rest, 4);
    }

    #[test]
    fn few_are_mistaken_for_one_that_was_turned_away() {
        let mut cells = vec![0_u64; turned_away::CELLS as usize];
        let source = |n: u32| u64::from_ne_bytes(SourceKey::v4(n.to_be_bytes()).0);
        // What 100,000 spoofed packets a second leave in a half.
        for n in 0..860_000 {
            let (cell, bits) = turned_away::place(source(n));
            cells[cell as usize] |= bits;
        }
        let known = |n: &u32| {
            let (cell, bits) = turned_away::place(source(*n));
            assert_eq!(bits >> turned_away::BITS, 0);
            cells[cell as usize] & bits == bits
        };
        assert!((0..860_000).step_by(1000).all(|n| known(&n)));
        let mistaken = (1 << 31..(1 << 31) + 100_000).filter(known).count();
        assert!(mistaken < 3_000, "{mistaken} of 100,000");
    }
}
