//! The laboratory: machines made of namespaces, packets, and what tests do with them.

pub mod booted;
pub mod capabilities;
pub mod cgroup;
pub mod guest;
pub mod lab;
pub mod namespace;
pub mod netns;
pub mod packages;
pub mod packet;
pub mod packet_socket;
pub mod program;
pub mod resident;
pub mod tun;
pub mod uplink;
