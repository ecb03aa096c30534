//! What a trace tells: an event of the program in people's words, as a line or as JSON.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use relay_common::{Event, Header, PeerSlot, Trace, Verdict, map};
use serde::{Serialize, Serializer};

/// What stands where a peer would, for the hub itself and for everybody else.
const NOBODY: &str = "-";

/// The longest name of a verdict.
const VERDICT_WIDTH: usize = 19;

/// What the peers are called, by slot.
pub type Names = BTreeMap<PeerSlot, String>;

/// What became of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told<'a> {
    /// When.
    #[serde(serialize_with = "microseconds")]
    pub time: Timestamp,
    /// Why it goes the way that it goes, [`Verdict::name`].
    pub verdict: &'static str,
    /// The peer whose the source is.
    pub from: Option<Cow<'a, str>>,
    /// The peer whose the destination is.
    pub to: Option<Cow<'a, str>>,
    /// Null where the packet has no whole IP header.
    pub source: Option<IpAddr>,
    /// As the source.
    pub destination: Option<IpAddr>,
    /// `TCP`, `protocol 200`, `ethertype 0x0806`.
    pub protocol: Cow<'static, str>,
    /// Bytes from the IP header on.
    pub bytes: u64,
    /// How many packets it is on the wire.
    pub packets: u64,
}

impl<'a> Told<'a> {
    /// The event in words; `boot` is when the machine was started. `None` for what no program of ours says.
    #[must_use]
    pub fn of(event: &Event, boot: Timestamp, names: &'a Names) -> Option<Self> {
        let verdict = Verdict::ALL.get(usize::try_from(event.verdict).ok()?)?.name();
        let name = |slot: PeerSlot| match names.get(&slot) {
            Some(name) => Cow::Borrowed(name.as_str()),
            // It is so new that nobody has asked for its name yet.
            None => Cow::Owned(format!("slot {slot}")),
        };
        let header = &event.header;
        Some(Self {
            time: boot.checked_add(Duration::from_nanos(event.time)).ok()?,
            verdict,
            from: slot(header.from).map(name),
            to: slot(header.to).map(name),
            source: address(header, header.source),
            destination: address(header, header.destination),
            protocol: protocol(event),
            bytes: event.bytes,
            packets: event.packets,
        })
    }

    /// As a line for people, by the clock of that zone.
    #[must_use]
    pub fn line(&'a self, zone: &'a TimeZone) -> Line<'a> {
        Line { told: self, zone }
    }
}

fn microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// A line for people.
pub struct Line<'a> {
    told: &'a Told<'a>,
    zone: &'a TimeZone,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { time, verdict, from, to, source, destination, protocol, bytes, packets } = self.told;
        let time = time.to_zoned(self.zone.clone());
        write!(f, "{}  {verdict:VERDICT_WIDTH$}  ", time.strftime("%H:%M:%S%.6f"))?;
        if let (Some(source), Some(destination)) = (source, destination) {
            let name = |peer: &Option<Cow<'_, str>>| peer.as_deref().unwrap_or(NOBODY).to_owned();
            write!(f, "{} → {}  {source} → {destination}  ", name(from), name(to))?;
        }
        write!(f, "{protocol}  {bytes} B")?;
        if *packets > 1 { write!(f, " in {packets} packets") } else { Ok(()) }
    }
}

/// A slot as an event has it.
fn slot(one_more: u64) -> Option<PeerSlot> {
    one_more.checked_sub(1).and_then(|slot| PeerSlot::try_from(slot).ok())
}

fn address(header: &Header, words: [u64; 2]) -> Option<IpAddr> {
    let bytes: [u8; 16] = bytemuck::cast(words);
    match header.version {
        4 => Some(IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        6 => Some(IpAddr::from(Ipv6Addr::from(bytes))),
        _ => None,
    }
}

/// By the names that people know (IANA, Assigned Internet Protocol Numbers).
fn protocol(event: &Event) -> Cow<'static, str> {
    if event.header.version == 0 {
        return Cow::Owned(format!("ethertype {:#06x}", event.ethertype));
    }
    Cow::Borrowed(match event.header.protocol {
        1 => "ICMP",
        2 => "IGMP",
        6 => "TCP",
        17 => "UDP",
        47 => "GRE",
        50 => "ESP",
        58 => "ICMPv6",
        132 => "SCTP",
        other => return Cow::Owned(format!("protocol {other}")),
    })
}

/// The bits of these verdicts; all of them where none is named.
#[must_use]
pub fn bits(verdicts: &[Verdict]) -> u32 {
    let chosen = if verdicts.is_empty() { Verdict::ALL } else { verdicts };
    chosen.iter().fold(0, |bits, verdict| bits | Trace::bit(*verdict))
}

/// What found no room in the ring buffer: the events that there were, less those that were told.
#[derive(Debug, Default)]
pub struct Lost {
    /// The events that there were at the last look.
    events: u64,
    said: u64,
}

/// More events than this are never in the ring buffer.
const WAITING: u64 = map::TRACE_BUFFER as u64 / size_of::<Event>() as u64;

impl Lost {
    /// How many are lost for certain while the trace goes on, if that is news. What was there at the last look has been
    /// told by now, waits in the ring buffer, or is lost.
    pub fn so_far(&mut self, told: u64, events: u64) -> Option<u64> {
        let before = std::mem::replace(&mut self.events, events);
        self.news(before.saturating_sub(told).saturating_sub(WAITING))
    }

    /// How many were lost, once nothing more comes and nothing waits, if that is news.
    pub fn in_the_end(&mut self, told: u64, events: u64) -> Option<u64> {
        self.news(events.saturating_sub(told))
    }

    fn news(&mut self, lost: u64) -> Option<u64> {
        let news = lost > self.said;
        self.said = lost.max(self.said);
        news.then_some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Timestamp = Timestamp::constant(1_795_600_000, 0);

    fn names() -> Names {
        Names::from([(0, "home".to_owned()), (1, "phone".to_owned())])
    }

    fn v4() -> Event {
        let words = |address: [u8; 4]| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address);
            bytemuck::cast(bytes)
        };
        let (source, destination) = (words([10, 9, 0, 3]), words([192, 168, 40, 10]));
        let header = Header { version: 4, protocol: 6, from: 2, to: 1, source, destination };
        Event { time: 1_123_456_789, bytes: 1420, packets: 1, verdict: 0, ethertype: 0x0800, header }
    }

    fn line(event: &Event) -> String {
        let names = names();
        Told::of(event, BOOT, &names).expect("one of ours").line(&TimeZone::UTC).to_string()
    }

    #[test]
    fn lines() {
        let forwarded = v4();
        let mut merged = v4();
        (merged.bytes, merged.packets, merged.header.protocol) = (9000, 7, 200);
        let mut local = v4();
        (local.verdict, local.header.from, local.header.to) = (Verdict::Local as u64, 8, 0);
        let mut v6 = v4();
        (v6.header.version, v6.header.protocol, v6.verdict) = (6, 58, Verdict::UnknownDestination as u64);
        v6.header.source = bytemuck::cast(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).octets());
        v6.header.destination = bytemuck::cast(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets());
        let alien = Event { ethertype: 0x0806, verdict: 2, packets: 1, bytes: 28, ..Event::default() };
        let lines = [forwarded, merged, local, v6, alien].map(|event| line(&event)).join("\n");
        insta::assert_snapshot!(lines, @r"
        09:46:41.123456  redirected           phone → home  10.9.0.3 → 192.168.40.10  TCP  1420 B
        09:46:41.123456  redirected           phone → home  10.9.0.3 → 192.168.40.10  protocol 200  9000 B in 7 packets
        09:46:41.123456  local                slot 7 → -  10.9.0.3 → 192.168.40.10  TCP  1420 B
        09:46:41.123456  unknown_destination  phone → home  fd00::3 → 2001:db8::7  ICMPv6  1420 B
        09:46:40.000000  not_ip               ethertype 0x0806  28 B
        ");
    }

    #[test]
    fn json() {
        let (names, mut event) = (names(), v4());
        event.header.to = 0;
        let told = Told::of(&event, BOOT, &names).expect("one of ours");
        insta::assert_snapshot!(serde_json::to_string(&told).expect("JSON"), @r#"{"time":"2026-11-25T09:46:41.123456Z","verdict":"redirected","from":"phone","to":null,"source":"10.9.0.3","destination":"192.168.40.10","protocol":"TCP","bytes":1420,"packets":1}"#);
    }

    #[test]
    fn what_no_program_of_ours_says() {
        let event = Event { verdict: Verdict::ALL.len() as u64, ..v4() };
        assert_eq!(Told::of(&event, BOOT, &names()), None);
    }

    #[test]
    fn what_is_lost_is_told_once_it_is_certain() {
        let mut lost = Lost::default();
        assert_eq!(lost.so_far(0, 10_000), None, "they may be on their way");
        assert_eq!(lost.so_far(10_000, 20_000), None);
        assert_eq!(lost.so_far(12_000, 30_000), Some(8_000 - WAITING));
        assert_eq!(lost.so_far(22_000, 30_000), None, "as many as before");
        assert_eq!(lost.in_the_end(22_000, 30_000), Some(8_000));
        assert_eq!(lost.in_the_end(22_000, 30_000), None);
    }

    #[test]
    fn verdicts_are_bits() {
        assert_eq!(bits(&[Verdict::Off, Verdict::Mss]), 0b1_0000_0010);
        assert_eq!(bits(&[]), bits(Verdict::ALL));
        assert_eq!(Verdict::ALL.iter().map(|verdict| verdict.name().len()).max(), Some(VERDICT_WIDTH));
    }
}
