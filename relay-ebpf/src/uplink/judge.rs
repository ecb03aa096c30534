//! How a verdict is reached. What costs nothing comes first, and whoever is over a limit is not looked at any closer: a
//! flood is to cost as little as can be. Nothing here acts; what a verdict does stands in the program's entry.

use network_types::udp::UdpHdr;
use relay_common::{UplinkVerdict, uplink::PrefixRule};

use super::{
    frame::Frame,
    limits::Limits,
    mac1, maps,
    parse::{Datagram, parse},
};

/// Types of messages (whitepaper 5.4.2 to 5.4.7), with the three reserved bytes behind them.
const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE: u32 = 3;
const DATA: u32 = 4;

/// Lengths of messages, of data the smallest: its header and the seal of an empty packet.
const INITIATION_LEN: u32 = 148;
const RESPONSE_LEN: u32 = 92;
const COOKIE_LEN: u32 = 64;
const SMALLEST_DATA: u32 = 32;

/// The verdict for a frame. A source that has something dropped is remembered for it.
#[inline(always)]
pub(crate) fn judge(frame: &Frame) -> UplinkVerdict {
    let Some(settings) = maps::settings() else { return UplinkVerdict::NotOurs };
    if settings.port == 0 {
        return UplinkVerdict::NotOurs;
    }
    let datagram = match parse(frame, settings.port as u16) {
        Ok(datagram) => datagram,
        Err(verdict) => return verdict,
    };
    let rule = if settings.has_prefixes != 0 { maps::rule(&datagram.from) } else { PrefixRule::NONE };
    let verdict = weigh(frame, &datagram, rule);
    if verdict.drops() {
        maps::blame(datagram.source);
    }
    verdict
}

#[inline(always)]
fn weigh(frame: &Frame, datagram: &Datagram, rule: PrefixRule) -> UplinkVerdict {
    if rule == PrefixRule::DENY {
        return UplinkVerdict::Denied;
    }
    if datagram.udp_length != datagram.ip_length {
        return UplinkVerdict::LengthMismatch;
    }
    let Some(length) = datagram.udp_length.checked_sub(UdpHdr::LEN as u32) else {
        return UplinkVerdict::LengthMismatch;
    };
    if length < 4 {
        return UplinkVerdict::WrongLength;
    }
    let Some(kind) = datagram.kind else { return UplinkVerdict::Odd };
    let right = match kind {
        DATA => length >= SMALLEST_DATA,
        INITIATION => length == INITIATION_LEN,
        RESPONSE => length == RESPONSE_LEN,
        COOKIE => length == COOKIE_LEN,
        _ => return UplinkVerdict::UnknownType,
    };
    if !right {
        return UplinkVerdict::WrongLength;
    }
    match kind {
        DATA => UplinkVerdict::Data,
        COOKIE => UplinkVerdict::Cookie,
        INITIATION => initiation(frame, datagram, rule == PrefixRule::ALLOW),
        _ => response(frame, datagram, rule == PrefixRule::ALLOW),
    }
}

#[inline(always)]
fn initiation(frame: &Frame, datagram: &Datagram, allowed: bool) -> UplinkVerdict {
    let Some(settings) = maps::settings() else { return UplinkVerdict::Odd };
    let Some(scratch) = maps::scratch() else { return UplinkVerdict::Odd };
    let mut limits = Limits::of(datagram.source, allowed);
    if let Some(verdict) = limits.refuse_initiation(settings) {
        return verdict;
    }
    if !scratch.load_initiation(frame, datagram.payload) {
        return UplinkVerdict::Odd;
    }
    if maps::came_before(scratch.ephemeral()) {
        return UplinkVerdict::Replay;
    }
    if !mac1::of_initiation(scratch, settings) {
        return limits.count_junk(settings);
    }
    let verdict = limits.count_initiation(datagram.source, settings);
    if !verdict.drops() {
        maps::remember(scratch.ephemeral());
    }
    verdict
}

#[inline(always)]
fn response(frame: &Frame, datagram: &Datagram, allowed: bool) -> UplinkVerdict {
    let Some(settings) = maps::settings() else { return UplinkVerdict::Odd };
    let Some(scratch) = maps::scratch() else { return UplinkVerdict::Odd };
    let mut limits = Limits::of(datagram.source, allowed);
    if let Some(verdict) = limits.refuse_junk(settings) {
        return verdict;
    }
    if !scratch.load_response(frame, datagram.payload) {
        return UplinkVerdict::Odd;
    }
    if mac1::of_response(scratch, settings) { UplinkVerdict::Response } else { limits.count_junk(settings) }
}
