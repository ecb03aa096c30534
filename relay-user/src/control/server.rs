//! The daemon's end of the control socket.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Reply, Request,
    conversation::{REST, conversation},
    places::Places,
};
use crate::{metrics as prometheus, report::Refusal};

/// Group whose members may ask, if it exists; otherwise only root may.
pub const GROUP: &str = "relay";

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error(
        "another relay answers on {0}; stop it first (`relay down`), or give this one its own `--socket`"
    )]
    Taken(PathBuf),
    /// The file system said no.
    #[error("cannot open the control socket {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open socket; its file goes away with it.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl ControlSocket {
    /// Binds `path`, 0660 `root:relay` (0600 where there is no such group). A file that a killed relay left behind is
    /// replaced; a socket on which somebody answers is not.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Io { path: path.to_owned(), source };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(SocketError::Taken(path.to_owned()));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        // Born closed to everybody else: the mode is widened only once the group is right.
        let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(old);
        let listener = bound.map_err(fail)?;
        if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
            nix::unistd::chown(path, None, Some(group.gid)).map_err(|errno| fail(errno.into()))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
        }
        Ok(Self { path: path.to_owned(), listener: Some(listener) })
    }

    /// Answers until `stop` resolves, then finishes the answers that are under way. Requests go to the daemon's loop one
    /// by one; a slow reader holds up nobody but itself, and of too many the first is hung up on.
    ///
    /// # Errors
    /// The socket broke.
    pub fn serve<S>(
        &mut self,
        requests: mpsc::Sender<Request>,
        stop: S,
    ) -> impl Future<Output = io::Result<()>> + use<S>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = self.listener.take();
        let router = Router::new()
            .route("/status", get(status))
            .route("/stats", get(stats))
            .route("/metrics", get(metrics))
            .route("/reload", post(reload))
            .route("/down", post(down))
            .with_state(requests);
        async move {
            let Some(listener) = listener else { return Ok(()) };
            let (mut places, ending) = (Places::default(), GracefulShutdown::new());
            tokio::pin!(stop);
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            let caller = Caller::of(&stream);
                            let talk = conversation(stream, router.clone().layer(Extension(caller)));
                            let talk = tokio::spawn(ending.watch(talk));
                            places.take(caller.is_root(), talk.abort_handle());
                        }
                        Err(_) => sleep(REST).await,
                    },
                }
            }
            ending.shutdown().await;
            Ok(())
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Who is at the other end; `None` where the kernel does not say.
#[derive(Clone, Copy, Debug)]
struct Caller(Option<u32>);

impl Caller {
    fn of(stream: &UnixStream) -> Self {
        Self(stream.peer_cred().ok().map(|credentials| credentials.uid()))
    }

    fn is_root(self) -> bool {
        self.0 == Some(0)
    }
}

pub(crate) type Requests = State<mpsc::Sender<Request>>;

async fn status(requests: Requests) -> Response {
    match ask(requests, Request::Status).await {
        Ok(status) => Json(status).into_response(),
        Err(gone) => gone,
    }
}

async fn stats(requests: Requests) -> Response {
    answer(ask(requests, Request::Stats).await)
}

/// The control socket's and the TCP listener's.
pub(crate) async fn metrics(requests: Requests) -> Response {
    match ask(requests, Request::Metrics).await {
        Ok(Ok(snapshot)) => {
            ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::render(&snapshot))
                .into_response()
        }
        refused => answer::<()>(refused.map(|result| result.map(drop))),
    }
}

async fn reload(requests: Requests) -> Response {
    answer(ask(requests, Request::Reload).await)
}

/// The group may look and reload what root wrote; it may not end the hub.
async fn down(Extension(caller): Extension<Caller>, requests: Requests) -> Response {
    if !caller.is_root() {
        let message = "only root may take the hub down; run this with sudo".to_owned();
        return answer::<()>(Ok(Err(Refusal { message })));
    }
    answer(ask(requests, Request::Down).await)
}

async fn ask<T>(State(requests): Requests, request: fn(Reply<T>) -> Request) -> Result<T, Response> {
    let gone = || (StatusCode::SERVICE_UNAVAILABLE, "relay is going down").into_response();
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

fn answer<T: serde::Serialize>(result: Result<Result<T, Refusal>, Response>) -> Response {
    match result {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(refusal)) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
        Err(gone) => gone,
    }
}
