//! A packet socket on a device that carries bare IP packets, as WireGuard's does: what is written to it leaves by that
//! device as it is, and what arrives there can be read.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};

use crate::tun::{LARGEST, VnetHeader};

/// Bytes that may wait to be read: the kernel drops silently what finds no room.
const ROOM: libc::c_int = 8 << 20;

/// The socket.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    device: String,
}

impl PacketSocket {
    /// On a device of the calling thread's namespace; it stays there when the thread leaves.
    ///
    /// # Errors
    ///
    /// Where there is no such device, or no right to packet sockets.
    pub fn open(device: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("finding {device}"))?;
        // Of no protocol, so that nothing of other devices comes in before it is bound.
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes three numbers; its answer is judged before it is taken for a descriptor.
        let descriptor =
            done(unsafe { libc::socket(libc::AF_PACKET, kind, 0) }).context("opening a packet socket")?;
        // SAFETY: the kernel has just made it, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let options = [
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1, "vnet headers"),
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1, "only what arrives"),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM, "its room"),
        ];
        for (level, option, value, what) in options {
            set(&socket, level, option, value)
                .with_context(|| format!("asking a packet socket for {what}"))?;
        }
        bind(&socket, index).with_context(|| format!("binding a packet socket to {device}"))?;
        Ok(Self { socket, device: device.to_owned() })
    }

    /// Sends a packet out of the device, with what the header says. The device has dealt with it when this returns, up
    /// to what it queued.
    ///
    /// # Errors
    ///
    /// What the device answers when it does not take it.
    pub fn send(&self, header: VnetHeader, packet: &[u8]) -> io::Result<()> {
        let bytes = [&header.to_bytes()[..], packet].concat();
        let written = send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next packet that arrived; waits for it, until `end`.
    ///
    /// # Errors
    ///
    /// Where none comes in time, or the socket cannot be read.
    pub fn receive(&self, end: Instant) -> Result<(VnetHeader, Vec<u8>)> {
        loop {
            if let Some(packet) = self.try_receive()? {
                return Ok(packet);
            }
            let left = end.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).context("a short time")?;
            if poll(&mut ready, timeout).context("waiting for a packet")? == 0 {
                anyhow::bail!("no packet came out of {} in time", self.device);
            }
        }
    }

    fn try_receive(&self) -> Result<Option<(VnetHeader, Vec<u8>)>> {
        let mut bytes = vec![0; LARGEST];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(length) => bytes.truncate(length),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading what came to {}", self.device)),
        }
        let packet = bytes.split_off(VnetHeader::LEN);
        Ok(Some((VnetHeader::from_bytes(&bytes), packet)))
    }
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: these options read one int, which outlives the call.
    done(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })
        .map(drop)
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: the C struct is plain data, and all zeroes are a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: it reads one sockaddr_ll, which outlives the call.
    done(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

fn done(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
