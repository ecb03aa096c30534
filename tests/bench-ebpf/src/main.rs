//! What `cargo xtask bench` needs inside the kernel. The user's side is tests/src/bench.
//!
//! `source` (XDP, by BPF_PROG_TEST_RUN with live frames) sends packets out of one end of a veth pair; `into_tunnel` (TC at
//! the other end) lets them arrive on an L3 device, as if WireGuard had just decrypted them; `count_and_drop` (TC) and
//! `count_and_drop_frames` (XDP) are where they end. A packet that a sink has not counted was lost. `sample` counts where
//! the kernel was when a clock rang.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_perf_event_data, xdp_action},
    btf_maps::{Array, HashMap, PerCpuArray},
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_store_bytes},
    macros::{btf_map, classifier, perf_event, xdp},
    programs::{PerfEventContext, TcContext, XdpContext},
};

/// Bytes of a packet at most, Ethernet header included.
const LARGEST: usize = 1536;

/// Bytes of an Ethernet header.
const SMALLEST: usize = 14;

/// Where an IPv4 header's sum stands in a frame, and how long it and the addresses are.
const ENDS_AT: u32 = 14 + 10;
const ENDS_LENGTH: u32 = 2 + 4 + 4;

/// Packets that are there at a time.
const PACKETS: usize = 4096;

/// The kernel lets only GPL-compatible programs use some helpers.
#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The device that `source` sends out of, by its index.
#[unsafe(no_mangle)]
static OUT: Global<u32> = Global::new(0);

/// The L3 device that packets arrive on, by its index.
#[unsafe(no_mangle)]
static TUNNEL: Global<u32> = Global::new(0);

/// Whether it is to be known when the first packet was sent and when the last one came to its end.
#[unsafe(no_mangle)]
static TIMED: Global<u32> = Global::new(0);

/// These two moments, by the kernel's monotonic clock; the first is 0 until there is one.
#[btf_map]
static TIMES: Array<[u64; 2], 1> = Array::new();

/// Whether `count_and_drop` lets everything pass, not 0: handshakes have to.
#[btf_map]
static OPEN: Array<u32, 1> = Array::new();

/// What `source` sends, as it stands on the wire.
#[btf_map]
static FRAMES: Array<[u8; LARGEST], PACKETS> = Array::new();

/// What stands in the IPv4 header of the first frame, in turn, where only that differs: the sum over it and the addresses
/// (RFC 791 3.1), and two bytes to spare. Thousands of whole frames would themselves fill the cache that what is measured
/// has to use.
#[btf_map]
static ENDS: Array<[u8; 12], PACKETS> = Array::new();

/// Which of them: the next one, how many there are before the first comes again, how long each frame is, and whether only
/// the first is sent, with what [`ENDS`] says, not 0.
#[btf_map]
static CURSOR: Array<[u32; 4], 1> = Array::new();

/// What came to an end: packets (segments of a merged one counted, where the kernel has counted them) and bytes.
#[btf_map]
static COUNTS: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();

/// How often each instruction was met. Most of a kernel's are never met.
#[btf_map]
static SAMPLES: HashMap<u64, u64, 65536> = HashMap::new();

/// Sends the next packet, written anew from its first byte to its last: the kernel uses frames again, with what became of
/// them on their way.
#[xdp]
fn source(context: XdpContext) -> u32 {
    if let Some(times) = times().filter(|times| times[0] == 0) {
        times[0] = now();
    }
    let sent = next().and_then(|turn| {
        let frame = FRAMES.get_ptr(if turn.ends { 0 } else { turn.at })?;
        // SAFETY: the helper checks the length against the frame, and the map's value is longer.
        let mut stored = unsafe { bpf_xdp_store_bytes(context.ctx, 0, frame.cast_mut().cast(), turn.length) };
        if turn.ends {
            let ends = ENDS.get_ptr(turn.at)?;
            // SAFETY: as above.
            stored |=
                unsafe { bpf_xdp_store_bytes(context.ctx, ENDS_AT, ends.cast_mut().cast(), ENDS_LENGTH) };
        }
        // SAFETY: the helper takes two numbers and checks both.
        (stored == 0).then(|| unsafe { bpf_redirect(OUT.load(), 0) as u32 })
    });
    sent.unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn times() -> Option<&'static mut [u64; 2]> {
    if TIMED.load() == 0 {
        return None;
    }
    // SAFETY: the entry is there, and one source and one sink run at a time.
    TIMES.get_ptr_mut(0).map(|times| unsafe { &mut *times })
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// What is sent next.
struct Turn {
    at: u32,
    length: u32,
    ends: bool,
}

#[inline(always)]
fn next() -> Option<Turn> {
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: the entry is there, and one source runs at a time.
    let cursor = unsafe { &mut *cursor };
    let [at, count, length, ends] = *cursor;
    cursor[0] = if at + 1 < count { at + 1 } else { 0 };
    // Not by a question: kernel 6.1 does not learn from "is it zero" that it is more.
    Some(Turn { at, length: length.clamp(SMALLEST as u32, LARGEST as u32), ends: ends != 0 })
}

/// From Ethernet to the tunnel. The kernel takes the Ethernet header off, since the tunnel has none.
#[classifier]
fn into_tunnel(_: TcContext) -> i32 {
    // SAFETY: the helper takes two numbers and checks both.
    unsafe { bpf_redirect(TUNNEL.load(), BPF_F_INGRESS as u64) as i32 }
}

/// Where packets of a tunnel end.
#[classifier]
fn count_and_drop(context: TcContext) -> i32 {
    if TIMED.load() != 0 && OPEN.get(0).is_some_and(|open| *open != 0) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: the kernel gave this context to the program, and the field may be read by classifiers.
    let segments = unsafe { (*context.skb.skb).gso_segs };
    count(segments.max(1).into(), context.len().into());
    TC_ACT_SHOT
}

/// Where packets of a cable end.
#[xdp]
fn count_and_drop_frames(context: XdpContext) -> u32 {
    count(1, (context.data_end() - context.data()) as u64);
    xdp_action::XDP_DROP
}

/// Where frames of a cable go on.
#[xdp]
fn pass_frames(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[inline(always)]
fn count(packets: u64, bytes: u64) {
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's own.
        let counts = unsafe { &mut *counts };
        counts[0] += packets;
        counts[1] += bytes;
    }
    if let Some(times) = times() {
        times[1] = now();
    }
}

/// Where the kernel is at this moment.
#[perf_event]
fn sample(context: PerfEventContext) -> u32 {
    let data = context.ctx.cast::<bpf_perf_event_data>();
    // SAFETY: the kernel gave this context to the program, and registers may be read.
    let at = unsafe { instruction(data) };
    match SAMPLES.get_ptr_mut(at) {
        // SAFETY: the entry is there. Two CPUs may lose a sample to each other; the guest that samples has one.
        Some(times) => unsafe { *times += 1 },
        None => _ = SAMPLES.insert(at, 1, 0),
    }
    0
}

/// # Safety
///
/// `data` must be the context of a perf event.
#[inline(always)]
unsafe fn instruction(data: *const bpf_perf_event_data) -> u64 {
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: that of the caller.
    return unsafe { (*data).regs.rip };
    #[cfg(not(bpf_target_arch = "x86_64"))]
    // SAFETY: that of the caller.
    return unsafe { (*data).regs.pc };
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
