//! Home networks that are so common that a phone is likely to be in one of the same range elsewhere.

use ipnet::{IpNet, Ipv4Net};

use super::Warning;

/// What common routers give out unless they are told otherwise (their makers' manuals).
const COMMON: [Ipv4Net; 8] = [
    net([192, 168, 0, 0]),
    net([192, 168, 1, 0]),
    net([192, 168, 2, 0]),
    net([192, 168, 8, 0]),
    net([192, 168, 86, 0]),
    net([192, 168, 178, 0]),
    net([10, 0, 0, 0]),
    net([10, 0, 1, 0]),
];

const fn net([a, b, c, d]: [u8; 4]) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), 24)
}

/// What to expect of a LAN of such a range, and what to do.
#[must_use]
pub fn common_home_range(lan: &IpNet) -> Option<Warning> {
    let IpNet::V4(lan) = lan else { return None };
    // A few single machines of such a network are the remedy, so they are no reason to warn.
    let is_common = lan.prefix_len() <= 24 && COMMON.iter().any(|common| lan.contains(common));
    is_common.then(|| {
        Warning(format!(
            "LAN {lan} is a very common range: a phone that is in a network of the same range, in a café or at a \
             friend's, reaches its neighbours there and not this home; give the home network another range, such as \
             192.168.{}.0/24, in its router",
            uncommon(lan)
        ))
    })
}

/// A third octet that is nobody's default: the same for the same LAN, and another for most others.
fn uncommon(lan: &Ipv4Net) -> u8 {
    const FIRST: u8 = 31;
    const COUNT: u8 = 50;
    FIRST
        + lan.network().octets().iter().fold(0_u8, |sum, octet| sum.wrapping_mul(7).wrapping_add(*octet))
            % COUNT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_ranges_are_warned_of() {
        for (lan, warned) in [
            ("192.168.0.0/24", true),
            ("192.168.1.0/24", true),
            ("10.0.0.0/24", true),
            ("192.168.178.0/24", true),
            ("192.168.0.0/16", true),
            ("10.0.0.0/8", true),
            ("192.168.40.0/24", false),
            ("192.168.1.10/32", false),
            ("192.168.1.0/25", false),
            ("fd00:40::/64", false),
        ] {
            assert_eq!(common_home_range(&lan.parse().expect("net")).is_some(), warned, "{lan}");
        }
    }

    #[test]
    fn the_range_that_is_proposed_is_not_warned_of() {
        for common in COMMON {
            let proposed = format!("192.168.{}.0/24", uncommon(&common)).parse().expect("net");
            assert_eq!(common_home_range(&proposed), None);
            assert!(common_home_range(&common.into()).expect("a warning").0.contains(&format!("{proposed}")));
        }
    }
}
