//! relay's userspace: from one file to a WireGuard hub whose traffic eBPF forwards.

pub mod config;
pub mod datapath_plan;
pub mod desired;
pub mod firewall;
pub mod kernel;
pub mod key;
pub mod maps;
pub mod name;
pub mod observed;
pub mod peer_config;
