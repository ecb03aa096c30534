//! One module for each kernel interface. They never import one another.

pub mod datapath;
pub mod firewall;
pub mod netlink;
pub mod wireguard;
