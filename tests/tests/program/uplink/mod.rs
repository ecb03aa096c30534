//! `uplink` frame by frame.

mod lengths;
mod limits;
mod mac1;
mod others;
mod reasons;

use std::net::IpAddr;

use anyhow::Result;
use relay_tests::{
    capabilities,
    program::object,
    tun::in_new_namespace,
    uplink::{Guard, THERE},
};

fn guard() -> Result<Guard> {
    Guard::new(&object()?)
}

/// Who knocks, in each family.
fn there() -> [IpAddr; 2] {
    THERE.map(|address| address.parse().expect("an address"))
}

#[test]
fn two_capabilities_suffice_to_load() -> Result<()> {
    in_new_namespace(|| {
        capabilities::keep_only(&[capabilities::NET_ADMIN, capabilities::BPF])?;
        guard().map(drop)
    })
}
