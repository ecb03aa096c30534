//! What the service manager is told (sd_notify(3)): that the hub is up, how it is, and that the loop still turns.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) nothing is told to anybody.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// How often it is fed at most: the loop may turn a thousand times a second, and each message wakes the manager.
const FEED: Duration = Duration::from_secs(2);

/// The conversation with the service manager.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// What it was told last, and when.
    told: Option<(String, Instant)>,
}

impl ServiceManager {
    /// The hub is up, or a reload is over, well or not.
    pub fn ready(&mut self, status: String) {
        tell(&[NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status(&status)]);
        self.told = Some((status, Instant::now()));
    }

    /// The loop has turned. A loop that hangs says nothing, and the manager starts the daemon anew.
    pub fn alive(&mut self, status: String) {
        let told = |(before, at): &(String, Instant)| *before == status && at.elapsed() < FEED;
        if !self.told.as_ref().is_some_and(told) {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
            self.told = Some((status, Instant::now()));
        }
    }

    /// The file is read again; [`ServiceManager::ready`] follows.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("the service manager does not learn of the reload: {error}"),
        }
    }

    /// The daemon ends; the words stay for `systemctl status` to show.
    pub fn stopping(&self, status: &str) {
        tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager is not told: {error}");
    }
}
