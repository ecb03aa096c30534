//! A tunnel without WireGuard: a TUN device made like `wg0`, in namespaces of its own, whose far end is a test.
//!
//! What the test writes is a decrypted packet from a peer; what it reads is a packet on its way to a peer's encryption.
//! Network, mounts and bpf file system belong to the thread that made them and go with it, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::fs::OpenOptionsExt as _,
    panic,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
};

/// Bytes of `struct virtio_net_hdr` in front of each packet of a tunnel that was made [`Offload::Gso`].
pub const VNET_HEADER: usize = 10;

/// Runs a test on a thread of its own in new network and mount namespaces: an empty bpf file system on /sys/fs/bpf,
/// loopback up. Needs root.
///
/// # Panics
/// Where the test does, or namespaces cannot be made.
pub fn in_namespaces(test: impl FnOnce() -> Result<()> + Send) {
    let outcome = thread::scope(|scope| {
        let body = || {
            enter().context("new namespaces (this test needs root)")?;
            test()
        };
        scope.spawn(body).join()
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(payload) => panic::resume_unwind(payload),
    }
}

fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .context("mount a bpf file system on /sys/fs/bpf")?;
    run("ip link set lo up")
}

/// Runs a command line (split at white space) in the calling thread's namespaces.
///
/// # Errors
/// It cannot be started, or fails; what it printed is in the error.
pub fn run(line: &str) -> Result<()> {
    output(line).map(drop)
}

/// As [`run`], and returns what it wrote to stdout.
///
/// # Errors
/// As [`run`].
pub fn output(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let output = Command::new(program).args(words).output().with_context(|| format!("start `{line}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}`: {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Writes a sysctl of the calling thread's network namespace, by its path under /proc/sys/net.
///
/// # Errors
/// There is none of that name, or the value is refused.
pub fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}

/// What packets on the file descriptor look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Bare IP packets.
    None,
    /// A virtio header ([`VNET_HEADER`]) before each, so that GSO packets and unfinished checksums can pass.
    Gso,
}

/// A TUN device held by this process.
#[derive(Debug)]
pub struct Tunnel {
    file: File,
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

impl Tunnel {
    /// Makes the device, as `wg0` is: no ICMP redirects, no link-local address, point to point. Up, without addresses.
    ///
    /// # Errors
    /// Not root, no /dev/net/tun, or the name is taken.
    pub fn new(name: &str, mtu: u32, offload: Offload) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("open /dev/net/tun")?;
        create(&file, name, offload).with_context(|| format!("make the TUN device {name}"))?;
        let index = nix::net::if_::if_nametoindex(name)?;
        let tunnel = Self { file, name: name.to_owned(), index };
        sysctl("ipv4/conf/all/send_redirects", "0")?;
        sysctl(&format!("ipv4/conf/{name}/send_redirects"), "0")?;
        sysctl(&format!("ipv6/conf/{name}/addr_gen_mode"), "1")?;
        run(&format!("ip link set {name} mtu {mtu} up"))?;
        Ok(tunnel)
    }

    /// A packet from a peer, just decrypted.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let written = (&self.file).write(packet).with_context(|| format!("write {} bytes", packet.len()))?;
        ensure!(written == packet.len(), "only {written} of {} bytes were taken", packet.len());
        Ok(())
    }

    /// The next packet on its way to a peer; `None` when there is none within `patience`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience)?;
        if poll(&mut ready, timeout)? == 0 {
            return Ok(None);
        }
        let mut packet = vec![0; VNET_HEADER + 65_536];
        let length = (&self.file).read(&mut packet).context("read from the TUN device")?;
        packet.truncate(length);
        Ok(Some(packet))
    }
}

/// `struct ifreq` with the member that TUNSETIFF reads, include/uapi/linux/if.h.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

mod ioctl {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, super::Request);
    nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
}

fn create(file: &File, name: &str, offload: Offload) -> Result<()> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    ensure!(name.len() < request.name.len(), "the name is too long");
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let flags = match offload {
        Offload::None => libc::IFF_TUN | libc::IFF_NO_PI,
        Offload::Gso => libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR,
    };
    request.flags = flags as libc::c_short;
    // SAFETY: the request has the size and layout of `struct ifreq`, and the kernel only reads it during the call.
    unsafe { ioctl::set_interface(file.as_raw_fd(), &raw const request) }.context("TUNSETIFF")?;
    if offload == Offload::Gso {
        let flags = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: takes a number and checks it.
        unsafe { ioctl::set_offload(file.as_raw_fd(), flags as libc::c_int) }.context("TUNSETOFFLOAD")?;
    }
    Ok(())
}
