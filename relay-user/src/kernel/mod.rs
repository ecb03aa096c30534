//! One module for each kernel interface. They never import one another.

pub mod datapath;
pub mod events;
pub mod firewall;
pub mod lock;
pub mod namespace;
pub mod netlink;
pub mod odd_sysctls;
mod rtnl;
pub mod sysctl;
pub mod userspace;
pub mod wireguard;
