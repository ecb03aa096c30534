//! relay's doors to the kernel, each tried on a kernel: as root, every case in network and mount namespaces of its own.

mod events;
mod lock;
mod netlink;
mod space;
mod sysctl;
mod tunnel;
mod userspace;
mod wireguard;
