//! The TUN device, made as like to a kernel WireGuard interface as a TUN can be.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd as _, IntoRawFd as _},
};

use gotatun::tun::{tun, tun_async_device::TunDevice};
use nix::libc;
use rtnetlink::packet_route::link::LinkAttribute;
use tokio::io::{Interest, unix::AsyncFd};

use super::UserspaceError;
use crate::{kernel::rtnl, name::InterfaceName, observed::MARK};

/// A TUN device of ours, which the kernel removes with its last descriptor.
pub(super) struct Tun {
    file: File,
    index: u32,
}

impl Tun {
    /// Creates it, exclusively: without `IFF_TUN_EXCL` the kernel would hand out somebody else's persistent device.
    pub(super) fn create(name: &InterfaceName, mtu: u32) -> Result<Self, UserspaceError> {
        let failed = |act| move |cause| UserspaceError::failed(act, name, cause);
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let file = file.map_err(failed("open /dev/net/tun for"))?;
        attach(&file, name).map_err(|cause| match cause.raw_os_error() {
            // EINVAL is the kernel's word for a device of another kind (drivers/net/tun.c, tun_set_iff).
            Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => UserspaceError::NameTaken(name.to_string()),
            _ => failed("create")(cause),
        })?;
        let attributes = vec![LinkAttribute::IfAlias(MARK.to_owned()), LinkAttribute::Mtu(mtu)];
        rtnl::set_link(name.as_str(), attributes).map_err(failed("mark"))?;
        tune(name).map_err(failed("tune"))?;
        let index = rtnl::link(name.as_str()).map_err(failed("look up"))?.header.index;
        Ok(Self { file, index })
    }

    /// Its index.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Tells when the device is deleted by somebody else. Needs a tokio runtime.
    pub(super) fn watch(&self, name: &InterfaceName) -> Result<Watch, UserspaceError> {
        // With no interest but this the packets wake nobody.
        let failed = |cause| UserspaceError::failed("watch", name, cause);
        let file = self.file.try_clone().map_err(failed)?;
        // SAFETY: the descriptor is the `File`'s own, which neither closes nor exchanges it while it lives.
        let watch = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        watch.map(Watch).map_err(|error| failed(error.into()))
    }

    /// Hands it over to gotatun. Needs a tokio runtime.
    pub(super) fn into_gotatun(self, name: &InterfaceName) -> Result<TunDevice, UserspaceError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            UserspaceError::failed("serve", name, io::Error::other(error))
        };
        let mut configuration = tun::Configuration::default();
        // The name is what it asks the MTU of; the descriptor is its own from here on, to be closed by it.
        configuration.tun_name(name.as_str()).raw_fd(self.file.into_raw_fd());
        configuration.platform_config(|platform| {
            platform.ensure_root_privileges(false);
        });
        let device = tun::create_as_async(&configuration).map_err(|error| failed(error.into()))?;
        TunDevice::from_tun_device(device).map_err(|error| failed(error.into()))
    }
}

/// Removes the device. The kernel does so with the last descriptor, but a child of this process may hold a copy of that
/// between its fork and its exec.
pub(super) fn remove(index: u32) {
    // What cannot be removed goes with that descriptor.
    let _ = rtnl::delete_link(index);
}

/// A TUN device whose end is waited for. gotatun cannot: the kernel then reports an error and nothing to read, which
/// wakes no reader in tokio (drivers/net/tun.c, `tun_chr_poll`).
pub(super) struct Watch(AsyncFd<File>);

impl Watch {
    /// Returns when the device is gone.
    pub(super) async fn deleted(&self) {
        // The error of a runtime that ends is as good a reason to end.
        let _ = self.0.ready(Interest::ERROR).await;
    }
}

fn attach(file: &File, name: &InterfaceName) -> io::Result<()> {
    // SAFETY: `ifreq` is a C struct of integers, arrays and a union of such; all zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name has at most 15 bytes, so the last of the 16 stays zero.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    // The flags are 16 bits wide in the kernel; IFF_TUN_EXCL is their sign.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which `request` is.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Kernel WireGuard sends no redirects and gives itself no link-local address (drivers/net/wireguard/device.c,
/// `wg_open`); a TUN does both unless told. These values vanish with the device. What is not there (IPv6 turned off at
/// boot) needs no tuning.
fn tune(name: &InterfaceName) -> io::Result<()> {
    for (path, value) in [
        (format!("/proc/sys/net/ipv4/conf/{name}/send_redirects"), "0"),
        (format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1"),
    ] {
        match std::fs::write(path, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
