//! The UAPI socket: born 0600, taken over only from the dead, gone with its owner.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, PermissionsExt as _},
            net::{UnixListener as StdListener, UnixStream as StdStream},
        },
    },
    path::{Path, PathBuf},
};

use gotatun::device::uapi::{UapiClient, command::Request};
use nix::{
    libc,
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};
use zeroize::Zeroizing;

use super::UserspaceError;
use crate::name::InterfaceName;

/// Where wireguard-go, wireguard-tools and wireguard-control agree to meet.
const FOLDER: &str = "/var/run/wireguard";

/// Longest request, bytes: 10,000 peers with keys and a few prefixes each take some 4 MiB.
const LONGEST: usize = 64 << 20;

/// The listening socket; its file goes with it.
pub(super) struct UapiSocket {
    listener: UnixListener,
    _file: SocketFile,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good; and there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes the socket of this interface if nobody answers at it; says whether there was one.
pub(super) fn remove_stale(name: &InterfaceName) -> io::Result<bool> {
    let path = Path::new(FOLDER).join(format!("{name}.sock"));
    match StdStream::connect(&path) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
            std::fs::remove_file(&path).map(|()| true)
        }
        _ => Ok(false),
    }
}

impl UapiSocket {
    /// Takes the socket of this interface, removing one that a killed process left.
    pub(super) fn claim(name: &InterfaceName) -> Result<Self, UserspaceError> {
        let failed = |cause| UserspaceError::failed("make the socket of", name, cause);
        match DirBuilder::new().mode(0o700).recursive(true).create(FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let path = Path::new(FOLDER).join(format!("{name}.sock"));
        match StdStream::connect(&path) {
            Ok(_) => return Err(UserspaceError::SocketTaken { name: name.to_string(), path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                remove_stale(name).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let listener = listen_at(&path).map_err(failed)?;
        let file = SocketFile(path);
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, _file: file })
    }

    /// Hands requests to gotatun until the socket itself fails.
    pub(super) async fn serve(&self, client: UapiClient) -> io::Error {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let client = client.clone();
                    // A client that goes away in the middle is that client's affair.
                    tokio::spawn(async move { converse(stream, client).await.ok() });
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) => {}
                Err(error) => return error,
            }
        }
    }
}

/// Binds with mode 0600 from birth: the file takes the mode that the descriptor has (net/unix/af_unix.c, `unix_bind_bsd`).
fn listen_at(path: &Path) -> io::Result<StdListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    std::fs::File::from(descriptor.try_clone()?).set_permissions(Permissions::from_mode(0o600))?;
    bind(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&descriptor, Backlog::MAXCONN)?;
    Ok(StdListener::from(descriptor))
}

/// One client: requests of lines up to an empty one, each answered (<https://www.wireguard.com/xplatform/>). What does
/// not parse is answered EINVAL and not repeated anywhere: it may hold keys.
async fn converse(stream: UnixStream, client: UapiClient) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut request = Zeroizing::new(String::new());
    loop {
        let start = request.len();
        if reader.read_line(&mut request).await? == 0 || request.len() > LONGEST {
            return Ok(());
        }
        if &request[start..] != "\n" {
            continue;
        }
        request.truncate(start);
        if start == 0 {
            continue;
        }
        let answer = match request.parse::<Request>() {
            Err(_) => format!("errno={}\n", libc::EINVAL),
            Ok(request) => match client.send(request).await {
                Ok(response) => response.to_string(),
                Err(_) => return Ok(()), // the device has ended
            },
        };
        let answer = Zeroizing::new(answer + "\n");
        writer.write_all(answer.as_bytes()).await?;
        request.clear();
    }
}
