//! A number for each flow, by which queues keep flows apart.

/// Of its addresses, and of its ports with the protocol. It spreads flows over queues and is no secret: who chooses ports
/// with care can put his flow into the queue of another's, and take of its turns what any flow takes that falls into it by
/// chance. (Multiplication by 2⁶⁴ over the golden ratio, Knuth, TAOCP
/// 6.4, folded so that high bits count too.)
#[must_use]
#[inline(always)]
pub const fn hash<const N: usize>(addresses: [u64; N], ports: u64) -> u32 {
    let (mut hash, mut i) = (0, 0);
    while i < N {
        hash = mixed(hash, addresses[i]);
        i += 1;
    }
    mixed(hash, ports) as u32
}

#[inline(always)]
const fn mixed(hash: u64, part: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = (hash ^ part).wrapping_mul(GOLDEN);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows as a hub has them: a few addresses, ports that follow one another.
    #[test]
    fn flows_are_spread_over_queues() {
        const QUEUES: usize = 1024;
        for of in [
            |flow: u64| (0x0a09_0002_0a09_0003, flow << 16 | 80),
            |flow: u64| (flow << 32 | 0x0a09_0003, 0),
            |flow: u64| (0x0a09_0002 << 32 | flow, 443),
        ] {
            let mut queues = vec![0; QUEUES];
            for flow in 0..16 * QUEUES as u64 {
                let (addresses, ports) = of(flow);
                queues[hash([addresses], ports) as usize % QUEUES] += 1;
            }
            let (least, most) = (queues.iter().min(), queues.iter().max());
            assert!(least >= Some(&2) && most <= Some(&48), "{least:?} to {most:?}, 16 would be even");
        }
    }

    #[test]
    fn every_part_counts() {
        let base = hash([1, 2], 3);
        for (addresses, ports) in [([2, 2], 3), ([1, 3], 3), ([1, 2], 4), ([3, 2], 1)] {
            assert_ne!(hash(addresses, ports), base, "{addresses:?} {ports}");
        }
    }
}
