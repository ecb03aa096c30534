//! `[uplink]`: the guard in front of the listen port.

use std::collections::BTreeSet;

use ipnet::IpNet;
use relay_common::uplink::MAX_PREFIXES;
use serde_spanned::Spanned;

use super::{meaning::Context, prefix, written::UplinkWritten};
use crate::{desired::Uplink, name::InterfaceName};

pub(super) fn mean(
    context: &mut Context<'_>,
    written: &UplinkWritten,
    own_name: Option<&InterfaceName>,
) -> Uplink {
    let interface = written.interface.as_ref().and_then(|text| interface(context, text, own_name));
    let deny = prefixes(context, "deny", &written.deny);
    let allow = prefixes(context, "allow", &written.allow);
    for entry in &written.allow {
        if let Some(both) = read(entry.get_ref()).ok().filter(|prefix| deny.contains(prefix)) {
            let message = format!("{both} is in `deny` and in `allow`");
            context.problems.refuse_with_hint(entry.span(), message, "of two prefixes the longer one counts");
        }
    }
    if deny.len() + allow.len() > MAX_PREFIXES as usize {
        let span = written.deny.last().or(written.allow.last()).map_or(0..0, Spanned::span);
        let message = format!("`deny` and `allow` have more than {MAX_PREFIXES} prefixes together");
        context.problems.refuse(span, message);
    }
    Uplink { interface, mode: written.mode, deny, allow }
}

fn interface(
    context: &mut Context<'_>,
    written: &Spanned<String>,
    own_name: Option<&InterfaceName>,
) -> Option<InterfaceName> {
    let name: InterfaceName = match written.get_ref().parse() {
        Ok(name) => name,
        Err(error) => {
            context.problems.refuse(written.span(), format!("interface: {error}"));
            return None;
        }
    };
    if Some(&name) == own_name {
        let message = format!("interface {name} is the tunnel itself");
        let hint = "the uplink is the interface that leads to the internet, such as eth0";
        context.problems.refuse_with_hint(written.span(), message, hint);
        return None;
    }
    Some(name)
}

fn prefixes(context: &mut Context<'_>, key: &str, written: &[Spanned<String>]) -> BTreeSet<IpNet> {
    let mut prefixes = BTreeSet::new();
    for entry in written {
        match read(entry.get_ref()) {
            Ok(prefix) => drop(prefixes.insert(prefix)),
            Err(message) => context.problems.refuse(entry.span(), format!("{key}: {message}")),
        }
    }
    prefixes
}

fn read(text: &str) -> Result<IpNet, String> {
    prefix::read(text).unwrap_or_else(|| Err(format!("`{}` is no prefix of addresses", text.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_addresses() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7", Ok("192.0.2.7/32")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("2001:db8::7", Ok("2001:db8::7/128")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("192.0.2.1/24", Err("192.0.2.1/24 has host bits set; the network is 192.0.2.0/24")),
            ("eth0", Err("`eth0` is no prefix of addresses")),
        ] {
            let read = read(text).map(|prefix| prefix.to_string());
            assert_eq!(read.as_ref().map(String::as_str).map_err(String::as_str), expected, "{text}");
        }
    }
}
