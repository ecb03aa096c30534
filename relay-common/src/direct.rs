//! The tables in front of the maps of single addresses: found by an address' last two bytes, without a hash.
//!
//! A place of a table is one word, so that whoever reads it while it is written has the old or the new, never half of
//! each. All zeros is nobody's place. An IPv6 address and its route do not fit into one word. But the addresses of a tunnel
//! are of one /64: the table has that in a word of its own, and in its places what else an address consists of.

use bytemuck::{Pod, Zeroable};

use crate::{MAX_PEERS, PeerSlot, Route};

/// One place of the table of IPv4 addresses: the address that has it, and its route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Direct4 {
    address: [u8; 4],
    route: [u8; 4],
}

const _: () = assert!(size_of::<Direct4>() == size_of::<u64>());

impl Direct4 {
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

/// The first half of an IPv6 address.
pub type Network6 = [u8; 8];

/// One place of the table of IPv6 addresses of one network: of the address that has it what neither the network nor the
/// place tells, and its route in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Direct6 {
    middle: [u8; 6],
    /// 0 for nobody's place, [`Direct6::STACK`], else the peer's slot plus one.
    route: [u8; 2],
}

const _: () = assert!(size_of::<Direct6>() == size_of::<u64>());

impl Direct6 {
    /// How many places the table has: one for each pair of last bytes.
    pub const PLACES: u32 = 1 << 16;

    /// Behind the places: the word that is the [`Network6`], all zeros until one was chosen, and then no address has a
    /// place. It never changes again, since a program that has read the old one may be about to read a place that belongs
    /// to the new.
    pub const NETWORK: u32 = Self::PLACES;

    /// How many words that is.
    pub const WORDS: u32 = Self::PLACES + 1;

    const STACK: u16 = u16::MAX;

    /// Where an address stands, if it stands in the table.
    #[must_use]
    pub const fn place(address: [u8; 16]) -> u32 {
        let [.., c, d] = address;
        u16::from_be_bytes([c, d]) as u32
    }

    /// The network that an address is in.
    #[must_use]
    pub const fn network(address: [u8; 16]) -> Network6 {
        let [a, b, c, d, e, f, g, h, ..] = address;
        [a, b, c, d, e, f, g, h]
    }

    /// The way of an address of the table's network. A slot that no peer can have has no room in a word.
    #[must_use]
    pub fn new(address: [u8; 16], route: Route) -> Option<Self> {
        let route = match route.slot() {
            None => Self::STACK,
            Some(slot) if slot < MAX_PEERS => slot as u16 + 1,
            Some(_) => return None,
        };
        let [.., a, b, c, d, e, f, _, _] = address;
        Some(Self { middle: [a, b, c, d, e, f], route: route.to_ne_bytes() })
    }

    /// From the word that it is in memory.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Self { middle: [a, b, c, d, e, f], route: [g, h] }
    }

    /// The address whose place this is, in that network.
    #[must_use]
    pub fn address(self, network: Network6, place: u32) -> Option<[u8; 16]> {
        self.route()?;
        let mut address = [0; 16];
        address[..8].copy_from_slice(&network);
        address[8..14].copy_from_slice(&self.middle);
        address[14..].copy_from_slice(&(place as u16).to_be_bytes());
        Some(address)
    }

    /// The route that stands here, unless it is nobody's place.
    #[must_use]
    #[inline(always)]
    pub const fn route(self) -> Option<Route> {
        match u16::from_ne_bytes(self.route) {
            0 => None,
            Self::STACK => Some(Route::STACK),
            after => Some(Route::peer(after as PeerSlot - 1)),
        }
    }

    /// Whether what stands here is of the address with those six bytes between its network and its place.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(self, middle: [u8; 6]) -> bool {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.middle, middle);
        u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) == u64::from_ne_bytes([g, h, i, j, k, l, 0, 0])
    }
}

const _: () = assert!(MAX_PEERS < Direct6::STACK as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_belongs_to_one_address() {
        let home = Direct4::new([10, 8, 1, 2], Route::peer(7)).expect("a place");
        assert!(home.is_of([10, 8, 1, 2]) && home.address() == Some([10, 8, 1, 2]));
        assert_eq!(home.route(), Route::peer(7));
        assert!(!home.is_of([10, 9, 1, 2]), "of the same place");
        assert_eq!(Direct4::place([10, 8, 1, 2]), Direct4::place([10, 9, 1, 2]));
        assert_eq!(Direct4::place([10, 8, 1, 2]), 0x0102);
        assert_eq!(Direct4::place([10, 8, 255, 255]) + 1, Direct4::PLACES);
    }

    #[test]
    fn a_place_and_its_network_are_an_address() {
        let bytes = |text: &str| text.parse::<core::net::Ipv6Addr>().expect(text).octets();
        let (home, network) = (bytes("fd52:1a9::7:0:cafe:2"), *b"\xfd\x52\x01\xa9\0\0\0\0");
        assert_eq!((Direct6::network(home), Direct6::place(home)), (network, 2));
        let last = Route::peer(MAX_PEERS - 1);
        for route in [Route::peer(0), Route::peer(7), last, Route::STACK] {
            let entry = Direct6::new(home, route).expect("a place");
            assert_eq!(entry.route(), Some(route));
            assert_eq!(entry.address(network, 2), Some(home));
            assert!(entry.is_of([0, 7, 0, 0, 0xca, 0xfe]) && !entry.is_of([0, 7, 0, 0, 0xca, 0xff]));
            assert_eq!(Direct6::from_word(bytemuck::cast(entry)), entry);
        }
        // Where all that differs is zero, too.
        let first = Direct6::new(bytes("fd52:1a9::"), Route::peer(0)).expect("a place");
        assert_ne!(bytemuck::cast::<_, u64>(first), 0, "looks like nobody's");
        assert_eq!(Direct6::new(home, Route::peer(MAX_PEERS)), None);
    }

    #[test]
    fn zeros_are_nobodys() {
        assert_eq!(Direct6::zeroed().route(), None);
        assert_eq!(Direct6::zeroed().address([0xfd; 8], 2), None);
        let nobodys = Direct4::zeroed();
        assert_eq!(nobodys.address(), None);
        assert!(!nobodys.is_of([0; 4]) && !nobodys.is_of([10, 8, 1, 2]));
        assert_eq!(Direct4::new([0; 4], Route::peer(0)), None);
    }
}
