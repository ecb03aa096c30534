//! The eBPF programs packet by packet.

mod tunnel;
mod uplink;
