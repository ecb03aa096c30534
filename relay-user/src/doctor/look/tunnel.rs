//! Who knocks at the hub, and what answers through the tunnel.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use ipnet::{IpNet, Ipv4Net};
use tokio::task::spawn_blocking;

use super::{
    super::{
        ear::{self, Ear},
        facts::{Ears, Facts},
        probe::{self, Probe},
    },
    knocks,
};
use crate::{
    desired::{Desired, Peer},
    error::chain,
    kernel::{
        initiations,
        ping::{self, Question, Said},
        wireguard,
    },
    key::PublicKey,
    name::{InterfaceName, PeerName},
};

/// How long to listen for those who knock: a handshake that is not answered is tried again after 5 s and some jitter
/// (whitepaper 6.1).
const LISTEN: Duration = Duration::from_secs(6);
/// How long an answer through the tunnel may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Peers that are asked without being named.
const MOST: usize = 8;

/// Listens and asks at the same time, and reads WireGuard once more: a handshake may be over meanwhile.
pub(super) async fn look(
    facts: &mut Facts,
    desired: &Desired,
    port: u16,
    named: Option<&str>,
    say: impl Fn(&str),
) {
    if facts.device.is_none() {
        return;
    }
    let is_meant = |peer: &Peer| named.is_none_or(|name| name == peer.name.as_str());
    let away = |(key, peer): (&PublicKey, &Peer)| is_meant(peer) && !facts.is_connected(key);
    let listens = desired.peers.iter().any(away);
    let (asked, not_asked) = asked(facts, desired, named);
    if listens {
        say(&format!("listening {} s for handshakes that come to UDP port {port}", LISTEN.as_secs()));
    }
    if !asked.is_empty() {
        let names: Vec<&str> = asked.iter().map(|peer| peer.name.as_str()).collect();
        say(&format!("asking what answers through the tunnel, and behind it: {}", names.join(", ")));
    }
    let wrong_keys = knocks::wrong_keys(&desired.interface);
    let ear = async { if listens { listen(desired, port).await } else { Ears::Unused } };
    let questions = asked.into_iter().map(|peer| ask(desired.interface.clone(), peer));
    let (ears, probes) = tokio::join!(ear, join_all(questions));
    facts.ears = ears;
    facts.probes = probes.into_iter().map(|(name, probe)| (name.to_string(), probe)).collect();
    facts.not_asked = not_asked;
    let over = ear::until_over(facts.heard(), SystemTime::now());
    if let Ears::Listened { heard, .. } = &mut facts.ears {
        let knocks = facts.knocks.as_ref();
        heard.extend(knocks::held_back(knocks, &desired.interface, &wrong_keys, SystemTime::now()));
    }
    let (true, Ok(host)) = (listens, &facts.host) else { return };
    tokio::time::sleep(over).await;
    let read = tokio::task::block_in_place(|| wireguard::read(&desired.interface, host.backend));
    if let Ok(Some(device)) = read {
        facts.device = Some(device);
        facts.now = SystemTime::now();
    }
}

/// The peers that are asked, and how many are left out: the one that is named, else those that have LANs; and of those
/// that are not in, the ones that the hub dials.
fn asked<'a>(facts: &Facts, desired: &'a Desired, named: Option<&str>) -> (Vec<&'a Peer>, usize) {
    let is_in = |key: &PublicKey, peer: &Peer| facts.is_connected(key) || peer.endpoint.is_some();
    let is_home = |peer: &Peer| peer.lans.iter().any(|lan| matches!(lan, IpNet::V4(_)));
    let is_meant = |key: &PublicKey, peer: &Peer| match named {
        Some(name) => name == peer.name.as_str(),
        None => is_home(peer) || !facts.is_connected(key),
    };
    let mut asked: Vec<&Peer> = desired
        .peers
        .iter()
        .filter(|(key, peer)| is_in(key, peer) && is_meant(key, peer))
        .map(|(_, peer)| peer)
        .collect();
    asked.sort_by_key(|peer| &peer.name);
    let left_out = asked.len().saturating_sub(MOST);
    asked.truncate(MOST);
    (asked, left_out)
}

async fn listen(desired: &Desired, port: u16) -> Ears {
    let (hub, peers) = (desired.private_key.clone(), desired.peers.keys().copied().collect::<Vec<_>>());
    let listened = spawn_blocking(move || {
        let mut ear = Ear::new(&hub, peers);
        let whole =
            initiations::listen(port, LISTEN, |heard| ear.hear(heard.from, heard.at, &heard.message))?;
        io::Result::Ok(Ears::Listened { heard: ear.heard(), whole })
    });
    match listened.await {
        Ok(Ok(ears)) => ears,
        Ok(Err(error)) => Ears::Deaf(chain(&error)),
        Err(error) => Ears::Deaf(chain(&error)),
    }
}

async fn ask(tunnel: InterfaceName, peer: &Peer) -> (PeerName, Probe) {
    let name = peer.name.clone();
    let address = peer.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v4 = |lan: &IpNet| match lan {
        IpNet::V4(v4) => Some(*v4),
        IpNet::V6(_) => None,
    };
    let lans: Vec<Ipv4Net> = peer.lans.iter().filter_map(v4).collect();
    let asked = spawn_blocking(move || questions(&tunnel, address, &lans)).await;
    let failed = |why: String| Probe { failed: Some(why), ..Probe::default() };
    let probe = match asked {
        Ok(Ok(probe)) => probe,
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    };
    (name, probe)
}

fn questions(tunnel: &InterfaceName, address: Option<Ipv4Addr>, lans: &[Ipv4Net]) -> io::Result<Probe> {
    let mut found = Probe::default();
    if let Some(to) = address {
        // Twice, since one packet may be lost, and the first may wait for a handshake.
        let here = |answer: &ping::Answer| matches!(answer.said, Said::Here { .. });
        let once = || ping::ask(tunnel, &[Question { to, hops: probe::FAR }], ANSWER, here);
        let answers = once()?.iter().any(here) || once()?.iter().any(here);
        found.tunnel = Some((to, answers));
    }
    let questions = probe::near(lans);
    if questions.is_empty() {
        return Ok(found);
    }
    let ask_near = || ping::ask(tunnel, &questions, ANSWER, probe::forwards);
    let (mut near, mut far, mut sweep) = (Vec::new(), Vec::new(), probe::Sweep::default());
    let silent = matches!(found.tunnel, Some((_, false)));
    if silent {
        near = ask_near()?;
    }
    // Whoever lets nothing be heard of itself has nothing behind it to be heard.
    if !silent || !near.is_empty() {
        sweep = probe::far(lans);
        let mut open: BTreeSet<usize> = sweep.lans.iter().copied().collect();
        far = ping::ask(tunnel, &sweep.questions, ANSWER, |answer| {
            if probe::is_behind(answer)
                && let Some(lan) = sweep.lans.get(answer.question)
            {
                open.remove(lan);
            }
            open.is_empty()
        })?;
        // Last, since what it draws counts against what a refusal of the others may draw.
        if near.is_empty() && !open.is_empty() && !far.iter().any(probe::forwards) {
            near = ask_near()?;
        }
    }
    found.lans = probe::behind(lans, &near, &sweep, &far);
    Ok(found)
}
