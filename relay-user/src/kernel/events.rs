//! Wakes when something that relay looks at has changed in the kernel: links, addresses, routes, rules, TC, nftables.
//!
//! An event says where to look, not what is there: it is no more than a reason to read again. Reading causes none.
//! What the kernel tells nobody, the slow tick must find: iptables-legacy, sysctls, TCX programs, WireGuard peers.

use std::{
    collections::BTreeSet,
    io,
    time::{Duration, Instant},
};

use nix::libc;
use rtnetlink::sys::{
    AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};

/// How long nothing more must happen before what has happened is told.
pub const QUIET: Duration = Duration::from_millis(60);

/// The longest that anything is kept back, however much more happens.
pub const LONGEST: Duration = Duration::from_millis(500);

/// The notifications of one change hold a few hundred bytes; a batch of nftables may be longer, and what is cut off
/// would say no more than its head.
const BUFFER: usize = 32 << 10;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// An interface came, went or changed.
    Links,
    /// An address came or went.
    Addresses,
    /// A route came or went, in whichever table.
    Routes,
    /// A policy routing rule came or went.
    Rules,
    /// A qdisc, class, filter or chain came or went.
    TrafficControl,
    /// The ruleset of nftables changed.
    Firewall,
}

impl Topic {
    const ALL: [Self; 6] =
        [Self::Links, Self::Addresses, Self::Routes, Self::Rules, Self::TrafficControl, Self::Firewall];
}

/// The kernel's notifications cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} the kernel's notifications: {cause}")]
pub struct EventsError {
    act: &'static str,
    #[source]
    cause: io::Error,
}

/// A subscription, of the network namespace of the thread that made it.
pub struct Events {
    route: TokioSocket,
    /// `None` where the kernel has no netfilter.
    netfilter: Option<TokioSocket>,
    /// Not told yet.
    pending: BTreeSet<Topic>,
    /// When the first and the last of them came.
    first: Instant,
    last: Instant,
}

impl Events {
    /// Subscribes. What happens from here on is told, whenever it is asked for.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn subscribe() -> Result<Self, EventsError> {
        let failed = |cause| EventsError { act: "subscribe to", cause };
        let route = socket(
            NETLINK_ROUTE,
            &[
                libc::RTNLGRP_LINK,
                libc::RTNLGRP_IPV4_IFADDR,
                libc::RTNLGRP_IPV6_IFADDR,
                libc::RTNLGRP_IPV4_ROUTE,
                libc::RTNLGRP_IPV6_ROUTE,
                libc::RTNLGRP_IPV4_RULE,
                libc::RTNLGRP_IPV6_RULE,
                libc::RTNLGRP_TC,
            ],
        );
        let netfilter = match socket(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]) {
            Ok(socket) => Some(socket),
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => None,
            Err(error) => return Err(failed(error)),
        };
        let now = Instant::now();
        Ok(Self { route: route.map_err(failed)?, netfilter, pending: BTreeSet::new(), first: now, last: now })
    }

    /// Waits for a change, then until [`QUIET`] has passed without another (at most [`LONGEST`]), and tells what
    /// changed. Where the kernel lost notifications, everything may have. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// A socket fails for good.
    pub async fn next(&mut self) -> Result<BTreeSet<Topic>, EventsError> {
        let (mut from_route, mut from_netfilter) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        loop {
            let due = (self.last + QUIET).min(self.first + LONGEST);
            if !self.pending.is_empty() && Instant::now() >= due {
                return Ok(std::mem::take(&mut self.pending));
            }
            from_route.clear();
            from_netfilter.clear();
            let topics = tokio::select! {
                got = self.route.recv(&mut from_route) => topics(got, &from_route, route_topic),
                got = receive(self.netfilter.as_ref(), &mut from_netfilter) => {
                    topics(got, &from_netfilter, |_| Some(Topic::Firewall))
                }
                () = tokio::time::sleep_until(due.into()), if !self.pending.is_empty() => continue,
            };
            let topics = topics.map_err(|cause| EventsError { act: "read", cause })?;
            if topics.is_empty() {
                continue;
            }
            self.last = Instant::now();
            if self.pending.is_empty() {
                self.first = self.last;
            }
            self.pending.extend(topics);
        }
    }
}

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const NFNLGRP_NFTABLES: libc::c_uint = 7;

fn socket(protocol: isize, groups: &[libc::c_uint]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.socket_mut().add_membership(*group)?;
    }
    Ok(socket)
}

async fn receive(socket: Option<&TokioSocket>, buffer: &mut Vec<u8>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

fn topics(
    received: io::Result<()>,
    bytes: &[u8],
    topic: impl Fn(u16) -> Option<Topic>,
) -> io::Result<BTreeSet<Topic>> {
    match received {
        Ok(()) => Ok(kinds(bytes).into_iter().filter_map(topic).collect()),
        // The socket's buffer overflowed: something was lost, nobody knows what.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Topic::ALL.into()),
        Err(error) => Err(error),
    }
}

/// The types of the netlink messages in a datagram, as far as their headers arrived (linux/netlink.h, `nlmsghdr`).
fn kinds(mut bytes: &[u8]) -> Vec<u16> {
    let mut kinds = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<16>() {
        let [a, b, c, d, kind @ ..] = header;
        kinds.push(u16::from_ne_bytes([kind[0], kind[1]]));
        let length = usize::try_from(u32::from_ne_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        // A length below the header's own would never end.
        let Some(rest) = bytes.get(length.max(16).next_multiple_of(4)..) else { break };
        bytes = rest;
    }
    kinds
}

fn route_topic(kind: u16) -> Option<Topic> {
    Some(match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => Topic::Links,
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Topic::Addresses,
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Topic::Routes,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Topic::Rules,
        libc::RTM_NEWQDISC
        | libc::RTM_DELQDISC
        | libc::RTM_NEWTCLASS
        | libc::RTM_DELTCLASS
        | libc::RTM_NEWTFILTER
        | libc::RTM_DELTFILTER
        | RTM_NEWCHAIN
        | RTM_DELCHAIN => Topic::TrafficControl,
        _ => return None,
    })
}

/// `RTM_NEWCHAIN` and `RTM_DELCHAIN` of linux/rtnetlink.h.
const RTM_NEWCHAIN: u16 = 100;
const RTM_DELCHAIN: u16 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.resize(usize::try_from(length).expect("length").next_multiple_of(4).clamp(16, 64), 0);
        bytes
    }

    #[test]
    fn headers_are_walked_and_never_beyond_the_end() {
        assert!(kinds(&[]).is_empty());
        assert!(kinds(&[0; 15]).is_empty());
        assert_eq!(kinds(&[message(16, 33), message(24, 16)].concat()), [16, 24]);
        assert_eq!(kinds(&message(16, 4000)), [16], "cut off");
        assert_eq!(kinds(&message(16, u32::MAX)), [16]);
        assert_eq!(kinds(&[message(16, 0), message(20, 1)].concat()), [16, 20], "a length that lies");
    }

    #[test]
    fn a_lost_notification_may_be_any() {
        let lost = Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        assert_eq!(topics(lost, &[], route_topic).expect("no failure"), Topic::ALL.into());
        let failed = Err(io::Error::from_raw_os_error(libc::EBADF));
        assert!(topics(failed, &[], route_topic).is_err());
    }
}
