//! What a peer's own configuration says besides addresses and keys, and until when.

use super::{
    interface::{MAX_MTU, MIN_MTU_V4, MIN_MTU_V6},
    meaning::Context,
    moment,
    peers::Label,
    written::PeerWritten,
};
use crate::desired::Resolver;

pub(super) fn mtu(context: &mut Context<'_>, peer: &PeerWritten, label: Label<'_>) -> Option<u32> {
    let written = peer.mtu.as_ref()?;
    let ipv6 = peer.addresses.get_ref().iter().any(|address| address.get_ref().contains(':'));
    let least = if ipv6 { MIN_MTU_V6 } else { MIN_MTU_V4 };
    let mtu = u32::try_from(*written.get_ref()).ok().filter(|mtu| (least..=MAX_MTU).contains(mtu));
    if mtu.is_none() {
        let message = format!("mtu {} of {label} is not {least} to {MAX_MTU}", written.get_ref());
        context.problems.refuse(written.span(), message);
    }
    mtu
}

pub(super) fn dns(context: &mut Context<'_>, peer: &PeerWritten, label: Label<'_>) -> Vec<Resolver> {
    let mut resolvers = Vec::with_capacity(peer.dns.len());
    for entry in &peer.dns {
        match resolver(entry.get_ref()) {
            Some(resolver) => resolvers.push(resolver),
            None => {
                let message = format!(
                    "dns `{}` of {label} is neither an IP address nor a search domain",
                    entry.get_ref().escape_debug()
                );
                context.problems.refuse_with_hint(
                    entry.span(),
                    message,
                    "write such as 192.168.40.1 or home.arpa",
                );
            }
        }
    }
    resolvers
}

/// An entry of `dns`: an address, or a domain of letters, digits, `-`, `_` and dots (RFC 1123 2.1, with the underscore
/// that Windows networks are fond of).
#[must_use]
pub fn resolver(text: &str) -> Option<Resolver> {
    if let Ok(address) = text.parse() {
        return Some(Resolver::Server(address));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // An address that is mistyped has only digits in its last label, which no domain has.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let valid =
        text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(numeric);
    valid.then(|| Resolver::Search(text.to_owned()))
}

pub(super) fn expires(
    context: &mut Context<'_>,
    peer: &PeerWritten,
    label: Label<'_>,
) -> Option<jiff::Timestamp> {
    let written = peer.expires.as_ref()?;
    match moment::read(&written.get_ref().to_string()) {
        Ok(moment) => Some(moment),
        Err(error) => {
            context.problems.refuse(written.span(), format!("expires of {label}: {error}"));
            None
        }
    }
}
