//! WireGuard devices, read and configured through wireguard-control: the kernel's over netlink, userspace ones over
//! their UAPI socket.
//!
//! That crate has edges, and this module is where they are filed off:
//! - reading splits a peer where a netlink message ends: [`read`] merges by key;
//! - one peer with more than some 256 prefixes does not fit a message, and the error prints its preshared key: peers
//!   are sent in pieces, and no text of that crate leaves this module;
//! - applying overwrites whoever's interface has the name, creates a missing one, or starts `wireguard-go`: nothing is
//!   applied before the interface is proved to be there, marked as ours and (userspace) answering.
//!
//! Peers are only ever added, changed and removed one by one: `replace_peers` would cost every session.
//! All functions block for as long as the kernel or the socket takes; the socket gets [`ANSWER`].

mod error;
mod owner;
mod translate;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use nix::libc;
use wireguard_control as wg;

pub use self::error::{NoKernelWireGuard, WireGuardError};
use self::translate::{device, name as wg_name, pieces};
use crate::{
    desired::Backend,
    key::{PresharedKey, PrivateKey, PublicKey},
    name::InterfaceName,
    observed::Device,
};

/// How long a UAPI socket may take to answer the empty request that goes before every real one.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long gotatun may take to close a UDP socket that it has replaced; measured: 1 ms.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Allowed IPs of one peer in one message. A netlink message of wireguard-control holds 8 KiB; an IPv6 prefix takes 40
/// bytes of it, and the peer around them not more than 200.
const PREFIXES_PER_MESSAGE: usize = 128;

/// Peers in one request to a UAPI socket.
const PEERS_PER_REQUEST: usize = 512;

/// The device's own settings. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// The key.
    pub private_key: Option<&'a PrivateKey>,
    /// UDP port, 1 to 65,535.
    pub listen_port: Option<u16>,
}

/// One change to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// The peer is to be there, and to be so.
    Set {
        /// Who.
        public_key: PublicKey,
        /// `None` clears it.
        preshared_key: Option<PresharedKey>,
        /// `None` leaves what is there: WireGuard cannot forget an endpoint.
        endpoint: Option<SocketAddr>,
        /// All of them; others of this peer go.
        allowed_ips: Vec<IpNet>,
        /// Seconds; `None` for off.
        keepalive: Option<u16>,
    },
    /// The peer, which is there, is to be dialled at another address; all else stays.
    Dial {
        /// Who.
        public_key: PublicKey,
        /// Where.
        endpoint: SocketAddr,
    },
    /// The peer is not to be there.
    Remove(PublicKey),
}

impl PeerChange {
    /// Whose.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        match self {
            Self::Set { public_key, .. } | Self::Dial { public_key, .. } | Self::Remove(public_key) => {
                public_key
            }
        }
    }
}

/// Whether the kernel has WireGuard.
///
/// It is asked for its generic netlink family, as wireguard-tools do: that covers what is built in, loads the module
/// where there is one, respects who forbade it, and makes no interface that udev or networkd would see.
///
/// # Errors
/// Why it has none, or why nobody could tell.
pub fn kernel_available() -> Result<(), NoKernelWireGuard> {
    // Every network namespace has `lo`, which is no WireGuard; only the family itself can say so.
    let Err(error) = wg::Device::get(&wg_name("lo"), wg::Backend::Kernel) else { return Ok(()) };
    match error.raw_os_error().map(i32::abs) {
        Some(libc::EOPNOTSUPP) => Ok(()),
        Some(libc::ENOENT) => Err(NoKernelWireGuard::Missing),
        Some(libc::EPERM | libc::EACCES) => Err(NoKernelWireGuard::NotPermitted),
        _ => Err(NoKernelWireGuard::Unclear(error::plain(&error))),
    }
}

/// Reads a device, whoever owns it. `None` when there is no such interface (kernel) or nobody answers at its socket
/// (userspace).
///
/// # Errors
/// Not permitted; the interface is no WireGuard; the socket hangs.
pub fn read(name: &InterfaceName, backend: Backend) -> Result<Option<Device>, WireGuardError> {
    if backend == Backend::Userspace && !answers(name)? {
        return Ok(None);
    }
    match wg::Device::get(&wg_name(name.as_str()), backend.into()) {
        Ok(read) => Ok(Some(device(read))),
        Err(error) => match error.raw_os_error().map(i32::abs) {
            Some(libc::ENODEV) => Ok(None),
            // No family: no kernel WireGuard, hence no device of it.
            Some(libc::ENOENT) if backend == Backend::Kernel => Ok(None),
            Some(libc::EOPNOTSUPP) => Err(WireGuardError::NotWireGuard(name.to_string())),
            _ => Err(WireGuardError::failed("read WireGuard interface", name, &error)),
        },
    }
}

/// Sets the key and the port of an interface of ours. What is so already is not set again.
///
/// # Errors
/// [`WireGuardError::NotOurs`], [`WireGuardError::Absent`], [`WireGuardError::NoSocket`],
/// [`WireGuardError::PortTaken`]; the kernel or the socket refuses.
pub fn configure(
    name: &InterfaceName,
    backend: Backend,
    settings: Settings<'_>,
) -> Result<(), WireGuardError> {
    ensure_ours(name, backend)?;
    let before = read(name, backend)?.ok_or_else(|| WireGuardError::Absent(name.to_string()))?;
    let key = settings.private_key.filter(|key| before.public_key != Some(key.public_key()));
    let port = settings.listen_port.filter(|&port| port != before.listen_port);
    if let Some(port) = port {
        // The kernel finds a taken port only when the interface is brought up, and gotatun takes a port that it could
        // not bind for the one it has.
        ensure_free(name, port)?;
    }
    match (backend, key, port) {
        (_, None, None) => Ok(()),
        (Backend::Userspace, Some(_), None) if before.listen_port != 0 => {
            // gotatun binds anew for a new key, and has then not yet let go of the port.
            set_device(name, backend, key, Some(0))?;
            wait_until_free(name, before.listen_port)?;
            set_device(name, backend, None, Some(before.listen_port))
        }
        _ => {
            let done = set_device(name, backend, key, port);
            if done.is_err() && backend == Backend::Userspace {
                // Taken between the look and the bind. Going back makes the next attempt a real one; if that fails
                // too, the first error is still the one to report.
                let _ = set_device(name, backend, None, Some(before.listen_port));
            }
            done
        }
    }
}

fn set_device(
    name: &InterfaceName,
    backend: Backend,
    key: Option<&PrivateKey>,
    port: Option<u16>,
) -> Result<(), WireGuardError> {
    let mut update = wg::DeviceUpdate::new();
    if let Some(key) = key {
        update = update.set_private_key(wg::Key(*key.expose()));
    }
    if let Some(port) = port {
        update = update.set_listen_port(port);
    }
    update.apply(&wg_name(name.as_str()), backend.into()).map_err(|error| {
        match (error.raw_os_error().map(i32::abs), port) {
            (Some(libc::EADDRINUSE), Some(port)) => {
                WireGuardError::PortTaken { name: name.to_string(), port, cause: error::plain(&error) }
            }
            _ => WireGuardError::failed("set key and port of WireGuard interface", name, &error),
        }
    })
}

/// Changes peers of an interface of ours, each alone; those not named stay untouched. gotatun makes a changed peer
/// anew (session and counters start over), the kernel does not.
///
/// # Errors
/// [`WireGuardError::NotOurs`], [`WireGuardError::Absent`], [`WireGuardError::NoSocket`]; the kernel or the socket
/// refuses, and then the changes before the refused one are in force.
pub fn set_peers(
    name: &InterfaceName,
    backend: Backend,
    changes: &[PeerChange],
) -> Result<(), WireGuardError> {
    if changes.is_empty() {
        return Ok(());
    }
    ensure_ours(name, backend)?;
    let per_request = match backend {
        Backend::Kernel => usize::MAX, // wireguard-control packs netlink messages itself
        Backend::Userspace => PEERS_PER_REQUEST,
    };
    let per_message = match backend {
        Backend::Kernel => PREFIXES_PER_MESSAGE,
        Backend::Userspace => usize::MAX, // a UAPI request has no size, and names each peer once
    };
    for some in changes.chunks(per_request) {
        let mut update = wg::DeviceUpdate::new();
        for change in some {
            update = pieces(change, per_message).into_iter().fold(update, wg::DeviceUpdate::add_peer);
        }
        let applied = update.apply(&wg_name(name.as_str()), backend.into());
        applied
            .map_err(|error| WireGuardError::failed("change peers of WireGuard interface", name, &error))?;
    }
    Ok(())
}

fn ensure_ours(name: &InterfaceName, backend: Backend) -> Result<(), WireGuardError> {
    owner::ensure_ours(name, backend)?;
    if backend == Backend::Userspace && !answers(name)? {
        return Err(WireGuardError::NoSocket { name: name.to_string(), path: socket_path(name) });
    }
    Ok(())
}

/// Where wireguard-control and `wg` look for a userspace device.
#[must_use]
pub fn socket_path(name: &InterfaceName) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{name}.sock"))
}

/// Whether the UAPI socket of this name was opened in the calling thread's network namespace: sockets belong to a
/// namespace, while their files are wherever /var/run is shared, and two namespaces may have an interface of one name.
#[must_use]
pub fn socket_is_here(name: &InterfaceName) -> bool {
    let listed = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
    // Bound as /var/run or as /run, which is the same place.
    let file = format!("/run/wireguard/{name}.sock");
    listed.lines().any(|line| line.ends_with(&file))
}

/// Whether somebody answers at the UAPI socket: an empty `set` changes nothing and is answered at once.
/// wireguard-control waits without end for the answer to its own request.
fn answers(name: &InterfaceName) -> Result<bool, WireGuardError> {
    let ask = || -> std::io::Result<()> {
        let mut socket = UnixStream::connect(socket_path(name))?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_write_timeout(Some(ANSWER))?;
        socket.write_all(b"set=1\n\n")?;
        let mut answer = [0; 8];
        socket.read_exact(&mut answer)?;
        if &answer == b"errno=0\n" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    };
    match ask() {
        Ok(()) => Ok(true),
        Err(error) if [libc::ENOENT, libc::ECONNREFUSED].map(Some).contains(&error.raw_os_error()) => {
            Ok(false)
        }
        Err(error) => Err(WireGuardError::failed("get an answer from the socket of interface", name, &error)),
    }
}

/// Binds the port in both families and lets go of it again.
fn ensure_free(name: &InterfaceName, port: u16) -> Result<(), WireGuardError> {
    for any in
        [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]
    {
        match UdpSocket::bind(any) {
            // Without IPv6 the IPv4 port alone is what WireGuard will use.
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
            Err(cause) => return Err(WireGuardError::PortTaken { name: name.to_string(), port, cause }),
        }
    }
    Ok(())
}

/// As [`ensure_free`], for a port that its holder is about to let go.
fn wait_until_free(name: &InterfaceName, port: u16) -> Result<(), WireGuardError> {
    let start = Instant::now();
    loop {
        match ensure_free(name, port) {
            Err(error) if start.elapsed() > LETTING_GO => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
            Ok(()) => return Ok(()),
        }
    }
}
