//! How a verdict is reached. What costs nothing comes first, and whoever is over a limit is not looked at any closer: a
//! flood is to cost as little as can be. Nothing here acts; what a verdict does stands in the program's entry.

use network_types::udp::UdpHdr;
use relay_common::{UplinkVerdict, uplink::PrefixRule};

use super::{
    frame::Frame,
    handshake::{self, INITIATION, RESPONSE},
    maps,
    parse::{Datagram, NO_KIND, parse},
};
use crate::mutant;

/// Types of messages (whitepaper 5.4.6, 5.4.7) beside [`INITIATION`] and [`RESPONSE`], with the three reserved bytes behind
/// them.
const COOKIE: u64 = 3;
const DATA: u64 = 4;

/// Lengths of messages, of data the smallest: its header and the seal of an empty packet.
const INITIATION_LEN: u32 = 148;
const RESPONSE_LEN: u32 = 92 + mutant::UPLINK_RESPONSE_LENGTH_WRONG as u32;
const COOKIE_LEN: u32 = 64;
const SMALLEST_DATA: u32 = 32 - mutant::UPLINK_SMALLEST_DATA_WRONG as u32;

/// What a frame is.
pub(crate) struct Judged {
    /// The verdict.
    pub(crate) verdict: UplinkVerdict,
    /// Whom it is from, as limits see it: of what is dropped.
    pub(crate) source: u64,
}

/// The verdict for a frame.
#[inline(always)]
pub(crate) fn judge(frame: &Frame) -> Judged {
    let passed = |verdict| Judged { verdict, source: 0 };
    let Some(settings) = maps::settings() else { return passed(UplinkVerdict::NotOurs) };
    if settings.port == 0 {
        return passed(UplinkVerdict::NotOurs);
    }
    let datagram = match parse(frame, settings) {
        Ok(datagram) => datagram,
        Err(verdict) => return passed(verdict),
    };
    let rule = if settings.has_prefixes != 0 { maps::rule(&datagram.from) } else { PrefixRule::NONE };
    Judged { verdict: weigh(frame, &datagram, rule), source: datagram.source }
}

#[inline(always)]
fn weigh(frame: &Frame, datagram: &Datagram, rule: PrefixRule) -> UplinkVerdict {
    if rule == PrefixRule::DENY && !mutant::UPLINK_DENY_IGNORED {
        return UplinkVerdict::Denied;
    }
    if datagram.udp_length != datagram.ip_length && !mutant::UPLINK_UDP_LENGTH_IGNORED {
        return UplinkVerdict::LengthMismatch;
    }
    let Some(length) = datagram.udp_length.checked_sub(UdpHdr::LEN as u32) else {
        return UplinkVerdict::LengthMismatch;
    };
    if length < 4 {
        return UplinkVerdict::WrongLength;
    }
    let right = match mutant::kind(datagram.kind) {
        DATA => length >= SMALLEST_DATA,
        INITIATION => length == INITIATION_LEN,
        RESPONSE => length == RESPONSE_LEN,
        COOKIE => length == COOKIE_LEN,
        NO_KIND => return UplinkVerdict::Odd,
        _ => return UplinkVerdict::UnknownType,
    };
    if !right {
        return UplinkVerdict::WrongLength;
    }
    match mutant::kind(datagram.kind) {
        DATA => UplinkVerdict::Data,
        COOKIE => UplinkVerdict::Cookie,
        _ => handshake::weigh(frame, datagram, rule == PrefixRule::ALLOW && !mutant::UPLINK_ALLOW_LIMITED),
    }
}
