//! `uplink`: what knocks at the WireGuard port, looked at before the kernel spends anything on it.
//!
//! The program stands on the interface that leads to the internet (XDP) and sees whole frames. It drops what no WireGuard
//! would answer, and what is more than a hub has to answer; everything else, all that is not for the port first of all,
//! goes on as it came.
//!
//! Reading order: this file (what a verdict does), [`judge`] (how one is reached), [`parse`], [`handshake`], [`limits`],
//! [`mac1`], [`maps`], and [`frame`], which alone touches packet memory.

mod frame;
mod handshake;
mod judge;
mod limits;
mod mac1;
mod maps;
mod parse;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};

use self::{frame::Frame, judge::Judged};

/// The entry point: turns a verdict into a counter and an action.
#[xdp(frags)]
fn uplink(context: XdpContext) -> u32 {
    crate::next::differ();
    let Judged { verdict, source } = judge::judge(&Frame::new(context));
    let so_far = maps::count(verdict);
    if verdict.drops() {
        limits::blame(verdict, source, so_far);
    }
    if verdict.drops() { XDP_DROP } else { XDP_PASS }
}
