//! What an address is good for.

use std::net::IpAddr;

/// Not private, shared with a carrier's other customers (RFC 6598), or good for one link or machine only. The ranges
/// for documentation count as public: laboratories use them as such.
#[must_use]
pub fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            let benchmark = a == 198 && (18..20).contains(&b);
            !(a == 0
                || a >= 224
                || carrier
                || benchmark
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local())
        }
        // 2000::/3 is all that is given out (RFC 4291 2.4).
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_public() {
        for (address, public) in [
            ("203.0.113.7", true),
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("2001:db8::1", true),
            ("2a00::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(&address.parse().expect("address")), public, "{address}");
        }
    }
}
