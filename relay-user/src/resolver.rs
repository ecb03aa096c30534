//! Where the hub's name leads, asked for while the hub is silent, and never waited for.
//!
//! A VPS may get another address, and a home may start before its router does. So the name stays a name, and is looked up
//! again for as long as there is no handshake worth the name. A lookup may hang for as long as the system's resolver lets
//! it: it has a thread of its own, of which nobody waits for the end.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How old the last handshake is when a hub counts as silent: what wireguard-tools' reresolve-dns.sh takes. WireGuard
/// renews a session that is in use after 120 s (REKEY_AFTER_TIME, whitepaper 6.1), and a keepalive keeps it in use.
const SILENT_AFTER: Duration = Duration::from_secs(135);

/// From the end of one lookup to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether the hub is silent: there never was a handshake, the last is too old, or the clock went back behind it, so that
/// nobody can tell.
#[must_use]
pub fn is_silent(latest_handshake: Option<SystemTime>, now: SystemTime) -> bool {
    latest_handshake.is_none_or(|at| now.duration_since(at).is_ok_and(|age| age > SILENT_AFTER) || at > now)
}

/// Looks one name up, again and again.
#[derive(Debug, Default)]
pub struct Resolver {
    /// `host:port` that was asked for last.
    endpoint: String,
    under_way: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    /// When the last lookup ended.
    asked: Option<Instant>,
    addresses: Vec<SocketAddr>,
    failure: Option<String>,
}

impl Resolver {
    /// The addresses that `endpoint` has, as far as is known by now; starts a lookup where one is due.
    pub fn ask(&mut self, endpoint: &str) -> Vec<SocketAddr> {
        if self.endpoint != endpoint {
            *self = Self { endpoint: endpoint.to_owned(), ..Self::default() };
        }
        // An address needs no lookup.
        if let Ok(address) = endpoint.parse() {
            return vec![address];
        }
        self.take_answer();
        if self.under_way.is_none() && self.asked.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.start();
        }
        self.addresses.clone()
    }

    /// The hub has spoken: what was found out is of no use any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Why nothing is known, in words.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn start(&mut self) {
        let (sender, receiver) = channel();
        let endpoint = self.endpoint.clone();
        let lookup = move || {
            let found = endpoint.to_socket_addrs().map(Iterator::collect);
            // Nobody may want it any more.
            let _ = sender.send(found);
        };
        match thread::Builder::new().name("resolver".to_owned()).spawn(lookup) {
            Ok(_) => self.under_way = Some(receiver),
            Err(error) => self.failed(&error),
        }
    }

    fn take_answer(&mut self) {
        let Some(under_way) = &self.under_way else { return };
        match under_way.try_recv() {
            Ok(Ok(addresses)) => {
                (self.addresses, self.failure) = (addresses, None);
                self.asked = Some(Instant::now());
                self.under_way = None;
            }
            Ok(Err(error)) => self.failed(&error),
            Err(TryRecvError::Disconnected) => self.failed(&io::Error::other("the lookup ended early")),
            Err(TryRecvError::Empty) => {}
        }
    }

    /// What was known before may still be right, so it stays.
    fn failed(&mut self, error: &io::Error) {
        self.failure = Some(format!(
            "cannot look up the hub's name in {}: {error}; tried again every {} s",
            self.endpoint,
            PAUSE.as_secs()
        ));
        self.asked = Some(Instant::now());
        self.under_way = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_hub_is_silent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (age, silent) in [(0, false), (120, false), (135, false), (136, true), (100_000, true)] {
            assert_eq!(is_silent(Some(now - Duration::from_secs(age)), now), silent, "{age} s");
        }
        assert!(is_silent(None, now), "never heard of");
        assert!(is_silent(Some(now + Duration::from_secs(1)), now), "a clock that went back");
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let mut resolver = Resolver::default();
        for endpoint in ["192.0.2.1:51820", "[2001:db8::1]:443"] {
            assert_eq!(resolver.ask(endpoint), [endpoint.parse().expect("an address")]);
            assert!(resolver.under_way.is_none() && resolver.failure().is_none());
        }
    }

    #[test]
    fn a_name_is_looked_up_beside_and_forgotten() {
        let mut resolver = Resolver::default();
        assert_eq!(resolver.ask("localhost:51820"), [], "nobody waits for it");
        let begun = Instant::now();
        let found = loop {
            let found = resolver.ask("localhost:51820");
            if !found.is_empty() {
                break found;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{resolver:?}");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(found.iter().all(|at| at.ip().is_loopback() && at.port() == 51820), "{found:?}");
        assert_eq!(resolver.ask("[2001:db8::1]:1").len(), 1, "another endpoint is another question");
        resolver.forget();
        assert!(resolver.addresses.is_empty());
    }
}
