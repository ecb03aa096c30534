//! The control socket: HTTP over a Unix socket, so that `curl --unix-socket` can ask what `relay` can ask.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`crate::report::Status`] |
//! | `GET /stats` | [`crate::report::Stats`] |
//! | `GET /metrics` | the same and more as Prometheus takes it, by [`crate::metrics`] |
//! | `POST /reload` | [`crate::report::Reloaded`], or 422 and [`crate::report::Refusal`]: the old state stays in force |
//! | `POST /down` | 200 once everything is taken down; the daemon ends then. Root only, or 422 |

pub mod client;
mod conversation;
pub mod listener;
mod places;
pub mod server;

/// One request on its way to the daemon's loop, with the place for its answer.
#[derive(Debug)]
pub enum Request {
    /// How are you?
    Status(Reply<crate::report::Status>),
    /// Counters.
    Stats(Reply<Result<crate::report::Stats, crate::report::Refusal>>),
    /// All that Prometheus may know.
    Metrics(Reply<Result<crate::metrics::Snapshot, crate::report::Refusal>>),
    /// Read the file again and apply it.
    Reload(Reply<Result<crate::report::Reloaded, crate::report::Refusal>>),
    /// Take everything down and end.
    Down(Reply<Result<crate::report::Reloaded, crate::report::Refusal>>),
}

/// Where an answer goes.
pub type Reply<T> = tokio::sync::oneshot::Sender<T>;
