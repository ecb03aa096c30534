//! The commands' end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::report::{Refusal, Reloaded, Stats, Status};

/// Longest wait for an answer. Ten thousand peers are configured in a few seconds; a daemon that needs a minute hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the daemon could not be asked, or what it said no to.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("relay is not running (no answer on {0})")]
    NotRunning(PathBuf),
    /// The socket is there and we may not use it.
    #[error("no permission to ask relay on {0}; run as root, or join the group `relay`")]
    Permission(PathBuf),
    /// It listens and does not answer.
    #[error("relay does not answer on {0} within {PATIENCE:?}")]
    Silent(PathBuf),
    /// It answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The conversation broke.
    #[error("asking relay on {path}: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// How the daemon is.
///
/// # Errors
/// [`ControlError`].
pub async fn status(socket: &Path) -> Result<Status, ControlError> {
    ask(socket, Method::GET, "/status").await
}

/// The daemon's counters.
///
/// # Errors
/// [`ControlError`].
pub async fn stats(socket: &Path) -> Result<Stats, ControlError> {
    ask(socket, Method::GET, "/stats").await
}

/// The daemon's numbers as Prometheus takes them.
///
/// # Errors
/// [`ControlError`].
pub async fn metrics(socket: &Path) -> Result<String, ControlError> {
    let body = answer_to(socket, Method::GET, "/metrics").await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Makes the daemon read its file again, and waits until it is applied.
///
/// # Errors
/// [`ControlError`]; refused when the file is bad, and then the old state is still in force.
pub async fn reload(socket: &Path) -> Result<Reloaded, ControlError> {
    ask(socket, Method::POST, "/reload").await
}

/// Makes the daemon take everything down and end, and waits until that is done.
///
/// # Errors
/// [`ControlError`].
pub async fn down(socket: &Path) -> Result<Reloaded, ControlError> {
    ask(socket, Method::POST, "/down").await
}

async fn ask<T: DeserializeOwned>(socket: &Path, method: Method, path: &str) -> Result<T, ControlError> {
    let body = answer_to(socket, method, path).await?;
    serde_json::from_slice(&body).map_err(|error| not_understood(socket, &error))
}

/// The body of an answer that is no refusal.
async fn answer_to(socket: &Path, method: Method, path: &str) -> Result<Bytes, ControlError> {
    match tokio::time::timeout(PATIENCE, exchange(socket, method, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ControlError::Silent(socket.to_owned())),
    }
}

fn not_understood(socket: &Path, error: &serde_json::Error) -> ControlError {
    let reason = format!("its answer is not understood ({error})");
    ControlError::Broken { path: socket.to_owned(), reason }
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Bytes, ControlError> {
    let broken = |reason: String| ControlError::Broken { path: socket.to_owned(), reason };
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning(socket.to_owned())
        }
        io::ErrorKind::PermissionDenied => ControlError::Permission(socket.to_owned()),
        _ => broken(error.to_string()),
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "relay")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| broken(error.to_string()))?.to_bytes();
    connection.abort();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNPROCESSABLE_ENTITY => {
            let refusal = serde_json::from_slice(&body).map_err(|error| not_understood(socket, &error))?;
            Err(ControlError::Refused(refusal))
        }
        other => Err(broken(format!("it answered {other}"))),
    }
}
