//! Pings, counted.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest::patience,
    lab::{World, pings::Pings, world::NAS4},
    netns::{Netns, wait_for},
};

use crate::DEADLINE;

/// How long the last answer may take on the host; in the laboratory it takes 1 ms.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// What came of some pings.
#[derive(Debug, PartialEq)]
pub(crate) struct Pinged {
    pub(crate) sent: u32,
    pub(crate) received: u32,
    /// Answers that came twice.
    pub(crate) duplicates: u32,
    /// Fastest and slowest answer, in milliseconds; none without an answer.
    pub(crate) times: Option<(f64, f64)>,
}

impl Pinged {
    pub(crate) fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

/// Pings the NAS from the phone, at least so often; an error if one is not answered. The `ping` of [`send`] waits no longer
/// for the last answers than for others, whatever it is told, once it got any.
pub(crate) fn none_lost(world: &World, count: u32) -> Result<()> {
    let pings = Pings::start(&world.phone, NAS4.parse()?)?;
    pings.more(count, DEADLINE)?;
    let tally = pings.end()?;
    ensure!(tally.lost.is_empty(), "of {} pings some were lost: {:?}", tally.sent, tally.lost);
    Ok(())
}

/// Sends that many, one each `interval`, and waits for the answers.
pub(crate) fn send(from: &Netns, to: IpAddr, count: u32, interval: Duration) -> Result<Pinged> {
    wait(from, to, arguments(to, count, interval, patience(LAST_ANSWER)))
}

/// Whether anybody answers one of three within a second: a question for those who expect that nobody does, or will ask
/// again.
pub(crate) fn knock(from: &Netns, to: IpAddr) -> Result<bool> {
    let pinged = wait(from, to, arguments(to, 3, Duration::from_millis(200), LAST_ANSWER))?;
    Ok(pinged.received > 0)
}

fn wait(from: &Netns, to: IpAddr, arguments: Vec<String>) -> Result<Pinged> {
    // It ends with 1 when nobody answers, which is for the caller to judge.
    let output = from.command("ping").args(arguments).output().context("starting ping")?;
    read(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("ping {to}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Pings that go on while something happens.
pub(crate) struct Running<'a> {
    from: &'a Netns,
    id: u32,
    /// How long sending takes.
    span: Duration,
}

/// The identifier of pings that go on while something happens.
const ID: u16 = 4242;

/// As [`send`], without waiting. One at a time on a machine. The first goes alone: of two that a connection tracker sees
/// for the first time at once, it drops one (net/netfilter/nf_conntrack_core.c, __nf_conntrack_confirm).
pub(crate) fn start(from: &Netns, to: IpAddr, count: u32, interval: Duration) -> Result<Running<'_>> {
    let named = |count| {
        let arguments = arguments(to, count, interval, patience(LAST_ANSWER));
        [vec!["-e".to_owned(), ID.to_string()], arguments].concat()
    };
    wait(from, to, named(1))?;
    let script = format!("exec ping {} > /run/ping 2>&1", named(count).join(" "));
    let id = from.spawn(from.command("sh").args(["-c", &script]))?;
    Ok(Running { from, id, span: interval * count })
}

impl Running<'_> {
    /// Whether it still sends or waits for answers.
    pub(crate) fn runs(&self) -> Result<bool> {
        Ok(self.from.ended(self.id)?.is_none())
    }

    /// Waits for the end.
    pub(crate) fn finish(self) -> Result<Pinged> {
        wait_for("the last ping", 5 * self.span + LAST_ANSWER, || {
            ensure!(!self.runs()?, "it runs");
            Ok(())
        })?;
        read(&self.from.run("cat /run/ping")?)
    }
}

fn arguments(to: IpAddr, count: u32, interval: Duration, last: Duration) -> Vec<String> {
    let (interval, last) = (interval.as_secs_f64(), last.as_secs().max(1));
    format!("-n -q -i {interval} -W {last} -c {count} {to}").split(' ').map(str::to_owned).collect()
}

/// From ping's summary: `20 packets transmitted, 18 received, +3 duplicates, 10% packet loss, time 15ms` and
/// `rtt min/avg/max/mdev = 0.031/0.040/0.062/0.010 ms`.
fn read(text: &str) -> Result<Pinged> {
    let line =
        text.lines().find(|line| line.contains("packets transmitted")).with_context(|| text.to_owned())?;
    let number = |what: &str| -> Option<u32> {
        let part = line.split(", ").find(|part| part.ends_with(what))?;
        part.trim_start_matches('+').split(' ').next()?.parse().ok()
    };
    let times =
        text.lines().find_map(|line| line.strip_prefix("rtt ")?.split_once("= ")).and_then(|(_, rest)| {
            let mut parts = rest.split('/');
            Some((parts.next()?.parse().ok()?, parts.nth(1)?.parse().ok()?))
        });
    Ok(Pinged {
        sent: number("packets transmitted").with_context(|| line.to_owned())?,
        received: number("received").with_context(|| line.to_owned())?,
        duplicates: number("duplicates").unwrap_or(0),
        times,
    })
}

#[test]
fn a_summary_is_read() -> Result<()> {
    let text = "20 packets transmitted, 18 received, +3 duplicates, 10% packet loss, time 15ms\n\
                rtt min/avg/max/mdev = 0.031/0.040/0.062/0.010 ms\n";
    ensure!(read(text)? == Pinged { sent: 20, received: 18, duplicates: 3, times: Some((0.031, 0.062)) });
    let text = "3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2ms\n";
    ensure!(read(text)? == Pinged { sent: 3, received: 0, duplicates: 0, times: None });
    Ok(())
}
