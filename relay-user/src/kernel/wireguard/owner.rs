//! Whose an interface is, asked of the kernel right before each change.

use std::io;

use nix::libc;
use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::WireGuardError;
use crate::{desired::Backend, name::InterfaceName, observed::MARK};

/// Fails unless the interface is there, carries relay's mark and is of the backend's kind.
pub(super) fn ensure_ours(name: &InterfaceName, backend: Backend) -> Result<(), WireGuardError> {
    let link = match link(name) {
        Ok(link) => link,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            return Err(WireGuardError::Absent(name.to_string()));
        }
        Err(error) => return Err(WireGuardError::failed("look up interface", name, &error)),
    };
    let mark =
        |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfAlias(alias) if alias == MARK);
    if !link.attributes.iter().any(mark) {
        return Err(WireGuardError::NotOurs(name.to_string()));
    }
    let expected = LinkInfo::Kind(match backend {
        Backend::Kernel => InfoKind::Wireguard,
        Backend::Userspace => InfoKind::Tun,
    });
    let kind = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&expected));
    if link.attributes.iter().any(kind) {
        Ok(())
    } else {
        Err(WireGuardError::NotWireGuard(name.to_string()))
    }
}

fn link(name: &InterfaceName) -> io::Result<LinkMessage> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_string()));
    let mut question = NetlinkMessage::from(RouteNetlinkMessage::GetLink(question));
    question.header.flags = NLM_F_REQUEST;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
