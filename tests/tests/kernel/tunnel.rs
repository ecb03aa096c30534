//! A WireGuard interface of ours on either backend, for the cases that must hold on both.

use anyhow::Result;
use ipnet::IpNet;
use relay_user::{
    desired::Backend,
    kernel::{
        netlink::Netlink,
        userspace::Userspace,
        wireguard::{self, PeerChange},
    },
    key::PublicKey,
    name::InterfaceName,
};

pub(crate) fn name(text: &str) -> InterfaceName {
    text.parse().expect("interface name")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("prefix")
}

/// `wg0`, marked, down and empty.
pub(crate) struct Tunnel {
    pub(crate) name: InterfaceName,
    pub(crate) index: u32,
    _userspace: Option<Userspace>,
}

impl Tunnel {
    pub(crate) async fn create(netlink: &Netlink, backend: Backend) -> Result<Self> {
        let name = name("wg0");
        let (index, userspace) = match backend {
            Backend::Kernel => (netlink.create_wireguard(&name).await?.index, None),
            Backend::Userspace => {
                let userspace = Userspace::start(&name, 1420)?;
                let link = netlink.link(&name).await?.expect("it was just created");
                (link.index, Some(userspace))
            }
        };
        Ok(Self { name, index, _userspace: userspace })
    }
}

/// Makes two tests of one case. The kernel's says so in one line where the kernel has no WireGuard.
macro_rules! on_both_backends {
    ($($(#[$doc:meta])* $case:ident => $body:ident;)+) => {$(
        $(#[$doc])*
        mod $case {
            #[test]
            fn kernel() {
                if $crate::tunnel::has_kernel_wireguard() {
                    $crate::space::isolated(|| super::$body(relay_user::desired::Backend::Kernel));
                }
            }

            #[test]
            fn userspace() {
                $crate::space::isolated(|| super::$body(relay_user::desired::Backend::Userspace));
            }
        }
    )+};
}
pub(crate) use on_both_backends;

/// Asked where the tests run, so that no case passes for the wrong reason.
pub(crate) fn has_kernel_wireguard() -> bool {
    match wireguard::kernel_available() {
        Ok(()) => true,
        Err(reason) => {
            println!("skipped: no kernel WireGuard here ({reason})");
            false
        }
    }
}

/// A peer's public key, made of a number.
pub(crate) fn key(number: u16) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::new(bytes)
}

/// A plain peer with these prefixes.
pub(crate) fn peer(public_key: PublicKey, allowed_ips: Vec<IpNet>) -> PeerChange {
    PeerChange::Set { public_key, preshared_key: None, endpoint: None, allowed_ips, keepalive: None }
}
