//! What answers through the tunnel: which questions to ask, and what the answers mean. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::kernel::ping::{Answer, Question, Said};

/// Hops that any home has room for.
pub const FAR: u8 = 64;
/// Enough to reach the peer, and not what is behind it: whoever forwards says so.
pub const NEAR: u8 = 1;
/// Addresses of a LAN that are tried; a /24 has 254.
const SWEEP: usize = 254;

/// What was asked of one peer, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its IPv4 address in the tunnel, and whether it answered.
    pub tunnel: Option<(Ipv4Addr, bool)>,
    /// Its IPv4 LANs.
    pub lans: Vec<(Ipv4Net, Behind)>,
    /// Why it could not be asked.
    pub failed: Option<String>,
}

/// What is behind a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A machine on the LAN answered: the peer forwards, and the answers find back.
    Answers(Ipv4Addr),
    /// The peer would forward, and none of so many addresses on the LAN answered.
    Silent {
        /// Addresses that were asked.
        asked: usize,
    },
    /// The peer answered that it does not, with the code of RFC 1812 5.2.7.1.
    Refused(u8),
    /// Nothing came back, also not from the peer.
    NotForwarded,
}

/// Asks whether the peer forwards to a LAN: a few addresses, since one may be the peer's own, and not more, since the
/// kernel answers no more than six at once (`XRLIM_BURST_FACTOR`, net/ipv4/route.c).
#[must_use]
pub fn near(lan: Ipv4Net) -> Vec<Question> {
    let some: Vec<Ipv4Addr> = hosts(lan).collect();
    let mut chosen = vec![some.first().copied(), some.last().copied(), some.get(some.len() / 2).copied()];
    chosen.dedup();
    chosen.into_iter().flatten().map(|to| Question { to, hops: NEAR }).collect()
}

/// Asks everybody on the LAN.
#[must_use]
pub fn far(lan: Ipv4Net) -> Vec<Question> {
    hosts(lan).map(|to| Question { to, hops: FAR }).collect()
}

fn hosts(lan: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    lan.hosts().take(SWEEP)
}

/// Whether an answer comes from a machine behind the peer. The peer's own, from an address that it has on the LAN, has
/// passed no router, so that its hop limit is still one of those that machines begin with.
#[must_use]
pub fn is_behind(answer: &Answer) -> bool {
    match answer.said {
        Said::Here { hops } => ![32, 64, 128, 255].contains(&hops),
        _ => false,
    }
}

/// What the answers to [`near`] and [`far`] mean together.
#[must_use]
pub fn behind(near: &[Answer], far: &[Answer], asked: usize) -> Behind {
    if let Some(answer) = far.iter().find(|answer| is_behind(answer)) {
        return Behind::Answers(answer.from);
    }
    /// The peer would have sent it on, had somebody been there.
    const HOST_UNREACHABLE: u8 = 1;
    let all = || near.iter().chain(far);
    // The hop limit is looked at before the firewall is, so a refusal says more than that it ran out.
    let refused = all().find_map(|answer| match answer.said {
        Said::Unreachable(code) if code != HOST_UNREACHABLE => Some(code),
        _ => None,
    });
    let forwards =
        |answer: &Answer| matches!(answer.said, Said::TimeExceeded | Said::Unreachable(HOST_UNREACHABLE));
    match refused {
        Some(code) => Behind::Refused(code),
        None if all().any(forwards) => Behind::Silent { asked },
        None => Behind::NotForwarded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(said: Said) -> Answer {
        Answer { question: 0, from: Ipv4Addr::new(192, 168, 40, 10), said }
    }

    #[test]
    fn what_the_answers_mean() {
        let here = |hops| answer(Said::Here { hops });
        let (exceeded, absent) = (answer(Said::TimeExceeded), answer(Said::Unreachable(1)));
        let rows: [(&str, Vec<Answer>, Vec<Answer>, Behind); 7] = [
            ("a machine", vec![exceeded], vec![here(64), here(63)], Behind::Answers(here(63).from)),
            ("Windows, two routers on", vec![], vec![here(126)], Behind::Answers(here(126).from)),
            ("the peer's own address alone", vec![exceeded], vec![here(64)], Behind::Silent { asked: 254 }),
            ("nobody there", vec![], vec![absent], Behind::Silent { asked: 254 }),
            (
                "a firewall that says so",
                vec![exceeded],
                vec![answer(Said::Unreachable(13))],
                Behind::Refused(13),
            ),
            ("no forwarding, own address", vec![here(64)], vec![here(64)], Behind::NotForwarded),
            ("nothing", vec![], vec![], Behind::NotForwarded),
        ];
        for (what, near, far, expected) in rows {
            assert_eq!(behind(&near, &far, 254), expected, "{what}");
        }
    }

    #[test]
    fn who_is_asked() {
        let lan = |text: &str| text.parse::<Ipv4Net>().expect("a prefix");
        let to = |questions: Vec<Question>| questions.iter().map(|q| q.to.to_string()).collect::<Vec<_>>();
        assert_eq!(to(near(lan("192.168.40.0/24"))), ["192.168.40.1", "192.168.40.254", "192.168.40.128"]);
        assert_eq!(to(near(lan("192.168.40.10/32"))), ["192.168.40.10"]);
        assert_eq!(far(lan("192.168.40.0/24")).len(), 254);
        assert_eq!(far(lan("10.0.0.0/8")).len(), SWEEP);
    }
}
