//! The table in front of the map of single IPv4 addresses: found by an address' lower half, without a hash.

use bytemuck::{Pod, Zeroable};

use crate::Route;

/// One place of the table: the address that has it, and its route. One word, so that whoever reads it while it is
/// written has the old or the new, never half of each. All zeros is nobody's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Direct {
    address: [u8; 4],
    route: [u8; 4],
}

const _: () = assert!(size_of::<Direct>() == size_of::<u64>());

impl Direct {
    /// How many places the table has: one for each lower half.
    pub const PLACES: u32 = 1 << 16;

    /// Where an address stands, if it stands in the table: addresses of one /16 never meet.
    #[must_use]
    #[inline(always)]
    pub const fn place(address: [u8; 4]) -> u32 {
        let [_, _, c, d] = address;
        u16::from_be_bytes([c, d]) as u32
    }

    /// The way of an address. 0.0.0.0 has no place, since it would look like nobody's.
    #[must_use]
    pub fn new(address: [u8; 4], route: Route) -> Option<Self> {
        (address != [0; 4]).then_some(Self { address, route: bytemuck::cast(route) })
    }

    /// From the word that it is in memory.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Self { address: [a, b, c, d], route: [e, f, g, h] }
    }

    /// Whose place this is.
    #[must_use]
    pub fn address(self) -> Option<[u8; 4]> {
        (self.address != [0; 4]).then_some(self.address)
    }

    /// The route that stands here.
    #[must_use]
    #[inline(always)]
    pub const fn route(self) -> Route {
        Route::from_bytes(self.route)
    }

    /// Whether this is the place of just that address.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(self, address: [u8; 4]) -> bool {
        let address = u32::from_ne_bytes(address);
        u32::from_ne_bytes(self.address) == address && address != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_belongs_to_one_address() {
        let home = Direct::new([10, 8, 1, 2], Route::peer(7)).expect("a place");
        assert!(home.is_of([10, 8, 1, 2]) && home.address() == Some([10, 8, 1, 2]));
        assert_eq!(home.route(), Route::peer(7));
        assert!(!home.is_of([10, 9, 1, 2]), "of the same place");
        assert_eq!(Direct::place([10, 8, 1, 2]), Direct::place([10, 9, 1, 2]));
        assert_eq!(Direct::place([10, 8, 1, 2]), 0x0102);
        assert_eq!(Direct::place([10, 8, 255, 255]) + 1, Direct::PLACES);
    }

    #[test]
    fn zeros_are_nobodys() {
        let nobodys = Direct::zeroed();
        assert_eq!(nobodys.address(), None);
        assert!(!nobodys.is_of([0; 4]) && !nobodys.is_of([10, 8, 1, 2]));
        assert_eq!(Direct::new([0; 4], Route::peer(0)), None);
    }
}
