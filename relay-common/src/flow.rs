//! A number for each flow, by which queues keep flows apart.

/// Of the addresses, and of the ports with the protocol. It spreads flows over queues and is no secret: whoever chooses his
/// flows so that they meet in one queue slows down himself. (Multiplication by 2⁶⁴ over the golden ratio, Knuth, TAOCP
/// 6.4, folded so that high bits count too.)
#[must_use]
#[inline(always)]
pub const fn hash<const N: usize>(parts: [u64; N]) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let (mut hash, mut i) = (0u64, 0);
    while i < N {
        hash = (hash ^ parts[i]).wrapping_mul(GOLDEN);
        hash ^= hash >> 32;
        i += 1;
    }
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows as a hub has them: a few addresses, ports that follow one another.
    #[test]
    fn flows_are_spread_over_queues() {
        const QUEUES: usize = 1024;
        for of in [
            |flow: u64| [0x0a09_0002_0a09_0003, flow << 16 | 80],
            |flow: u64| [flow << 32 | 0x0a09_0003, 0],
            |flow: u64| [0x0a09_0002 << 32 | flow, 443],
        ] {
            let mut queues = vec![0; QUEUES];
            for flow in 0..16 * QUEUES as u64 {
                queues[hash(of(flow)) as usize % QUEUES] += 1;
            }
            let (least, most) = (queues.iter().min(), queues.iter().max());
            assert!(least >= Some(&2) && most <= Some(&48), "{least:?} to {most:?}, 16 would be even");
        }
    }

    #[test]
    fn every_part_counts() {
        let base = hash([1, 2, 3]);
        for other in [[2, 2, 3], [1, 3, 3], [1, 2, 4], [3, 2, 1]] {
            assert_ne!(hash(other), base, "{other:?}");
        }
    }
}
