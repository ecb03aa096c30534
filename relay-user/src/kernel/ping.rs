//! Asks machines behind an interface whether they are there, by ICMP (RFC 792), each question with its own hop limit.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockaddrIn, recv, sendto},
};

use crate::name::InterfaceName;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub to: Ipv4Addr,
    /// How many routers it may pass, and one more.
    pub hops: u8,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To which question, by its number.
    pub question: usize,
    /// Who answered.
    pub from: Ipv4Addr,
    /// What.
    pub said: Said,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// "Here I am", with so many hops left on arrival.
    Here {
        /// The hop limit that was left.
        hops: u8,
    },
    /// A router: it would have gone on from here.
    TimeExceeded,
    /// A router or the machine itself: not from here, with the code of RFC 1812 5.2.7.1.
    Unreachable(u8),
}

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
/// Bytes of ICMP's header.
const ICMP: usize = 8;

/// Questions that go out in one burst: a tunnel's queue holds a thousand packets, a slow line fewer.
const BURST: usize = 16;
/// From one burst to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks them all by that interface and gathers the answers until each is answered, `enough` says so, or `wait` is over
/// after the last. At most 65,536 questions are asked.
///
/// # Errors
/// No raw socket to be had, which takes root (CAP_NET_RAW), or no such interface.
pub fn ask(
    interface: &InterfaceName,
    questions: &[Question],
    wait: Duration,
    mut enough: impl FnMut(&Answer) -> bool,
) -> io::Result<Vec<Answer>> {
    // Others may be asking at the same time, this process too.
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let identity = (std::process::id() as u16).wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed) << 10);
    let socket = socket(interface)?;
    let mut answers = Vec::new();
    for (number, question) in questions.iter().enumerate().take(usize::from(u16::MAX) + 1) {
        send(&socket, identity, number, question)?;
        if number % BURST == BURST - 1
            && gather(&socket, identity, questions, Instant::now() + PAUSE, &mut answers, &mut enough)?
        {
            return Ok(answers);
        }
    }
    gather(&socket, identity, questions, Instant::now() + wait, &mut answers, &mut enough)?;
    Ok(answers)
}

fn socket(interface: &InterfaceName) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes three numbers; its answer is judged before it is taken for a descriptor.
    let descriptor = done(unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_ICMP) })?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.as_str().as_bytes())?;
    Ok(socket)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let size = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads as many bytes as the slice has, which outlives the call.
    done(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), size) })
        .map(drop)
}

fn done(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn send(socket: &OwnedFd, identity: u16, number: usize, question: &Question) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_TTL, &i32::from(question.hops).to_ne_bytes())?;
    let [a, b] = identity.to_be_bytes();
    let [c, d] = (number as u16).to_be_bytes();
    let mut message = [ECHO_REQUEST, 0, 0, 0, a, b, c, d];
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let [e, f, g, h] = question.to.octets();
    match sendto(socket.as_raw_fd(), &message, &SockaddrIn::new(e, f, g, h, 0), MsgFlags::empty()) {
        // A peer without an endpoint, a queue that is full: then there is no answer, which is an answer.
        Ok(_)
        | Err(
            Errno::EDESTADDRREQ
            | Errno::ENOKEY
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ENOBUFS
            | Errno::EAGAIN
            | Errno::EPERM,
        ) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// RFC 1071's, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// Whether that is enough.
fn gather(
    socket: &OwnedFd,
    identity: u16,
    questions: &[Question],
    end: Instant,
    answers: &mut Vec<Answer>,
    enough: &mut impl FnMut(&Answer) -> bool,
) -> io::Result<bool> {
    let mut bytes = [0; 2048];
    loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(length) => {
                let Some(answer) = parse(&bytes[..length], identity) else { continue };
                let known = answers.iter().any(|other: &Answer| other.question == answer.question);
                if answer.question < questions.len() && !known {
                    answers.push(answer);
                    if enough(&answer) || answers.len() == questions.len() {
                        return Ok(true);
                    }
                }
            }
            Err(Errno::EAGAIN) => {
                let left = end.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                    return Ok(false);
                }
            }
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= end {
            return Ok(false);
        }
    }
}

/// What an IPv4 packet answers to a question of ours, if it is such a one.
fn parse(packet: &[u8], identity: u16) -> Option<Answer> {
    let (header, icmp) = split(packet)?;
    let hops = *header.get(8)?;
    let from: [u8; 4] = header.get(12..16)?.try_into().ok()?;
    let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
    let (said, ours) = match kind {
        ECHO_REPLY => (Said::Here { hops }, icmp),
        TIME_EXCEEDED => (Said::TimeExceeded, split(icmp.get(ICMP..)?)?.1),
        UNREACHABLE => (Said::Unreachable(code), split(icmp.get(ICMP..)?)?.1),
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes(ours.get(at..at + 2)?.try_into().ok()?));
    (number(4)? == identity).then_some(())?;
    Some(Answer { question: number(6)?.into(), from: from.into(), said })
}

/// Header and content of an IPv4 packet.
fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    packet.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_is_none() {
        let header = |protocol| {
            [&[0x45, 0, 0, 28, 0, 0, 0, 0, 63, protocol, 0, 0, 10, 9, 0, 2][..], &[10, 9, 0, 1]].concat()
        };
        let request = [8, 0, 0, 0, 0x12, 0x34, 0, 5];
        let reply = [&header(1)[..], &[0, 0, 0, 0, 0x12, 0x34, 0, 5]].concat();
        let from = Ipv4Addr::new(10, 9, 0, 2);
        let answer = |said| Some(Answer { question: 5, from, said });
        assert_eq!(parse(&reply, 0x1234), answer(Said::Here { hops: 63 }));
        assert_eq!(parse(&reply, 0x1235), None, "somebody else's");
        let error =
            |kind, code| [&header(1)[..], &[kind, code, 0, 0, 0, 0, 0, 0], &header(1), &request].concat();
        assert_eq!(parse(&error(11, 0), 0x1234), answer(Said::TimeExceeded));
        assert_eq!(parse(&error(3, 13), 0x1234), answer(Said::Unreachable(13)));
        assert_eq!(parse(&error(5, 0), 0x1234), None, "a redirect");
        for length in 0..error(3, 1).len() {
            assert_eq!(parse(&error(3, 1)[..length], 0x1234), None, "{length} bytes");
        }
    }

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        let message = [8, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe];
        let sum = checksum(&message).to_be_bytes();
        let with = [message[0], message[1], sum[0], sum[1], message[4], message[5], message[6], message[7]];
        assert_eq!(checksum(&with), 0);
    }
}
