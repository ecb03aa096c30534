//! Seeded faults, each a cargo feature that only `cargo xtask test mutants` sets: the program tests must catch every
//! one by the row that is named for it in tests/tests/program/mutants.rs. Without features all of this is `false`.

use relay_common::{PeerSlot, Route};

macro_rules! mutants {
    ($($name:ident = $feature:tt;)+) => {
        $(pub(crate) const $name: bool = cfg!(feature = $feature);)+
    };
}

mutants! {
    ALWAYS_PUNT = "mutant-always-punt";
    ALWAYS_TRACED = "mutant-always-traced";
    BROADCAST_FORWARDED = "mutant-broadcast-forwarded";
    CHECKSUM_CARRY_LOST = "mutant-checksum-carry-lost";
    CHECKSUM_UNCHECKED = "mutant-checksum-unchecked";
    CROWDED_FORGOTTEN = "mutant-crowded-forgotten";
    EVERYBODY_TRACED = "mutant-everybody-traced";
    EVERY_VERDICT_TRACED = "mutant-every-verdict-traced";
    FRAGMENTS_FORWARDED = "mutant-fragments-forwarded";
    GSO_COUNTED_AS_ONE = "mutant-gso-counted-as-one";
    GSO_MTU_IGNORED = "mutant-gso-mtu-ignored";
    HOP_BY_HOP_FORWARDED = "mutant-hop-by-hop-forwarded";
    HOP_LIMIT_KEPT = "mutant-hop-limit-kept";
    LENGTH_UNCHECKED = "mutant-length-unchecked";
    LPM_BEFORE_EXACT = "mutant-lpm-before-exact";
    MARTIAN_DESTINATION_FORWARDED = "mutant-martian-destination-forwarded";
    MARTIAN_SOURCE_FORWARDED = "mutant-martian-source-forwarded";
    MIDDLE_IGNORED = "mutant-middle-ignored";
    MSS_KEPT = "mutant-mss-kept";
    MSS_RAISED = "mutant-mss-raised";
    MTU_IGNORED = "mutant-mtu-ignored";
    NETWORK_IGNORED = "mutant-network-ignored";
    OPTIONS_FORWARDED = "mutant-options-forwarded";
    PASS_ENDS_CHAIN = "mutant-pass-ends-chain";
    PLACE_IS_ENOUGH = "mutant-place-is-enough";
    ROUTING_HEADER_FORWARDED = "mutant-routing-header-forwarded";
    SAME_PEER_FORWARDED = "mutant-same-peer-forwarded";
    SWITCH_IGNORED = "mutant-switch-ignored";
    TCP_CHECKSUM_KEPT = "mutant-tcp-checksum-kept";
    TRACED_FOREVER = "mutant-traced-forever";
    TTL_KEPT = "mutant-ttl-kept";
    TTL_ONE_FORWARDED = "mutant-ttl-one-forwarded";
    UNKNOWN_SOURCE_FORWARDED = "mutant-unknown-source-forwarded";
    UPLINK_ADDRESS_OF_OTHERS_JUDGED = "mutant-uplink-address-of-others-judged";
    UPLINK_ALLOW_LIMITED = "mutant-uplink-allow-limited";
    UPLINK_DENY_IGNORED = "mutant-uplink-deny-ignored";
    UPLINK_DROPPED_FORGOTTEN = "mutant-uplink-dropped-forgotten";
    UPLINK_FRAGMENTS_JUDGED = "mutant-uplink-fragments-judged";
    UPLINK_JUNK_UNLIMITED = "mutant-uplink-junk-unlimited";
    UPLINK_KEY_OF_OLD_FORGOTTEN = "mutant-uplink-key-of-old-forgotten";
    UPLINK_LIMIT_NEVER_REACHED = "mutant-uplink-limit-never-reached";
    UPLINK_MAC1_HALF_CHECKED = "mutant-uplink-mac1-half-checked";
    UPLINK_MAC1_UNCHECKED = "mutant-uplink-mac1-unchecked";
    UPLINK_ONE_BYTE_OF_TYPE_READ = "mutant-uplink-one-byte-of-type-read";
    UPLINK_OPTIONS_JUDGED = "mutant-uplink-options-judged";
    UPLINK_PORT_OF_OTHERS_JUDGED = "mutant-uplink-port-of-others-judged";
    UPLINK_REPLAY_ACCEPTED = "mutant-uplink-replay-accepted";
    UPLINK_REPLAY_OF_WHAT_WAS_DROPPED = "mutant-uplink-replay-of-what-was-dropped";
    UPLINK_RESERVE_MISSING = "mutant-uplink-reserve-missing";
    UPLINK_RESPONSE_LENGTH_WRONG = "mutant-uplink-response-length-wrong";
    UPLINK_RETURNING_TURNED_AWAY = "mutant-uplink-returning-turned-away";
    UPLINK_SMALLEST_DATA_WRONG = "mutant-uplink-smallest-data-wrong";
    UPLINK_UDP_LENGTH_IGNORED = "mutant-uplink-udp-length-ignored";
    UPLINK_WHOLE_ADDRESS_IS_SOURCE = "mutant-uplink-whole-address-is-source";
    WRONG_PEER_COUNTED = "mutant-wrong-peer-counted";
}

/// The action that hands a packet to the stack.
#[inline(always)]
pub(crate) fn pass(action: i32) -> i32 {
    const TC_ACT_OK: i32 = 0;
    if PASS_ENDS_CHAIN { TC_ACT_OK } else { action }
}

/// The slot that a destination's route leads to.
#[inline(always)]
pub(crate) fn stack_slot(route: Route) -> Option<PeerSlot> {
    if BROADCAST_FORWARDED { route.slot().or(Some(0)) } else { route.slot() }
}

/// The slot that a source belongs to, on its way to that of another peer.
#[inline(always)]
pub(crate) fn source_slot(slot: Option<PeerSlot>, to: PeerSlot) -> Option<PeerSlot> {
    if UNKNOWN_SOURCE_FORWARDED { slot.or(Some(to ^ 1)) } else { slot }
}

/// The checksum for a word that changed, as `update` has it.
#[inline(always)]
pub(crate) fn checksum(check: u16, old: u16, new: u16, update: fn(u16, u16, u16) -> u16) -> u16 {
    if CHECKSUM_CARRY_LOST {
        return !(!check).wrapping_add(!old).wrapping_add(new);
    }
    update(check, old, new)
}

/// The first four bytes of a message to the listen port.
#[inline(always)]
pub(crate) fn kind(kind: u64) -> u64 {
    if UPLINK_ONE_BYTE_OF_TYPE_READ && kind <= u32::MAX.into() { kind & 0xff } else { kind }
}
