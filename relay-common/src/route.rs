//! What the route maps hold for an address or a prefix.

use bytemuck::{Pod, Zeroable};

/// Index of a peer in [`crate::map::PEER_COUNTERS`], below [`crate::MAX_PEERS`].
pub type PeerSlot = u32;

/// The way of one destination (or the owner of one source): a peer, or "ask the stack".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Route {
    /// The peer's slot, or [`Route::STACK`]'s own value.
    slot: PeerSlot,
}

const _: () = assert!(size_of::<Route>() == 4);

impl Route {
    /// The hub's own addresses, broadcasts, and prefixes for which the kernel knows a better way than the tunnel.
    pub const STACK: Self = Self { slot: u32::MAX };

    /// The way to the peer of that slot.
    #[must_use]
    pub const fn peer(slot: PeerSlot) -> Self {
        Self { slot }
    }

    /// As it stands in memory.
    #[inline(always)]
    pub(crate) const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self { slot: u32::from_ne_bytes(bytes) }
    }

    /// The peer's slot; `None` says that the stack decides.
    #[must_use]
    #[inline(always)]
    pub const fn slot(self) -> Option<PeerSlot> {
        if self.slot == Self::STACK.slot { None } else { Some(self.slot) }
    }
}
