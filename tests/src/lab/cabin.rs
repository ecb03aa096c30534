//! A second home, whose server runs relay itself: a cabin behind the same carrier-grade NAT.
//!
//! ```text
//!   isp (CGNAT) ── cabin ── stove
//!   172.31.0.0/24    192.168.50.0/24, fd00:50::/64
//! ```
//!
//! As the NAS, the stove has no default route.

use anyhow::Result;

use super::World;
use crate::netns::Netns;

/// The stove on the cabin's LAN.
pub const STOVE4: &str = "192.168.50.10";
/// The same by IPv6.
pub const STOVE6: &str = "fd00:50::10";
/// The LAN's prefixes.
pub const LANS: [&str; 2] = ["192.168.50.0/24", "fd00:50::/64"];

/// Its machines. They go when this is dropped.
pub struct Cabin {
    /// The cabin's server.
    pub server: Netns,
    /// A machine on its LAN with a web server.
    pub stove: Netns,
}

impl Cabin {
    /// Adds it to a world.
    pub fn new(world: &World) -> Result<Self> {
        let cabin = Self { server: Netns::new("cabin")?, stove: Netns::new("stove")? };
        world.isp.cable("cabin", &cabin.server, "eth0")?;
        cabin.server.cable("lan", &cabin.stove, "eth0")?;
        world.isp.run_all(
            "ip addr add 172.31.0.1/24 dev cabin
             nft add rule inet filter forward iifname cabin accept",
        )?;
        cabin.server.run_all(
            "ip addr add 172.31.0.2/24 dev eth0
             ip route add default via 172.31.0.1
             ip addr add 192.168.50.2/24 dev lan
             ip addr add fd00:50::2/64 dev lan nodad",
        )?;
        cabin.stove.run_all(
            "ip addr add 192.168.50.10/24 dev eth0
             ip addr add fd00:50::10/64 dev eth0 nodad",
        )?;
        Ok(cabin)
    }

    /// Its machines, in the order of the picture.
    #[must_use]
    pub fn machines(&self) -> [&Netns; 2] {
        [&self.server, &self.stove]
    }
}
