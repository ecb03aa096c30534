//! What the kernel says of the way out: the network card, and how much fits the way to somebody.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::libc;

/// The driver of an interface's card; `None` for what has no card.
#[must_use]
pub fn driver(interface: &str) -> Option<String> {
    let link = fs::read_link(format!("/sys/class/net/{interface}/device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// How many queues an interface receives into.
#[must_use]
pub fn receive_queues(interface: &str) -> usize {
    let entries = fs::read_dir(format!("/sys/class/net/{interface}/queues")).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"))
        .count()
}

/// How long a packet to there may be, in bytes, by what the kernel has learned of the way (RFC 1191, RFC 8201); nothing
/// is sent.
///
/// # Errors
/// No way there.
pub fn path_mtu(to: SocketAddr) -> io::Result<u32> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let (level, option) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut size = size_of_val(&mtu) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is the size of what it writes to; both outlive the call.
    let answer =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut size) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(mtu).map_err(io::Error::other)
}

/// Reverse path filtering of an interface: 0 off, 1 strict, 2 loose; the greater of its own and that of all counts
/// (Documentation/networking/ip-sysctl.rst).
#[must_use]
pub fn rp_filter(interface: &str) -> u8 {
    let read = |name: &str| -> Option<u8> {
        fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).ok()?.trim().parse().ok()
    };
    read("all").max(read(interface)).unwrap_or(0)
}
