//! What the live view knows: rates out of counters, a minute of them per peer, and what the person at the keyboard chose.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    key::PublicKey,
    report::{PeerStats, Stats},
};

/// How many rates of a peer are kept, one per look: a minute of them.
pub const KEPT: usize = 60;

/// What goes both ways, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Bytes per second from the peer.
    pub received: f64,
    /// Bytes per second to the peer.
    pub sent: f64,
}

impl Rate {
    /// Both ways together.
    #[must_use]
    pub fn total(self) -> f64 {
        self.received + self.sent
    }
}

/// What a peer did of late.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Per look, the newest last, at most [`KEPT`].
    pub rates: VecDeque<Rate>,
    /// Bytes on the fast path ÷ bytes that WireGuard carried, in both directions since the last look; `None` when
    /// nothing moved.
    pub fast_share: Option<f64>,
}

impl Recent {
    /// At the last look.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rates.back().copied().unwrap_or_default()
    }
}

/// In what order peers stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// Whose handshake is newest first.
    Handshake,
    /// Who sends most to the hub first.
    Received,
    /// Who gets most from the hub first.
    Sent,
    /// Who has carried most since the counters began first.
    Total,
}

impl Order {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Handshake => "handshake",
            Self::Received => "received/s",
            Self::Sent => "sent/s",
            Self::Total => "total",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Handshake,
            Self::Handshake => Self::Received,
            Self::Received => Self::Sent,
            Self::Sent => Self::Total,
            Self::Total => Self::Name,
        }
    }
}

/// What a key press asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The next or an earlier peer, by so many rows.
    Move(isize),
    /// The first peer.
    First,
    /// The last peer.
    Last,
    /// Another order.
    Sort,
    /// The same order from its other end.
    Reverse,
}

/// All that the view shows.
#[derive(Debug, Default)]
pub struct Model {
    last: Option<(Duration, Stats)>,
    recent: HashMap<PublicKey, Recent>,
    verdict_rates: BTreeMap<String, f64>,
    guard_drops: Option<f64>,
    /// In what order peers stand.
    pub order: Order,
    /// Whether from the other end.
    pub reversed: bool,
    /// Whom the lower half tells more of: it stays on the peer, whichever row that moves to.
    picked: Option<PublicKey>,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
}

impl Model {
    /// Takes in a look at `now`, a time since whatever moment, always the same.
    pub fn take(&mut self, now: Duration, stats: Stats) {
        self.trouble = None;
        if let Some((then, before)) = &self.last {
            let seconds = now.saturating_sub(*then).as_secs_f64();
            if seconds <= 0.0 {
                return;
            }
            let earlier: HashMap<PublicKey, &PeerStats> =
                before.peers.iter().map(|peer| (peer.public_key, peer)).collect();
            self.recent.retain(|key, _| stats.peers.iter().any(|peer| peer.public_key == *key));
            for peer in &stats.peers {
                // Who was not there has no rate yet: what it has carried may be of any age.
                let Some(before) = earlier.get(&peer.public_key) else { continue };
                let moved = Moved::between(before, peer);
                let recent = self.recent.entry(peer.public_key).or_default();
                if recent.rates.len() == KEPT {
                    recent.rates.pop_front();
                }
                recent.rates.push_back(Rate {
                    received: moved.received as f64 / seconds,
                    sent: moved.sent as f64 / seconds,
                });
                recent.fast_share = moved.fast_share();
            }
            self.guard_drops = before
                .uplink
                .as_ref()
                .zip(stats.uplink.as_ref())
                .map(|(before, now)| grown(before.all_dropped(), now.all_dropped()) as f64 / seconds);
            self.verdict_rates = stats
                .verdicts
                .iter()
                .map(|(name, &count)| {
                    let before = before.verdicts.get(name).copied().unwrap_or(0);
                    (name.clone(), grown(before, count) as f64 / seconds)
                })
                .collect();
        }
        self.last = Some((now, stats));
        if self.picked().is_none() {
            self.picked = self.rows().first().map(|peer| peer.public_key);
        }
    }

    /// The newest counters.
    #[must_use]
    pub fn stats(&self) -> Option<&Stats> {
        self.last.as_ref().map(|(_, stats)| stats)
    }

    /// What a peer did of late.
    #[must_use]
    pub fn recent(&self, peer: &PeerStats) -> Recent {
        self.recent.get(&peer.public_key).cloned().unwrap_or_default()
    }

    /// All peers together at the last look.
    #[must_use]
    pub fn total(&self) -> Rate {
        self.recent.values().fold(Rate::default(), |sum, recent| Rate {
            received: sum.received + recent.rate().received,
            sent: sum.sent + recent.rate().sent,
        })
    }

    /// Packets per second that the guard in front of the listen port dropped; `None` while there is none.
    #[must_use]
    pub fn guard_drops(&self) -> Option<f64> {
        self.guard_drops
    }

    /// Packets redirected ÷ packets seen since the last look; `None` when it saw none.
    #[must_use]
    pub fn fast_path_share(&self) -> Option<f64> {
        let seen: f64 = self.verdict_rates.values().sum();
        let redirected = self.verdict_rates.get(relay_common::Verdict::Redirected.name()).copied();
        (seen > 0.0).then(|| redirected.unwrap_or(0.0) / seen)
    }

    /// Why packets went by the stack, per second and in all, those at work now first; what never happened is left out.
    #[must_use]
    pub fn reasons(&self) -> Vec<(&str, f64, u64)> {
        let Some(stats) = self.stats() else { return Vec::new() };
        let mut reasons: Vec<(&str, f64, u64)> = stats
            .verdicts
            .iter()
            .filter(|(name, count)| **count > 0 && *name != relay_common::Verdict::Redirected.name())
            .map(|(name, &count)| {
                (name.as_str(), self.verdict_rates.get(name).copied().unwrap_or(0.0), count)
            })
            .collect();
        reasons.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)));
        reasons
    }

    /// The peers, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<&PeerStats> {
        let mut rows: Vec<&PeerStats> =
            self.stats().map(|stats| stats.peers.iter().collect()).unwrap_or_default();
        let rate = |peer: &PeerStats| self.recent.get(&peer.public_key).map(Recent::rate).unwrap_or_default();
        rows.sort_by(|a, b| {
            let by_name = || a.name.cmp(&b.name);
            match self.order {
                Order::Name => by_name(),
                Order::Handshake => b.latest_handshake.cmp(&a.latest_handshake).then_with(by_name),
                Order::Received => rate(b).received.total_cmp(&rate(a).received).then_with(by_name),
                Order::Sent => rate(b).sent.total_cmp(&rate(a).sent).then_with(by_name),
                Order::Total => {
                    let total = |peer: &PeerStats| peer.received.bytes.saturating_add(peer.sent.bytes);
                    total(b).cmp(&total(a)).then_with(by_name)
                }
            }
        });
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// The row that is picked, if it still exists.
    #[must_use]
    pub fn picked(&self) -> Option<usize> {
        let picked = self.picked?;
        self.rows().iter().position(|peer| peer.public_key == picked)
    }

    /// Does what a key asks for.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Sort => self.order = self.order.next(),
            Act::Reverse => self.reversed = !self.reversed,
            Act::Move(by) => self.pick(self.picked().unwrap_or(0).saturating_add_signed(by)),
            Act::First => self.pick(0),
            Act::Last => self.pick(usize::MAX),
        }
    }

    fn pick(&mut self, row: usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        self.picked = rows.get(row.min(last)).map(|peer| peer.public_key);
    }
}

/// What moved between two looks, in bytes.
struct Moved {
    received: u64,
    sent: u64,
    fast: u64,
}

impl Moved {
    fn between(before: &PeerStats, now: &PeerStats) -> Self {
        let fast = |peer: &PeerStats| (peer.fast_path.received.bytes, peer.fast_path.sent.bytes);
        let ((fast_in, fast_out), (fast_in_now, fast_out_now)) = (fast(before), fast(now));
        Self {
            received: grown(before.received.bytes, now.received.bytes),
            sent: grown(before.sent.bytes, now.sent.bytes),
            fast: grown(fast_in, fast_in_now).saturating_add(grown(fast_out, fast_out_now)),
        }
    }

    /// WireGuard counts whole messages, the fast path IP packets: a share near one is all that small packets can show,
    /// and the two are read one after the other.
    fn fast_share(&self) -> Option<f64> {
        let all = self.received.saturating_add(self.sent);
        (all > 0).then(|| (self.fast as f64 / all as f64).min(1.0))
    }
}

/// How much a counter has grown. One that went back began anew, at zero.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::view::tests::{peer, stats};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_what_came_between_two_looks() {
        let mut model = Model::default();
        model.take(at(0), stats(vec![peer("phone", 1000, 0)]));
        assert!(model.recent(&peer("phone", 0, 0)).rates.is_empty(), "one look is no rate");
        model.take(at(2), stats(vec![peer("phone", 5000, 500)]));
        assert_eq!(model.recent(&peer("phone", 0, 0)).rate(), Rate { received: 2000.0, sent: 250.0 });
        assert_eq!(model.total().total(), 2250.0);
    }

    #[test]
    fn a_counter_that_began_anew_counts_from_zero() {
        let mut model = Model::default();
        model.take(at(0), stats(vec![peer("phone", 1 << 40, 0)]));
        model.take(at(1), stats(vec![peer("phone", 300, 0)]));
        assert_eq!(model.recent(&peer("phone", 0, 0)).rate().received, 300.0);
    }

    #[test]
    fn a_new_peer_has_no_rate_and_one_that_left_is_forgotten() {
        let mut model = Model::default();
        model.take(at(0), stats(vec![peer("phone", 0, 0)]));
        model.take(at(1), stats(vec![peer("phone", 10, 0), peer("laptop", 1 << 40, 0)]));
        assert!(model.recent(&peer("laptop", 0, 0)).rates.is_empty());
        model.take(at(2), stats(vec![peer("laptop", 1 << 40, 0)]));
        assert!(model.recent(&peer("phone", 0, 0)).rates.is_empty());
        assert_eq!(model.picked(), Some(0), "the next peer is picked in the place of the one that left");
    }

    #[test]
    fn a_minute_is_kept() {
        let mut model = Model::default();
        for second in 0..200 {
            model.take(at(second), stats(vec![peer("phone", second * 7, 0)]));
        }
        assert_eq!(model.recent(&peer("phone", 0, 0)).rates.len(), KEPT);
    }

    #[test]
    fn two_looks_at_one_moment_divide_by_nothing() {
        let mut model = Model::default();
        model.take(at(1), stats(vec![peer("phone", 0, 0)]));
        model.take(at(1), stats(vec![peer("phone", 10, 0)]));
        assert!(model.recent(&peer("phone", 0, 0)).rates.is_empty());
        model.take(at(2), stats(vec![peer("phone", 10, 0)]));
        assert_eq!(model.recent(&peer("phone", 0, 0)).rate().received, 10.0, "nothing was lost in between");
    }

    #[test]
    fn orders_and_the_pick_stays_on_the_peer() {
        let mut model = Model::default();
        let peers = |a, b, c| stats(vec![peer("a", a, 0), peer("b", b, 10), peer("c", c, 0)]);
        model.take(at(0), peers(0, 0, 0));
        model.take(at(1), peers(5, 1, 9));
        let names = |model: &Model| model.rows().iter().map(|peer| peer.name.clone()).collect::<String>();
        assert_eq!(names(&model), "abc");
        model.act(Act::Last);
        for (order, expected) in [
            (Order::Handshake, "abc"),
            (Order::Received, "cab"),
            (Order::Sent, "abc"),
            (Order::Total, "bca"),
            (Order::Name, "abc"),
        ] {
            model.act(Act::Sort);
            assert_eq!((model.order, names(&model).as_str()), (order, expected));
            assert_eq!(model.rows()[model.picked().unwrap()].name, "c");
        }
        model.act(Act::Reverse);
        assert_eq!(names(&model), "cba");
        assert_eq!(model.picked(), Some(0));
    }

    #[test]
    fn the_pick_stays_within_the_list() {
        let mut model = Model::default();
        model.act(Act::Move(1));
        assert_eq!(model.picked(), None, "nobody to pick");
        model.take(at(0), stats(vec![peer("a", 0, 0), peer("b", 0, 0)]));
        for (act, expected) in [
            (Act::Move(-1), 0),
            (Act::Move(1), 1),
            (Act::Move(10), 1),
            (Act::Move(-10), 0),
            (Act::Last, 1),
            (Act::First, 0),
        ] {
            model.act(act);
            assert_eq!(model.picked(), Some(expected), "{act:?}");
        }
    }

    #[test]
    fn the_share_of_the_fast_path_is_that_of_now() {
        let mut model = Model::default();
        let verdicts = |redirected, local| {
            let mut stats = stats(vec![]);
            stats.verdicts =
                [("redirected".into(), redirected), ("local".into(), local), ("mss".into(), 0)].into();
            stats
        };
        model.take(at(0), verdicts(1000, 1000));
        assert_eq!(model.fast_path_share(), None);
        model.take(at(1), verdicts(1090, 1010));
        assert_eq!(model.fast_path_share(), Some(0.9));
        assert_eq!(model.reasons(), [("local", 10.0, 1010)]);
    }
}
