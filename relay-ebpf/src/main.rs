//! `tunnel`: packets between the peers of a WireGuard hub, from decryption straight to encryption. (`uplink` has a folder
//! of its own.)
//!
//! The program stands on the tunnel interface's ingress (TC) and sees bare, decrypted IP packets. What is provably
//! plain goes back into the same interface, where cryptokey routing picks the peer; everything else goes to the
//! kernel's own path unchanged. A redirect passes by the whole IP stack, so the duties of a router that a plain
//! packet needs are done here (RFC 1812, RFC 8200), and those it must not skip send it to the stack.
//!
//! Reading order: this file (what a verdict means), [`ipv4`] and [`ipv6`] (how one is reached), [`mss`], [`maps`],
//! [`packet`], which alone touches packet memory, and [`trace`], which runs only while somebody looks.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod ipv4;
mod ipv6;
mod maps;
mod mss;
mod mutant;
mod next;
mod packet;
mod trace;
mod uplink;

use aya_ebpf::{Global, bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};
use network_types::eth::EtherType;
use relay_common::Verdict;

use crate::packet::Packet;

/// [`relay_common::global::LAYOUT`]: for the loader to compare; nothing here reads it.
#[unsafe(no_mangle)]
pub static LAYOUT: Global<u32> = Global::new(relay_common::LAYOUT);

/// The kernel lets only GPL-compatible programs use some helpers.
#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The entry point: turns a verdict into a counter and an action. Whatever is not forwarded goes on to the next
/// program, then the stack: `TC_ACT_OK` would end the chain for programs that are not ours.
#[classifier]
fn tunnel(context: TcContext) -> i32 {
    next::differ();
    let switches = maps::switches();
    let mut packet = Packet::new(context);
    let (verdict, action) = match forward(&mut packet, switches.fast_path != 0) {
        Ok(redirect) => (Verdict::Redirected, redirect.action()),
        Err(verdict) => match verdict {
            // Nobody returns it as an error, and the compiler asks what it would mean.
            Verdict::Redirected => (Verdict::Internal, TC_ACT_UNSPEC),
            Verdict::Off
            | Verdict::NotIp
            | Verdict::Malformed
            | Verdict::Checksum
            | Verdict::Options
            | Verdict::TtlExpired
            | Verdict::TooBig
            | Verdict::Mss
            | Verdict::Martian
            | Verdict::Local
            | Verdict::UnknownDestination
            | Verdict::UnknownSource
            | Verdict::SamePeer
            | Verdict::Internal
            | Verdict::Fragment => (verdict, mutant::pass(TC_ACT_UNSPEC)),
        },
    };
    maps::count_verdict(verdict, packet.segments());
    if switches.trace != 0 || mutant::ALWAYS_TRACED {
        trace::tell(packet.context(), verdict as u32);
    }
    action
}

/// Makes the packet what it must be at the next hop and sends it there; or says why the stack must do it.
#[inline(always)]
fn forward(packet: &mut Packet, enabled: bool) -> Result<packet::Redirect, Verdict> {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;

    if !enabled && !mutant::SWITCH_IGNORED {
        return Err(Verdict::Off);
    }
    if mutant::ALWAYS_PUNT {
        return Err(Verdict::Internal);
    }
    let way = match packet.protocol() {
        IPV4 => ipv4::forward(packet)?,
        IPV6 => ipv6::forward(packet)?,
        _ => return Err(Verdict::NotIp),
    };
    way.count(packet.segments(), packet.len());
    Ok(packet.redirect())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
