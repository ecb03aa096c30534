//! What the kernel has, read each time and never remembered.
//!
//! The modules under [`crate::kernel`] read the parts; [`crate::host`] puts them together; [`crate::plan`] compares
//! them with what is desired.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use ipnet::IpNet;

use crate::{
    firewall::{
        analysis::TunnelForwarding,
        opening::{Opening, Ours},
        packet::Version,
        table::Table,
    },
    kernel::{datapath::Hook, sysctl::Sysctl},
    key::{PresharedKey, PublicKey},
    maps::DatapathState,
    name::InterfaceName,
    uplink::UplinkObserved,
};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, new with each creation.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Its alias (`IFLA_IFALIAS`); ours carry [`MARK`].
    pub alias: Option<String>,
}

/// The alias that marks an interface as relay's. Whatever lacks it is somebody else's and is never touched.
pub const MARK: &str = "managed by relay";

impl Link {
    /// Whether relay made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.alias.as_deref() == Some(MARK)
    }
}

/// The kinds of interface that matter to relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Kernel WireGuard.
    WireGuard,
    /// A TUN device.
    Tun,
    /// Any other, by the kernel's word (`IFLA_INFO_KIND`); empty for a physical one.
    Other(String),
}

/// A WireGuard device, whoever implements it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The public half of its key; `None` when it has none yet.
    pub public_key: Option<PublicKey>,
    /// UDP port; 0 when none is bound.
    pub listen_port: u16,
    /// Mark on its outer packets; 0 for none.
    pub fwmark: u32,
    /// Its peers, those of several netlink messages merged.
    pub peers: BTreeMap<PublicKey, DevicePeer>,
}

/// A peer of a WireGuard device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePeer {
    /// `None` when it has none.
    pub preshared_key: Option<PresharedKey>,
    /// Where its last valid packet came from, or what was configured.
    pub endpoint: Option<SocketAddr>,
    /// Allowed IPs.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Seconds, `None` for off.
    pub keepalive: Option<u16>,
    /// `None` for never.
    pub latest_handshake: Option<SystemTime>,
    /// Bytes received (outer messages, WireGuard's own count).
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// `RTN_UNICAST`: a route to somewhere, as opposed to one that refuses (include/uapi/linux/rtnetlink.h).
pub const UNICAST: u8 = 1;

/// A route of the main or local table, of either family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRoute {
    /// Where to.
    pub destination: IpNet,
    /// By which interface index; `None` for blackhole, unreachable, multipath and the like.
    pub interface: Option<u32>,
    /// Next hop, if not directly connected.
    pub gateway: Option<IpAddr>,
    /// Who made it (`rtm_protocol`; ours is [`ROUTE_PROTOCOL`]).
    pub protocol: u8,
    /// Preference, lower wins; 0 is the IPv4 default, 1,024 the IPv6 one.
    pub metric: u32,
    /// [`UNICAST`] or one of its siblings (linux/rtnetlink.h).
    pub kind: u8,
    /// The table, 254 for main, 255 for local.
    pub table: u32,
    /// The MTU that the route itself sets in bytes, which the kernel holds forwarded packets to in place of the
    /// interface's.
    pub mtu: Option<u32>,
    /// Whether it is for packets of one source or type of service alone.
    pub narrowed: bool,
}

/// `rtm_protocol` of the routes that relay adds, so that it finds its own again. The number is free in iproute2's
/// `rt_protos` and in the kernel's list (include/uapi/linux/rtnetlink.h: above 192 nobody is registered but EIGRP,
/// 192, and those below).
pub const ROUTE_PROTOCOL: u8 = 207;

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The tunnel interface.
    pub link: Option<Link>,
    /// Where there is none: the same interface under another name that somebody gave it.
    pub renamed: Option<Link>,
    /// WireGuard on it.
    pub device: Option<Device>,
    /// Its addresses.
    pub addresses: BTreeSet<IpNet>,
    /// The routes of the main and local tables, every interface's.
    pub routes: Vec<KernelRoute>,
    /// Other interfaces with an IPv6 default route from a router advertisement, or that may yet get one.
    pub router_advertised: BTreeSet<InterfaceName>,
    /// The sysctls that matter; one that this kernel lacks is absent.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The interface of the default route of each family that has one.
    pub uplinks: BTreeMap<Version, String>,
    /// At a home: the interface that leads to each LAN; one that nothing leads to is absent.
    pub lan_interfaces: BTreeMap<IpNet, String>,
    /// At a home: this machine's own address toward each LAN, which is what the LAN's router would be told.
    pub lan_addresses: BTreeMap<IpNet, IpAddr>,
    /// At a home whose hub is silent, or shall be dialled anew: the addresses that the hub's name has now, the one to
    /// dial first; else none.
    pub hub_addresses: Vec<SocketAddr>,
    /// Our own nftables table.
    pub table: Option<Table>,
    /// What firewalls close, still to be opened.
    pub openings: Vec<Opening>,
    /// What relay opened and shall not be open any more: another port is listened on, or `manage` was taken back.
    pub stale_openings: Vec<Ours>,
    /// Whether the host leaves tunnel-to-tunnel traffic alone.
    pub forwarding: Option<TunnelForwarding>,
    /// What the fast path's maps hold, if it is loaded.
    pub maps: Option<DatapathState>,
    /// How its program is attached, if it is.
    pub attached: Option<Hook>,
    /// Whether anything of it is pinned, loaded by us or by a daemon before us.
    pub fast_path_pinned: bool,
    /// The guard in front of the listen port.
    pub uplink: UplinkObserved,
}

impl Observed {
    /// The interface that leads to the internet: that of IPv4's default route, else IPv6's.
    #[must_use]
    pub fn uplink_name(&self) -> Option<&str> {
        let uplink = self.uplinks.get(&Version::V4).or(self.uplinks.get(&Version::V6));
        uplink.map(String::as_str)
    }
}
