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
/// Addresses that are tried behind one peer, all its LANs together: at the pace of [`crate::kernel::ping`], three
/// seconds of questions.
const MOST: usize = 4096;
/// Questions that end at the peer. The kernel answers six at once and then one a second, of every kind of error together
/// (`XRLIM_BURST_FACTOR`, net/ipv4/route.c).
const FEW: usize = 3;

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
    /// A machine on the LAN answered: the peer forwards, and the answers find back. Or the peer itself did, where it is
    /// all of the LAN.
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

/// Asks whether the peer forwards at all, which is the same for each of its LANs: addresses in the middle of a LAN and at
/// its ends, of the widest LANs first, since any of them may be the peer's own, and that one it answers itself.
#[must_use]
pub fn near(lans: &[Ipv4Net]) -> Vec<Question> {
    let mut lans = lans.to_vec();
    lans.sort_by_key(Ipv4Net::prefix_len);
    let places = |lan: &Ipv4Net| {
        let hosts: Vec<Ipv4Addr> = lan.hosts().take(SWEEP).collect();
        [hosts.get(hosts.len() / 2), hosts.last(), hosts.first()].map(|host| host.copied())
    };
    let rows: Vec<[Option<Ipv4Addr>; 3]> = lans.iter().map(places).collect();
    let mut chosen: Vec<Ipv4Addr> = Vec::new();
    for to in (0..3).flat_map(|place| rows.iter().filter_map(move |row| row[place])) {
        if chosen.len() < FEW && !chosen.contains(&to) {
            chosen.push(to);
        }
    }
    chosen.into_iter().map(|to| Question { to, hops: NEAR }).collect()
}

/// The questions to everybody behind a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// One to each machine.
    pub questions: Vec<Question>,
    /// For each question, the place of its LAN among the LANs.
    pub lans: Vec<usize>,
}

/// Asks everybody on the LANs, the LANs in turn, so that each gets its share of what the peer answers.
#[must_use]
pub fn far(lans: &[Ipv4Net]) -> Sweep {
    let most = SWEEP.min(MOST / lans.len().max(1)).max(1);
    let mut rows: Vec<_> = lans.iter().map(|lan| lan.hosts().take(most)).collect();
    let mut sweep = Sweep::default();
    for _ in 0..most {
        for (lan, hosts) in rows.iter_mut().enumerate() {
            if let Some(to) = hosts.next() {
                sweep.questions.push(Question { to, hops: FAR });
                sweep.lans.push(lan);
            }
        }
    }
    sweep
}

/// How many machines a LAN has room for.
#[must_use]
pub fn room(lan: Ipv4Net) -> u64 {
    let addresses = 1_u64 << (32 - lan.prefix_len());
    if lan.prefix_len() < 31 { addresses - 2 } else { addresses }
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

/// The peer would have sent it on, had somebody been there (RFC 1812 5.2.7.1).
const HOST_UNREACHABLE: u8 = 1;

/// Whether an answer says that the peer forwards at all: a machine that does not says nothing of what it drops (`ip_error`,
/// net/ipv4/route.c), and one that does may refuse it for one LAN alone.
#[must_use]
pub fn forwards(answer: &Answer) -> bool {
    matches!(answer.said, Said::TimeExceeded | Said::Unreachable(_))
}

/// What the answers to [`near`] and [`far`] mean for each of the LANs.
#[must_use]
pub fn behind(lans: &[Ipv4Net], near: &[Answer], sweep: &Sweep, far: &[Answer]) -> Vec<(Ipv4Net, Behind)> {
    let forwarded = near.iter().chain(far).any(forwards);
    let judge = |(at, lan): (usize, &Ipv4Net)| {
        let own: Vec<&Answer> =
            far.iter().filter(|answer| sweep.lans.get(answer.question) == Some(&at)).collect();
        let asked = sweep.lans.iter().filter(|lan| **lan == at).count();
        (*lan, of_lan(forwarded, &own, asked))
    };
    lans.iter().enumerate().map(judge).collect()
}

fn of_lan(forwarded: bool, answers: &[&Answer], asked: usize) -> Behind {
    if let Some(answer) = answers.iter().find(|answer| is_behind(answer)) {
        return Behind::Answers(answer.from);
    }
    let here = |answer: &&&Answer| matches!(answer.said, Said::Here { .. });
    if let Some(first) = answers.first().filter(|_| answers.iter().filter(here).count() == asked) {
        return Behind::Answers(first.from);
    }
    // The hop limit is looked at before the firewall is, so a refusal says more than that it ran out.
    let refused = answers.iter().find_map(|answer| match answer.said {
        Said::Unreachable(code) if code != HOST_UNREACHABLE => Some(code),
        _ => None,
    });
    match refused {
        Some(code) => Behind::Refused(code),
        None if forwarded => Behind::Silent { asked },
        None => Behind::NotForwarded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lans(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    #[test]
    fn what_the_answers_mean() {
        let from = Ipv4Addr::new(192, 168, 40, 10);
        let answer = |question, said| Answer { question, from, said };
        let here = |question, hops| answer(question, Said::Here { hops });
        let exceeded = answer(0, Said::TimeExceeded);
        let wide = &["192.168.40.0/24"][..];
        type Row<'a> = (&'a str, &'a [&'a str], Vec<Answer>, Vec<Answer>, Behind);
        let rows: [Row<'_>; 9] = [
            ("a machine", wide, vec![exceeded], vec![here(1, 64), here(9, 63)], Behind::Answers(from)),
            ("Windows, two routers on", wide, vec![], vec![here(9, 126)], Behind::Answers(from)),
            (
                "the peer's address alone",
                wide,
                vec![exceeded],
                vec![here(1, 64)],
                Behind::Silent { asked: 254 },
            ),
            (
                "nobody there",
                wide,
                vec![],
                vec![answer(3, Said::Unreachable(1))],
                Behind::Silent { asked: 254 },
            ),
            (
                "a firewall that says so",
                wide,
                vec![exceeded],
                vec![answer(3, Said::Unreachable(13))],
                Behind::Refused(13),
            ),
            ("no forwarding, own address", wide, vec![here(0, 64)], vec![here(1, 64)], Behind::NotForwarded),
            ("nothing", wide, vec![], vec![], Behind::NotForwarded),
            (
                "the peer is the whole LAN",
                &["192.168.40.10/32"],
                vec![here(0, 64)],
                vec![here(0, 64)],
                Behind::Answers(from),
            ),
            ("it does not answer", &["192.168.40.10/32"], vec![], vec![], Behind::NotForwarded),
        ];
        for (what, texts, near, answers, expected) in rows {
            let lans = lans(texts);
            assert_eq!(behind(&lans, &near, &far(&lans), &answers), [(lans[0], expected)], "{what}");
        }
    }

    #[test]
    fn forwarding_is_the_same_for_each_lan_and_the_rest_is_its_own() {
        let lans = lans(&["192.168.40.10/32", "192.168.50.0/30", "192.168.60.0/30", "192.168.70.0/30"]);
        let sweep = far(&lans);
        let at = |text: &str| {
            let to: Ipv4Addr = text.parse().expect("an address");
            sweep.questions.iter().position(|question| question.to == to).expect("asked")
        };
        let answer = |text: &str, said| Answer { question: at(text), from: Ipv4Addr::LOCALHOST, said };
        let near = [answer("192.168.50.1", Said::TimeExceeded)];
        let answers = [
            answer("192.168.40.10", Said::Here { hops: 64 }),
            answer("192.168.50.2", Said::Here { hops: 63 }),
            answer("192.168.60.1", Said::Unreachable(0)),
        ];
        let found: Vec<Behind> =
            behind(&lans, &near, &sweep, &answers).into_iter().map(|(_, behind)| behind).collect();
        let here = Behind::Answers(Ipv4Addr::LOCALHOST);
        assert_eq!(found, [here.clone(), here, Behind::Refused(0), Behind::Silent { asked: 2 }]);
    }

    #[test]
    fn who_is_asked() {
        let to = |questions: Vec<Question>| questions.iter().map(|q| q.to.to_string()).collect::<Vec<_>>();
        let near = |texts: &[&str]| to(near(&lans(texts)));
        assert_eq!(near(&["192.168.40.0/24"]), ["192.168.40.128", "192.168.40.254", "192.168.40.1"]);
        assert_eq!(near(&["192.168.40.10/32"]), ["192.168.40.10"]);
        assert_eq!(
            near(&["10.1.1.1/32", "192.168.40.0/24"]),
            ["192.168.40.128", "10.1.1.1", "192.168.40.254"],
            "a home's own address is not all that is asked"
        );
        assert!(near(&[]).is_empty() && far(&[]).questions.is_empty());
        assert_eq!(far(&lans(&["192.168.40.0/24"])).questions.len(), 254);
        assert_eq!(far(&lans(&["10.0.0.0/8"])).questions.len(), SWEEP);
        let two = far(&lans(&["192.168.40.0/24", "10.1.1.0/30"]));
        assert_eq!(
            to(two.questions[..5].to_vec()),
            ["192.168.40.1", "10.1.1.1", "192.168.40.2", "10.1.1.2", "192.168.40.3"]
        );
        assert_eq!(two.lans[..5], [0, 1, 0, 1, 0]);
        let many: Vec<String> = (0..100).map(|at| format!("10.0.{at}.0/24")).collect();
        let many = far(&lans(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(many.questions.len() <= MOST, "{}", many.questions.len());
    }

    #[test]
    fn room_for_machines() {
        let room = |text: &str| room(lans(&[text])[0]);
        assert_eq!((room("10.0.0.0/24"), room("10.0.0.1/32"), room("10.0.0.0/31")), (254, 1, 2));
        assert_eq!((room("0.0.0.0/0"), room("10.0.0.0/23")), ((1 << 32) - 2, 510));
    }
}
