//! The one table of verdicts: what became of a packet, and why.

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal;)+) => {
        /// What `tunnel` decided for a packet. The value is the index in [`crate::map::VERDICTS`].
        ///
        /// Every verdict but [`Verdict::Redirected`] hands the packet, unchanged, to the kernel's own path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Verdict { $($(#[doc = $doc])+ $variant = $value,)+ }

        impl Verdict {
            /// Every verdict, by index.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in `stats`, metrics and traces: stable, snake_case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

verdicts! {
    /// Sent straight into the tunnel's transmit.
    Redirected = 0, "redirected";
    /// The fast path is switched off.
    Off = 1, "off";
    /// Neither IPv4 nor IPv6.
    NotIp = 2, "not_ip";
    /// Version, header length or total length that do not fit (RFC 1812 5.2.2, RFC 8200 3), or a TCP header that is
    /// cut off.
    Malformed = 3, "malformed";
    /// IPv4 header checksum wrong (RFC 1812 5.2.2: silently discarded, by the stack).
    Checksum = 4, "checksum";
    /// IPv4 options (RFC 1812 5.3.13), or IPv6 extension headers that a router or the MSS clamp must look at.
    Options = 5, "options";
    /// TTL or hop limit of one or zero (RFC 1812 5.3.1, RFC 8200 3).
    TtlExpired = 6, "ttl_expired";
    /// Larger than the tunnel's MTU (RFC 1191 4, RFC 8201).
    TooBig = 7, "too_big";
    /// TCP SYN that only the stack's rule can clamp: its MSS option does not stand first, it carries FIN or RST
    /// as well, or the tunnel's MTU is none that TCP over IP can use.
    Mss = 8, "mss";
    /// Source or destination that is never forwarded: multicast, loopback, link-local, class E, 0/8, `::`
    /// (RFC 1812 5.3.7, RFC 4291 2.5).
    Martian = 9, "martian";
    /// For the hub itself, its subnet's broadcast or router anycast, or a prefix for which the kernel has a better way.
    Local = 10, "local";
    /// Destination in no peer's prefixes (or of a peer without an endpoint).
    UnknownDestination = 11, "unknown_destination";
    /// Source in no peer's prefixes, the hub's own addresses included.
    UnknownSource = 12, "unknown_source";
    /// Source and destination belong to the same peer.
    SamePeer = 13, "same_peer";
    /// Something a helper or a map refused that should not be refused.
    Internal = 14, "internal";
    /// A fragment. All of a packet's must go one way, and some of them the stack's: a hub that tracks connections puts
    /// them together first (RFC 1812 5.2.6, RFC 8200 4.5).
    Fragment = 15, "fragment";
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn value_is_index() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index, "{verdict:?}");
        }
    }

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Verdict::ALL.len());
    }
}
