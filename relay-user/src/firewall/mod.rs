//! The host's firewall: what it does to the tunnel's traffic, what of it is ours, and what must be opened.
//!
//! Everything here decides and nothing acts; [`crate::kernel::firewall`] reads and writes. In reading order:
//!
//! - [`ruleset`]: nftables and both iptables in one model, made by [`nft_json`] and [`iptables_save`];
//! - [`packet`] and [`walk`]: what a packet of which only some fields are known may meet on its way through it;
//! - [`analysis`]: whether the host provably leaves tunnel-to-tunnel traffic alone;
//! - [`table`]: our own table `inet relay`, desired and observed;
//! - [`exit`]: who goes out to the internet through the hub, and where;
//! - [`opening`]: what closes the listen port, the tunnel or an exit, and through whom to open it.

pub mod analysis;
pub mod exit;
pub mod iptables_save;
pub mod nft_json;
pub mod opening;
pub mod packet;
pub mod printed;
pub mod ruleset;
pub mod table;
pub mod ufw;
pub mod walk;

#[cfg(test)]
mod rows;
