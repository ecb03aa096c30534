//! `[metrics]`: where Prometheus may ask over TCP.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Warning, meaning::Context, written::MetricsWritten};

/// The listener's address. It knows no passwords, so one that others than this machine reach is worth a warning.
pub(super) fn listen(context: &mut Context<'_>, metrics: &MetricsWritten) -> Option<SocketAddr> {
    let written = metrics.listen.as_ref()?;
    let Some(address) = read(written.get_ref()) else {
        let message = format!("listen `{}` is no address with a port", written.get_ref().escape_debug());
        let hint = "write such as 127.0.0.1:9586, or the port alone for loopback";
        context.problems.refuse_with_hint(written.span(), message, hint);
        return None;
    };
    if !address.ip().is_loopback() {
        context.warnings.push(Warning(format!(
            "[metrics] listen = \"{address}\": whoever reaches this address reads the names, keys and traffic of all \
             peers; let a firewall hold others back, or listen on 127.0.0.1"
        )));
    }
    Some(address)
}

fn read(text: &str) -> Option<SocketAddr> {
    let loopback = || text.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    text.parse().ok().or_else(loopback).filter(|address| address.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports() {
        for (text, expected) in [
            ("127.0.0.1:9586", Some("127.0.0.1:9586")),
            ("[::1]:9586", Some("[::1]:9586")),
            ("9586", Some("127.0.0.1:9586")),
            ("0.0.0.0:9586", Some("0.0.0.0:9586")),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("0", None),
            ("localhost:9586", None),
            ("99999", None),
            ("", None),
        ] {
            assert_eq!(read(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }
}
