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
    MSS_KEPT = "mutant-mss-kept";
    MSS_RAISED = "mutant-mss-raised";
    MTU_IGNORED = "mutant-mtu-ignored";
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
