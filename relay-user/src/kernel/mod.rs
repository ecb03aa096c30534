//! One module for each kernel interface. They never import one another.

pub mod datapath;
pub mod firewall;
pub mod netlink;
mod rtnl;
pub mod userspace;
pub mod wireguard;
