//! Internet checksum arithmetic (RFC 1071) and its incremental update (RFC 1624).
//!
//! Words are taken as they stand in memory; since one's complement addition does not care about byte order
//! (RFC 1071 2 B), the same code serves packets in network order on any host.

/// The checksum field after one 16-bit word of what it covers changed from `old` to `new` (RFC 1624 equation 3:
/// `HC' = ~(~HC + ~m + m')`). All three in the same byte order.
#[must_use]
#[inline(always)]
pub const fn update(check: u16, old: u16, new: u16) -> u16 {
    let sum = (!check) as u32 + (!old) as u32 + new as u32;
    !fold(sum)
}

/// Folds a sum of at most 65,537 words of 16 bits into one, carries added back in.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Whether a 20-byte IPv4 header sums up to the value that RFC 791 asks for, its checksum field included.
#[must_use]
#[inline(always)]
pub const fn ipv4_header_holds(words: [u16; 10]) -> bool {
    let mut sum = 0u32;
    let mut i = 0;
    while i < words.len() {
        sum += words[i] as u32;
        i += 1;
    }
    fold(sum) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 1071, not optimised: the full sum that the incremental one must equal.
    fn full(header: &[u16; 10]) -> u16 {
        let mut sum: u64 = header.iter().map(|&word| u64::from(word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).expect("folded")
    }

    fn header(ttl: u8, protocol: u8, id: u16) -> [u16; 10] {
        let ttl_protocol = u16::from_ne_bytes([ttl, protocol]);
        let mut words = [0x0045, 0x5400, id, 0x0040, ttl_protocol, 0, 0x090a, 0x0300, 0xa8c0, 0x0a28];
        words[5] = full(&words);
        words
    }

    #[test]
    fn decrement_equals_full_sum_for_every_ttl() {
        for ttl in 1..=u8::MAX {
            for protocol in [0, 1, 6, 17, 58, 255] {
                for id in [0, 1, 0x00ff, 0x7fff, 0xff00, 0xfffe, 0xffff] {
                    let before = header(ttl, protocol, id);
                    let after = header(ttl - 1, protocol, id);
                    assert!(ipv4_header_holds(before));
                    let updated = update(before[5], before[4], after[4]);
                    let mut packet = after;
                    packet[5] = updated;
                    assert!(ipv4_header_holds(packet), "ttl {ttl} protocol {protocol} id {id:#x}");
                    assert_eq!(updated, after[5], "ttl {ttl} protocol {protocol} id {id:#x}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let good = header(64, 6, 0x1234);
        for word in 0..10 {
            for bit in 0..16 {
                let mut bad = good;
                bad[word] ^= 1 << bit;
                assert!(!ipv4_header_holds(bad), "word {word} bit {bit}");
            }
        }
    }
}
