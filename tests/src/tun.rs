//! A TUN or TAP device in a network namespace of its own: packets written to it arrive as if from a tunnel, and what is
//! redirected out of it can be read back.
//!
//! Everything is gone when the device is dropped and its thread has ended, whatever happened before.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::namespace::run;

/// How long a packet that must come may take; measured: below a millisecond.
const DEADLINE: Duration = Duration::from_secs(5);

/// Room for the largest GSO packet.
pub(crate) const LARGEST: usize = 65_536 + VnetHeader::LEN;

/// Runs `case` on a thread of its own in a new, empty network namespace, which ends with the thread.
///
/// # Errors
///
/// Where the namespace cannot be made (not root), and those of `case`.
pub fn in_new_namespace<T: Send>(case: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let thread = || {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace (these tests need root)")?;
        case()
    };
    std::thread::scope(|scope| match scope.spawn(thread).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// What stands in front of the bytes that are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bare IP packets, as on a tunnel.
    Tun,
    /// Bare IP packets, each with a [`VnetHeader`]; with `offload`, checksums and segmentation are left to the reader.
    TunVnet {
        /// TUN_F_CSUM, TUN_F_TSO4 and TUN_F_TSO6.
        offload: bool,
    },
    /// Ethernet frames.
    Tap,
}

/// The device; dropping it deletes it, as soon as no child that another thread just forked has its file open until it
/// calls `exec`: see [`Tun::delete`].
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    index: u32,
    kind: Kind,
}

/// `struct virtio_net_hdr` as it stands in front of packets (host byte order).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// See [`VnetHeader::NEEDS_CHECKSUM`].
    pub flags: u8,
    /// See [`VnetHeader::TCPV4`] and [`VnetHeader::TCPV6`]; 0 for a packet that is not merged.
    pub gso_type: u8,
    /// Bytes that the kernel shall keep linear; 0 leaves it to the kernel.
    pub header_length: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the transport header starts, in bytes.
    pub checksum_start: u16,
    /// Where in it the checksum stands, in bytes.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// The checksum is still to be computed (VIRTIO_NET_HDR_F_NEEDS_CSUM).
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// VIRTIO_NET_HDR_GSO_TCPV4.
    pub const TCPV4: u8 = 1;
    /// VIRTIO_NET_HDR_GSO_TCPV6.
    pub const TCPV6: u8 = 4;

    pub(crate) const LEN: usize = 10;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let words = [self.header_length, self.gso_size, self.checksum_start, self.checksum_offset];
        for (place, word) in bytes[2..].chunks_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_length: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }
}

impl Tun {
    /// Makes the device in the calling thread's namespace and brings it up, without any address and without the packets
    /// that the kernel sends of itself (router solicitations, multicast reports).
    ///
    /// # Errors
    ///
    /// Where there is no /dev/net/tun, no right to make devices, or the name or the MTU is refused.
    pub fn new(name: &str, kind: Kind, mtu: u32) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun")?;
        let (device, offload) = match kind {
            Kind::Tun => (libc::IFF_TUN, 0),
            Kind::TunVnet { offload: false } => (libc::IFF_TUN | libc::IFF_VNET_HDR, 0),
            Kind::TunVnet { offload: true } => {
                (libc::IFF_TUN | libc::IFF_VNET_HDR, libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6)
            }
            Kind::Tap => (libc::IFF_TAP, 0),
        };
        ioctl::create(&file, &ioctl::with_flags(name, device | libc::IFF_NO_PI)?)
            .with_context(|| format!("making {name}"))?;
        if kind != Kind::Tap {
            ioctl::set_offload(&file, offload).with_context(|| format!("setting the offloads of {name}"))?;
        }
        let tun = Self { file, name: name.to_owned(), index: nix::net::if_::if_nametoindex(name)?, kind };
        // Before the device goes up, so that nothing of the kernel's own is ever sent.
        let ipv6 = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
        if ipv6.exists() {
            std::fs::write(&ipv6, "1").with_context(|| format!("writing {}", ipv6.display()))?;
        }
        tun.set_mtu(mtu)?;
        ioctl::set_flags(&control()?, &ioctl::with_flags(name, libc::IFF_UP)?)
            .with_context(|| format!("bringing {name} up"))?;
        Ok(tun)
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's index in its namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Changes the MTU, in bytes.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it; from the namespace that the device is in only.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let value = i32::try_from(mtu).context("an MTU")?;
        ioctl::set_mtu(&control()?, &ioctl::with_mtu(&self.name, value)?)
            .with_context(|| format!("setting the MTU of {} to {mtu}", self.name))?;
        Ok(())
    }

    /// Deletes the device, from the namespace that it is in; it is gone when this returns, which after a mere drop it need
    /// not be.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn delete(self) -> Result<()> {
        run(&format!("ip link delete {}", self.name))
    }

    /// Lets a packet arrive. The kernel has dealt with it when this returns, up to what it queued.
    ///
    /// # Errors
    ///
    /// Where the kernel does not take it.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.send_merged(VnetHeader::default(), packet)
    }

    /// As [`Tun::send`], with what the header says.
    ///
    /// # Errors
    ///
    /// Where the kernel does not take it, or the device knows no such headers and this is not the default one.
    pub fn send_merged(&mut self, header: VnetHeader, packet: &[u8]) -> Result<()> {
        let bytes = self.framed(header, packet)?;
        self.send_framed(&bytes)
    }

    /// A packet with what stands in front of it on this device, for [`Tun::send_framed`].
    ///
    /// # Errors
    ///
    /// Where the device knows no such headers and this is not the default one.
    pub fn framed(&self, header: VnetHeader, packet: &[u8]) -> Result<Vec<u8>> {
        Ok(match self.kind {
            Kind::TunVnet { .. } => [&header.to_bytes()[..], packet].concat(),
            Kind::Tun | Kind::Tap => {
                ensure!(header == VnetHeader::default(), "{} has no vnet headers", self.name);
                packet.to_vec()
            }
        })
    }

    /// As [`Tun::send_merged`], with nothing done but the system call.
    ///
    /// # Errors
    ///
    /// Where the kernel does not take it.
    pub fn send_framed(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write(bytes).with_context(|| format!("writing a packet to {}", self.name))?;
        ensure!(written == bytes.len(), "{} took {written} of {} bytes", self.name, bytes.len());
        Ok(())
    }

    /// The next packet that was sent out of the device; waits for it.
    ///
    /// # Errors
    ///
    /// Where none comes within five seconds.
    pub fn receive(&mut self) -> Result<(VnetHeader, Vec<u8>)> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(packet) = self.try_receive()? {
                return Ok(packet);
            }
            let left = end.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).context("a short time")?;
            if poll(&mut ready, timeout).context("waiting for a packet")? == 0 {
                bail!("no packet came out of {} within {DEADLINE:?}", self.name);
            }
        }
    }

    /// The next packet that was sent out of the device, if there is one.
    ///
    /// # Errors
    ///
    /// Where the device cannot be read.
    pub fn try_receive(&mut self) -> Result<Option<(VnetHeader, Vec<u8>)>> {
        let mut bytes = vec![0; LARGEST];
        let length = match self.file.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.name)),
        };
        bytes.truncate(length);
        Ok(Some(match self.kind {
            Kind::TunVnet { .. } => {
                let packet = bytes.split_off(VnetHeader::LEN);
                (VnetHeader::from_bytes(&bytes), packet)
            }
            Kind::Tun | Kind::Tap => (VnetHeader::default(), bytes),
        }))
    }
}

/// A socket that device ioctls are asked through, in the calling thread's namespace.
fn control() -> Result<std::os::fd::OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context("opening a socket")
}

/// The four ioctls, each with its own argument.
mod ioctl {
    use super::*;

    /// `struct ifreq` with a name and flags.
    pub(super) fn with_flags(name: &str, flags: i32) -> Result<libc::ifreq> {
        let mut request = named(name)?;
        request.ifr_ifru.ifru_flags = flags.try_into().context("device flags")?;
        Ok(request)
    }

    /// `struct ifreq` with a name and an MTU.
    pub(super) fn with_mtu(name: &str, mtu: i32) -> Result<libc::ifreq> {
        let mut request = named(name)?;
        request.ifr_ifru.ifru_mtu = mtu;
        Ok(request)
    }

    fn named(name: &str) -> Result<libc::ifreq> {
        ensure!(name.len() < libc::IFNAMSIZ, "{name} is too long for a device");
        // SAFETY: the C struct is plain data, and all zeroes are a value of it.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *place = byte as libc::c_char;
        }
        Ok(request)
    }

    pub(super) fn create(tun: &File, request: &libc::ifreq) -> io::Result<()> {
        // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
        done(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, request) })
    }

    pub(super) fn set_offload(tun: &File, offload: u32) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes a number.
        done(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) })
    }

    pub(super) fn set_mtu(socket: &impl std::os::fd::AsRawFd, request: &libc::ifreq) -> io::Result<()> {
        // SAFETY: SIOCSIFMTU reads one ifreq, which outlives the call.
        done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, request) })
    }

    pub(super) fn set_flags(socket: &impl std::os::fd::AsRawFd, request: &libc::ifreq) -> io::Result<()> {
        // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
        done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request) })
    }

    fn done(answer: libc::c_int) -> io::Result<()> {
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
