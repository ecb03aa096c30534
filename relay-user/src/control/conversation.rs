//! One question and its answer over a connection, on either of the daemon's listeners.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncRead, AsyncWrite};

/// The rest after an accept that failed: the process is out of descriptors, say.
pub(super) const REST: Duration = Duration::from_secs(1);

/// One answer a connection: who asks every quarter of a minute gains nothing from keeping it.
pub(super) fn conversation<S>(
    stream: S,
    router: Router,
) -> http1::Connection<TokioIo<S>, TowerToHyperService<Router>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = TowerToHyperService::new(router);
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service)
}
