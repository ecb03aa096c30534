//! Netlink's view of an interface's hooks: the filters of clsact, and XDP.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp},
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// A filter on the ingress hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Its priority, lower runs first (upper half), and its protocol (lower half, network order): `tcm_info`.
    info: u32,
    /// Its number within the priority.
    pub(super) handle: u32,
    /// `bpf`, `u32`, `matchall` …
    pub(super) kind: String,
    /// The name that a bpf filter carries.
    pub(super) name: Option<String>,
    /// The program's id, for a bpf filter.
    pub(super) program: Option<u32>,
}

impl Filter {
    /// Lower runs first.
    pub(super) const fn priority(&self) -> u16 {
        (self.info >> 16) as u16
    }
}

/// Where the filters sit on clsact.
const INGRESS: TcHandle = TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_INGRESS };

/// The ingress hook's filters, in the order in which they run; none where there is no qdisc for them.
pub(super) fn list(ifindex: u32) -> io::Result<Vec<Filter>> {
    list_at(ifindex, INGRESS)
}

/// The egress hook's.
pub(super) fn list_egress(ifindex: u32) -> io::Result<Vec<Filter>> {
    list_at(ifindex, TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_EGRESS })
}

fn list_at(ifindex: u32, hook: TcHandle) -> io::Result<Vec<Filter>> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = hook;
    let replies = request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    let filters = replies.into_iter().filter_map(|reply| match reply {
        Reply::Message(RouteNetlinkMessage::NewTrafficFilter(message)) => filter(&message),
        Reply::Message(_) => None,
        // A filter that cannot be read is a filter all the same: whoever asks must not take the hook for free.
        Reply::Unreadable => {
            Some(Filter { info: 0, handle: 0, kind: UNREADABLE.into(), name: None, program: None })
        }
    });
    Ok(filters.collect())
}

/// Stands for the kind of a filter whose message makes no sense to us.
const UNREADABLE: &str = "of an unknown form";

/// One message of an answer.
enum Reply {
    Message(RouteNetlinkMessage),
    Unreadable,
}

/// Adds a direct-action bpf filter behind the others, or, given one that is there, puts the program in its place
/// without a moment in between.
///
/// aya can do both, but names the filter after the program only where it may load a tracing program to see whether the
/// kernel has names, and that asks for CAP_PERFMON. A filter without its name would not be found again.
pub(super) fn attach(
    ifindex: u32,
    name: &str,
    program: BorrowedFd<'_>,
    instead_of: Option<&Filter>,
) -> io::Result<()> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = INGRESS;
    let flags = if let Some(filter) = instead_of {
        message.header.handle = TcHandle::from(filter.handle);
        message.header.info = filter.info;
        NLM_F_ACK
    } else {
        // Priority 0 lets the kernel choose.
        message.header.info = u32::from(ETH_P_ALL.to_be());
        NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    };
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    request(RouteNetlinkMessage::NewTrafficFilter(message), flags).map(drop)
}

/// Deletes the qdisc of the ingress and egress hooks.
pub(super) fn delete_qdisc(ifindex: u32) -> io::Result<()> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".into()));
    request(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(drop)
}

/// `ETH_P_ALL`, include/uapi/linux/if_ether.h.
const ETH_P_ALL: u16 = 3;

/// Deletes one filter.
pub(super) fn delete(ifindex: u32, filter: &Filter) -> io::Result<()> {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = INGRESS;
    message.header.handle = TcHandle::from(filter.handle);
    message.header.info = filter.info;
    message.attributes.push(TcAttribute::Kind(filter.kind.clone()));
    request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK).map(drop)
}

/// A filter's own message; the dump also has one for each chain and priority, with handle 0.
fn filter(message: &TcMessage) -> Option<Filter> {
    let handle = u32::from(message.header.handle);
    if handle == 0 {
        return None;
    }
    let mut filter =
        Filter { info: message.header.info, handle, kind: String::new(), name: None, program: None };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = Some(name.clone()),
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(*id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(filter)
}

/// What an interface's XDP hook has; nothing where there is no such interface.
pub(super) fn xdp(ifindex: u32) -> io::Result<Vec<LinkXdp>> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let replies = match request(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(Vec::new()),
        other => other?,
    };
    let attributes = replies.into_iter().filter_map(|reply| match reply {
        Reply::Message(RouteNetlinkMessage::NewLink(link)) => Some(link.attributes),
        _ => None,
    });
    let xdp = attributes.flatten().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    Ok(xdp.unwrap_or_default())
}

/// One request on a socket of its own, which belongs to the calling thread's network namespace.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Reply>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut replies = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((length, _)) = rest.split_first_chunk::<4>() {
            let length = u32::from_ne_bytes(*length) as usize;
            if length < NLMSG_HEADER || length > rest.len() {
                return Err(io::Error::other("netlink: a message is cut off"));
            }
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length])
                .map(|reply| reply.payload)
            {
                Ok(NetlinkPayload::Done(_)) => return Ok(replies),
                Ok(NetlinkPayload::Error(error)) => {
                    return if error.code.is_none() { Ok(replies) } else { Err(error.to_io()) };
                }
                Ok(NetlinkPayload::InnerMessage(message)) => replies.push(Reply::Message(message)),
                Ok(_) => {}
                Err(_) => replies.push(Reply::Unreadable),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `struct nlmsghdr` in bytes.
const NLMSG_HEADER: usize = 16;
