//! Listens for WireGuard's handshake initiations on their way to a UDP port, for as long as somebody looks.
//!
//! A packet socket gets a copy of what arrives before any firewall has seen it, and takes nothing away from WireGuard.
//! A filter in the kernel lets only initiations through, so that a busy hub's traffic is not copied.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};

/// An initiation that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiation {
    /// Where it came from.
    pub from: SocketAddr,
    /// When it was taken off the socket.
    pub at: SystemTime,
    /// WireGuard's message.
    pub message: Vec<u8>,
}

/// Bytes of an initiation (whitepaper 5.4.2).
const INITIATION: usize = 148;
/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes of an IPv6 header; one with extension headers is none that WireGuard sends.
const IPV6: usize = 40;

/// Listens on every interface until `wait` is over, or whoever hears them has had enough. A bridge and its port both show
/// the same message. Says whether each that came was heard: the kernel drops what finds no room.
///
/// # Errors
/// No packet socket to be had, which takes root (CAP_NET_RAW).
pub fn listen(
    port: u16,
    wait: Duration,
    mut hear: impl FnMut(Initiation) -> ControlFlow<()>,
) -> io::Result<bool> {
    let socket = socket(port)?;
    let end = Instant::now() + wait;
    let mut bytes = [0; 2048];
    while Instant::now() < end {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(initiation) = parse(&bytes[..length])
                    && hear(initiation).is_break()
                {
                    return Ok(false);
                }
            }
            Err(Errno::EAGAIN) => {
                let left = end.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                    break;
                }
            }
            // An interface that went down is none of our concern.
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(dropped(&socket)? == 0)
}

/// How many messages found no room on the socket.
fn dropped(socket: &OwnedFd) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut size = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is the size of what it writes to; both outlive the call.
    done(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut size,
        )
    })?;
    Ok(statistics.tp_drops)
}

fn socket(port: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Of no protocol, so that nothing comes in before the filter is there.
    // SAFETY: the call takes three numbers; its answer is judged before it is taken for a descriptor.
    let descriptor = done(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    let mut program = filter(port);
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let attached = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &attached)?;
    // SAFETY: the C struct is plain data, and all zeroes are a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: it reads one sockaddr_ll, which outlives the call.
    done(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) })?;
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: each option here reads one value of the type that it is given, which outlives the call.
    done(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size)
    })
    .map(drop)
}

fn done(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// What lets initiations to that port pass, of either family, from the IP header on (linux/filter.h).
fn filter(port: u16) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
        BPF_MSH, BPF_RET,
    };
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let byte = |at| op(BPF_LD | BPF_B | BPF_ABS, at);
    let half = |at| op(BPF_LD | BPF_H | BPF_ABS, at);
    let byte_of = |at| op(BPF_LD | BPF_B | BPF_IND, at);
    let half_of = |at| op(BPF_LD | BPF_H | BPF_IND, at);
    // On to the next instruction if it is so, else to the one that drops, which follows after `left` others.
    let only = |k: u32, left: u8| libc::sock_filter { jf: left, ..op(BPF_JMP | BPF_JEQ | BPF_K, k) };
    let (udp, length) = (17, (INITIATION + UDP) as u32);
    vec![
        byte(0),
        op(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        libc::sock_filter { jt: 0, jf: 13, ..op(BPF_JMP | BPF_JEQ | BPF_K, 0x40) },
        // IPv4: UDP, no fragment.
        byte(9),
        only(udp, 10),
        half(6),
        libc::sock_filter { jt: 8, jf: 0, ..op(BPF_JMP | BPF_JSET | BPF_K, 0x1fff) },
        op(BPF_LDX | BPF_B | BPF_MSH, 0),
        half_of(2),
        only(port.into(), 5),
        half_of(4),
        only(length, 3),
        byte_of(UDP as u32),
        only(1, 1),
        op(BPF_RET | BPF_K, u32::MAX),
        op(BPF_RET | BPF_K, 0),
        // IPv6: the same at fixed places.
        libc::sock_filter { jt: 0, jf: 9, ..op(BPF_JMP | BPF_JEQ | BPF_K, 0x60) },
        byte(6),
        only(udp, 7),
        half((IPV6 + 2) as u32),
        only(port.into(), 5),
        half((IPV6 + 4) as u32),
        only(length, 3),
        byte((IPV6 + UDP) as u32),
        only(1, 1),
        op(BPF_RET | BPF_K, u32::MAX),
        op(BPF_RET | BPF_K, 0),
    ]
}

/// Source and message of an IP packet that has passed the filter.
fn parse(packet: &[u8]) -> Option<Initiation> {
    let first = *packet.first()?;
    let (address, udp): (IpAddr, &[u8]) = if first >> 4 == 4 {
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        (Ipv4Addr::from(source).into(), packet.get(usize::from(first & 0xf) * 4..)?)
    } else {
        let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        (Ipv6Addr::from(source).into(), packet.get(IPV6..)?)
    };
    let port = u16::from_be_bytes(udp.get(..2)?.try_into().ok()?);
    let message = udp.get(UDP..UDP + INITIATION)?.to_vec();
    Some(Initiation { from: SocketAddr::new(address, port), at: SystemTime::now(), message })
}
