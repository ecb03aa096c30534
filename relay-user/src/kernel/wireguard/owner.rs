//! Whose an interface is, asked of the kernel right before each change.

use nix::libc;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

use super::WireGuardError;
use crate::{desired::Backend, kernel::rtnl, name::InterfaceName, observed::MARK};

/// Fails unless the interface is there, carries relay's mark and is of the backend's kind.
pub(super) fn ensure_ours(name: &InterfaceName, backend: Backend) -> Result<(), WireGuardError> {
    let link = match rtnl::link(name.as_str()) {
        Ok(link) => link,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            return Err(WireGuardError::Absent(name.to_string()));
        }
        Err(error) => return Err(WireGuardError::failed("look up interface", name, &error)),
    };
    let marked =
        |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfAlias(alias) if alias == MARK);
    if !link.attributes.iter().any(marked) {
        return Err(WireGuardError::NotOurs(name.to_string()));
    }
    let kind = LinkInfo::Kind(match backend {
        Backend::Kernel => InfoKind::Wireguard,
        Backend::Userspace => InfoKind::Tun,
    });
    let fits = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&kind));
    if link.attributes.iter().any(fits) {
        Ok(())
    } else {
        Err(WireGuardError::NotWireGuard(name.to_string()))
    }
}
