//! relay's userspace: from one file to a WireGuard hub whose traffic eBPF forwards.

pub mod desired;
pub mod key;
pub mod name;
pub mod observed;
