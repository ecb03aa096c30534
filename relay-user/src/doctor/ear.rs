//! Hears who knocks: opens each initiation, keeps what tells something, and knows when it has had too much. Pure.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use super::{
    facts::Heard,
    initiation::{self, MAC1, MAC2, Opened, Sealed},
};
use crate::key::{PrivateKey, PublicKey};

/// Initiations that are opened in one go, each by two X25519: a tenth of a second of one processor. Only what is made for
/// this hub's key comes so far.
const MOST: usize = 1024;
/// What is kept of one peer: it tries again each 5 s.
const OF_ONE: usize = 8;
/// What is kept of those who are no peer.
const STRANGERS: usize = 32;

/// How long WireGuard and whoever knocks may take until the handshake is over: far and slow lines have a second.
const OVER: Duration = Duration::from_secs(2);

/// Who listens.
#[derive(Debug)]
pub struct Ear<'a> {
    hub: &'a PrivateKey,
    peers: BTreeSet<PublicKey>,
    heard: Vec<Heard>,
    told: BTreeSet<Vec<u8>>,
    opened: usize,
}

impl<'a> Ear<'a> {
    /// For this hub, with a mind to these peers.
    pub fn new(hub: &'a PrivateKey, peers: impl IntoIterator<Item = PublicKey>) -> Self {
        let peers = peers.into_iter().collect();
        Self { hub, peers, heard: Vec::new(), told: BTreeSet::new(), opened: 0 }
    }

    /// Takes one in, the same one once.
    pub fn hear(&mut self, from: SocketAddr, at: SystemTime, message: &[u8]) -> ControlFlow<()> {
        let opened = initiation::open(self.hub, message);
        if matches!(opened, Ok(_) | Err(Sealed::Damaged)) {
            self.opened += 1;
        }
        let tells = match &opened {
            // Floods and junk are no peer's trouble.
            Err(Sealed::NotOne | Sealed::Damaged) => false,
            Ok(Opened { from, .. }) if self.peers.contains(from) => self.kept(Some(from)) < OF_ONE,
            Ok(_) | Err(Sealed::OtherHub) => self.kept(None) < STRANGERS,
        };
        if tells && self.told.insert(message.get(MAC1..MAC2).unwrap_or_default().to_vec()) {
            self.heard.push(Heard { from, at, opened });
        }
        if self.opened < MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// How many are kept of a peer, or of those who are none.
    fn kept(&self, peer: Option<&PublicKey>) -> usize {
        let whose = |heard: &&Heard| {
            let from = heard.opened.as_ref().ok().map(|opened| &opened.from);
            from.filter(|from| self.peers.contains(from)) == peer
        };
        self.heard.iter().filter(whose).count()
    }

    /// What it has heard, in the order in which it came.
    #[must_use]
    pub fn heard(self) -> Vec<Heard> {
        self.heard
    }
}

/// How long to wait until WireGuard can be asked what came of it: a handshake under way is none that failed.
#[must_use]
pub fn until_over(heard: &[Heard], now: SystemTime) -> Duration {
    let last = heard.iter().map(|heard| heard.at).max();
    let age = last.map(|last| now.duration_since(last).unwrap_or_default());
    age.map_or(Duration::ZERO, |age| OVER.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::{
        super::initiation::tests::{initiation, private},
        *,
    };

    fn from() -> SocketAddr {
        "198.51.100.9:4242".parse().expect("an address")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn junk_does_not_drown_a_peer() {
        let (hub, home, other) = (private(7), private(9), private(8));
        let mut ear = Ear::new(&hub, [home.public_key()]);
        let theirs = initiation(&home, other.public_key());
        for number in 0..10_000_u32 {
            // Of another hub each, so that nothing need be opened.
            let mut message = theirs.clone();
            message[MAC1..MAC1 + 4].copy_from_slice(&number.to_be_bytes());
            assert!(ear.hear(from(), at(1), &message).is_continue());
        }
        let message = initiation(&home, hub.public_key());
        assert!(ear.hear(from(), at(2), &message).is_continue());
        assert!(ear.hear(from(), at(3), &message).is_continue(), "a bridge shows it twice");
        let heard = ear.heard();
        assert_eq!(heard.len(), STRANGERS + 1);
        let last = heard.last().expect("one");
        assert_eq!((last.at, last.opened.as_ref().map(|opened| opened.from)), (at(2), Ok(home.public_key())));
    }

    #[test]
    fn what_takes_work_is_bounded() {
        let (hub, home) = (private(7), private(9));
        let mut ear = Ear::new(&hub, [home.public_key()]);
        let message = initiation(&home, hub.public_key());
        let heard = (0..2 * MOST).position(|_| ear.hear(from(), at(1), &message).is_break());
        assert_eq!(heard, Some(MOST - 1));
    }

    #[test]
    fn a_handshake_has_its_time() {
        let heard = |seconds| Heard { from: from(), at: at(seconds), opened: Err(Sealed::OtherHub) };
        let seconds = Duration::from_secs;
        assert_eq!(until_over(&[], at(10)), seconds(0));
        assert_eq!(until_over(&[heard(4)], at(10)), seconds(0));
        assert_eq!(until_over(&[heard(4), heard(9)], at(10)), seconds(1));
        assert_eq!(until_over(&[heard(11)], at(10)), OVER, "a clock that steps");
    }
}
