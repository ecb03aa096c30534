//! WireGuard without the kernel's: gotatun inside this process, on a TUN device, with the UAPI socket by which
//! [`crate::kernel::wireguard`] and `wg` configure it like any other.
//!
//! It lives on a thread and a tokio runtime of its own, so that whoever blocks on the socket never waits for himself,
//! and in the network namespace of the thread that starts it. Device and socket end with it, also by kill -9: the
//! kernel removes the device, and the socket left behind refuses connections, by which the next one knows it.

mod error;
mod socket;
mod tun;

use std::{sync::mpsc, thread::JoinHandle};

use gotatun::device::{
    DefaultDeviceTransports, Device, DeviceBuilder,
    uapi::{UapiClient, UapiServer},
};
use tokio::sync::{oneshot, watch};

pub use self::error::UserspaceError;
use self::{
    socket::UapiSocket,
    tun::{Tun, Watch},
};
use crate::{key::PrivateKey, name::InterfaceName};

/// Largest MTU: gotatun's packet buffers are 4,096 bytes (`PacketBufPool`), WireGuard's data message takes 32 of them
/// and pads to 16.
pub const MAX_MTU: u32 = 4096 - 32;

/// Bytes of UDP asked of the kernel for each direction, which gives as much as `net.core.[rw]mem_max` allows: handshakes and
/// bursts wait there while both cores encrypt.
const UDP_BUFFER: usize = 4 << 20;

/// Removes the socket that a killed process left behind; says whether there was one. A live one stays.
///
/// # Errors
/// It cannot be removed.
pub fn remove_leftovers(name: &InterfaceName) -> Result<bool, UserspaceError> {
    socket::remove_stale(name).map_err(|cause| UserspaceError::failed("remove the socket of", name, cause))
}

/// A running userspace WireGuard. Dropping it ends it and waits until device and socket are gone.
#[derive(Debug)]
pub struct Userspace {
    stop: Option<oneshot::Sender<()>>,
    ended: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Userspace {
    /// Creates the device `name`, marked as relay's, down, without addresses, peers or port, and with a key that
    /// nobody knows until it is configured; and its socket. `mtu` in bytes, at most [`MAX_MTU`].
    ///
    /// # Errors
    /// The name or the socket belongs to somebody else; no TUN here; not permitted.
    pub fn start(name: &InterfaceName, mtu: u32) -> Result<Self, UserspaceError> {
        if mtu > MAX_MTU {
            return Err(UserspaceError::MtuTooLarge { name: name.to_string(), mtu });
        }
        let (report, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let thread = std::thread::Builder::new().name(format!("{name} userspace")).spawn({
            let name = name.clone();
            move || {
                let reason = live(&name, mtu, &report, stopped);
                // Everything is gone by here, so whoever hears it may start anew. Nobody listening is no failure.
                let _ = end.send(reason);
            }
        });
        let thread = thread.map_err(|cause| UserspaceError::failed("start a thread for", name, cause))?;
        let this = Self { stop: Some(stop), ended, thread: Some(thread) };
        match started.recv() {
            Ok(Ok(())) => Ok(this),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(UserspaceError::Crashed(name.to_string())),
        }
    }

    /// Waits until it ends by itself, which it does when its device is deleted, and says why.
    /// By then device and socket are gone.
    pub async fn fatal(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its thread crashed".to_owned(),
        }
    }

    /// Ends it; returns when device and socket are gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Not received means ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A crash has been printed by the panic hook and is told by `fatal`.
            let _ = thread.join();
        }
    }
}

impl Drop for Userspace {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread: reports once whether it could start, then serves until it is stopped (`None`) or fails (the reason).
fn live(
    name: &InterfaceName,
    mtu: u32,
    report: &mpsc::Sender<Result<(), UserspaceError>>,
    stopped: oneshot::Receiver<()>,
) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("gotatun").build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            // The other side waits for exactly this message.
            let _ = report.send(Err(UserspaceError::failed("start a runtime for", name, cause)));
            return None;
        }
    };
    let reason = runtime.block_on(async {
        let Parts { index, device, watch, socket, client } = match start(name, mtu).await {
            Ok(parts) => parts,
            Err(error) => {
                let _ = report.send(Err(error));
                return None;
            }
        };
        let _ = report.send(Ok(()));
        // gotatun's own word for a fatal error is not asked: it may give it while it does no more than bind a new port
        // (`Connection::stop` ends its tasks one after the other, and the first to go can look fatal to the next).
        let reason = tokio::select! {
            _ = stopped => None,
            () = watch.deleted() => Some("its TUN device was deleted".to_owned()),
            error = socket.serve(client) => Some(format!("its socket failed: {error}")),
        };
        device.stop().await;
        tun::remove(index);
        reason
    });
    drop(runtime);
    reason
}

/// What a running one is made of.
struct Parts {
    index: u32,
    device: Device<DefaultDeviceTransports>,
    watch: Watch,
    socket: UapiSocket,
    client: UapiClient,
}

async fn start(name: &InterfaceName, mtu: u32) -> Result<Parts, UserspaceError> {
    let socket = UapiSocket::claim(name)?;
    let tun = Tun::create(name, mtu)?;
    let (index, watch) = (tun.index(), tun.watch(name)?);
    // gotatun takes a peer before a key for a bug of its caller, and panics.
    let key =
        PrivateKey::generate().map_err(|cause| UserspaceError::failed("make a key for", name, cause))?;
    let (client, server) = UapiServer::new();
    let device = DeviceBuilder::new()
        .with_default_udp()
        .udp_recv_buffer_size(UDP_BUFFER)
        .udp_send_buffer_size(UDP_BUFFER)
        .with_ip(tun.into_gotatun(name)?)
        .with_private_key(gotatun::x25519::StaticSecret::from(*key.expose()))
        .with_uapi(server)
        .build()
        .await
        .map_err(|error| UserspaceError::failed("start", name, std::io::Error::other(error)))?;
    Ok(Parts { index, device, watch, socket, client })
}
