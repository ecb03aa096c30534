//! One module for each kernel interface. They never import one another.

pub mod datapath;
pub mod events;
pub mod firewall;
pub mod initiations;
pub mod lock;
pub mod namespace;
pub mod netlink;
pub mod odd_sysctls;
pub mod ping;
mod rtnl;
pub mod sysctl;
pub mod userspace;
pub mod way_out;
pub mod wireguard;
