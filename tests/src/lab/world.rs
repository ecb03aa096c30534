//! The picture: an internet, a VPS in it, a home behind carrier-grade NAT with a NAS, a phone behind a NAT of its own.
//!
//! ```text
//!   phone ── router ──┐                        ┌── isp (CGNAT) ── home ── nas
//!   192.168.7.20      │                        │   100.64.0.0/10    192.168.40.0/24, fd00:40::/64
//!          192.0.2.2  └──────── internet ──────┘ 203.0.113.2
//!                                  │
//!                                 vps 198.51.100.2, 2001:db8:51::2
//! ```
//!
//! Public addresses are those of RFC 5737 and RFC 3849; only the VPS has IPv6 at its uplink. The NAS has no default route, as one whose router knows nothing of the
//! tunnel: only what the home server masquerades gets an answer.

use std::time::Duration;

use anyhow::Result;

use crate::netns::Netns;

/// The VPS's public address.
pub const VPS: &str = "198.51.100.2";
/// The same by IPv6.
pub const VPS6: &str = "2001:db8:51::2";
/// A server in the internet.
pub const SERVER: &str = "203.0.113.1";
/// The same by IPv6.
pub const SERVER6: &str = "2001:db8:51::1";
/// What the internet sees of the phone.
pub const PHONE_PUBLIC: &str = "192.0.2.2";
/// What the internet sees of the home.
pub const HOME_PUBLIC: &str = "203.0.113.2";
/// The NAS on the home LAN.
pub const NAS4: &str = "192.168.40.10";
/// The same by IPv6.
pub const NAS6: &str = "fd00:40::10";
/// The home LAN's prefixes.
pub const LANS: [&str; 2] = ["192.168.40.0/24", "fd00:40::/64"];

/// The machines. They go when this is dropped.
pub struct World {
    /// Routes between the public networks.
    pub internet: Netns,
    /// Where relay runs.
    pub vps: Netns,
    /// Does carrier-grade NAT for the home.
    pub isp: Netns,
    /// The home server.
    pub home: Netns,
    /// A machine on the home LAN with a web server.
    pub nas: Netns,
    /// The phone's own NAT.
    pub router: Netns,
    /// The phone.
    pub phone: Netns,
}

impl World {
    /// Builds it. Both NATs forget a UDP mapping that was idle for `udp_timeout` (whole seconds).
    pub fn new(udp_timeout: Duration) -> Result<Self> {
        let world = Self {
            internet: Netns::new("internet")?,
            vps: Netns::new("vps")?,
            isp: Netns::new("isp")?,
            home: Netns::new("home")?,
            nas: Netns::new("nas")?,
            router: Netns::new("router")?,
            phone: Netns::new("phone")?,
        };
        let cables = [
            (&world.internet, "vps", &world.vps, "eth0"),
            (&world.internet, "isp", &world.isp, "eth0"),
            (&world.internet, "router", &world.router, "eth0"),
            (&world.isp, "customers", &world.home, "eth0"),
            (&world.home, "lan", &world.nas, "eth0"),
            (&world.router, "wlan", &world.phone, "eth0"),
        ];
        for (here, name, there, other) in cables {
            here.cable(name, there, other)?;
        }
        world.addresses()?;
        nat(&world.isp, "customers", udp_timeout)?;
        nat(&world.router, "wlan", udp_timeout)?;
        Ok(world)
    }

    fn addresses(&self) -> Result<()> {
        self.internet.run_all(
            "sysctl -qw net.ipv4.ip_forward=1
             ip addr add 198.51.100.1/24 dev vps
             ip addr add 2001:db8:51::1/64 dev vps nodad
             ip addr add 203.0.113.1/24 dev isp
             ip addr add 192.0.2.1/24 dev router",
        )?;
        self.vps.run_all(
            "ip addr add 198.51.100.2/24 dev eth0
             ip addr add 2001:db8:51::2/64 dev eth0 nodad
             ip route add default via 198.51.100.1
             ip -6 route add default via 2001:db8:51::1",
        )?;
        self.isp.run_all(
            "ip addr add 203.0.113.2/24 dev eth0
             ip addr add 100.64.0.1/10 dev customers
             ip route add default via 203.0.113.1",
        )?;
        self.home.run_all(
            "ip addr add 100.64.7.2/10 dev eth0
             ip route add default via 100.64.0.1
             ip addr add 192.168.40.2/24 dev lan
             ip addr add fd00:40::2/64 dev lan nodad",
        )?;
        self.nas.run_all(
            "ip addr add 192.168.40.10/24 dev eth0
             ip addr add fd00:40::10/64 dev eth0 nodad",
        )?;
        self.router.run_all(
            "ip addr add 192.0.2.2/24 dev eth0
             ip addr add 192.168.7.1/24 dev wlan
             ip route add default via 192.0.2.1",
        )?;
        self.phone.run_all(
            "ip addr add 192.168.7.20/24 dev eth0
             ip route add default via 192.168.7.1",
        )
    }

    /// Every machine, in the order of the picture.
    pub fn machines(&self) -> [&Netns; 7] {
        [&self.internet, &self.vps, &self.isp, &self.home, &self.nas, &self.router, &self.phone]
    }
}

/// Source NAT with random ports toward `eth0`, nothing unsolicited let in, and a short memory for UDP.
fn nat(machine: &Netns, inside: &str, udp_timeout: Duration) -> Result<()> {
    machine.nft(&format!(
        "table ip nat {{
            chain postrouting {{
                type nat hook postrouting priority 100
                oifname \"eth0\" masquerade random
            }}
        }}
        table inet filter {{
            chain forward {{
                type filter hook forward priority 0
                policy drop
                iifname \"{inside}\" accept
                ct state established,related accept
            }}
            chain input {{
                type filter hook input priority 0
                policy drop
                iifname \"lo\" accept
                iifname \"{inside}\" accept
                ct state established,related accept
            }}
        }}"
    ))?;
    let seconds = udp_timeout.as_secs();
    machine.run_all(&format!(
        "sysctl -qw net.ipv4.ip_forward=1
         sysctl -qw net.netfilter.nf_conntrack_acct=1
         sysctl -qw net.netfilter.nf_conntrack_udp_timeout={seconds}
         sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream={seconds}"
    ))
}
