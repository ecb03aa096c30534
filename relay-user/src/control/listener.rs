//! The TCP listener of `[metrics]`: `GET /metrics`, and nothing else.
//!
//! A listener that cannot be had is a problem to report and to try again, never a reason not to forward.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    Request,
    conversation::{REST, conversation},
    server,
};

/// Conversations at a time. One Prometheus needs one; those who ask and never read must not eat up the daemon's
/// descriptors.
const CONVERSATIONS: usize = 16;

/// Longest conversation: three times Prometheus' own patience, which is ten seconds by default.
const PATIENCE: Duration = Duration::from_secs(30);

/// The listener that shall be, and the one that is.
#[derive(Debug)]
pub struct Listener {
    requests: mpsc::Sender<Request>,
    wanted: Option<SocketAddr>,
    running: Option<(SocketAddr, JoinHandle<()>)>,
    problem: Option<String>,
}

impl Listener {
    /// None yet. What is asked goes to `requests`.
    #[must_use]
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests, wanted: None, running: None, problem: None }
    }

    /// Listens at `wanted` from now on, and nowhere else.
    pub async fn follow(&mut self, wanted: Option<SocketAddr>) {
        self.wanted = wanted;
        self.retry().await;
    }

    /// Tries again what did not work.
    pub async fn retry(&mut self) {
        if self.running.as_ref().map(|(address, _)| *address) == self.wanted {
            return;
        }
        self.stop().await;
        let problem = match self.wanted {
            Some(address) => self.listen(address).await.err(),
            None => None,
        };
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(problem)) {
            tracing::warn!("{problem}");
        }
        self.problem = problem;
    }

    /// Why it does not listen, if it should.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    async fn listen(&mut self, address: SocketAddr) -> Result<(), String> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!(
                "cannot listen for Prometheus on {address}: {error}; choose another `listen` under [metrics], \
                 or see who has it with `ss -ltnp`"
            )
        })?;
        tracing::info!("metrics are on http://{address}/metrics");
        let router = Router::new().route("/metrics", get(server::metrics)).with_state(self.requests.clone());
        self.running = Some((address, tokio::spawn(serve(listener, router))));
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            // The port is free once it has ended.
            let _ = task.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.running {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS));
    // Nobody closes it.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    // Whoever takes longer than that has gone, or does not want the answer.
                    let _ = tokio::time::timeout(PATIENCE, conversation(stream, router)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}
