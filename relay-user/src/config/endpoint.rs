//! What one end of a tunnel dials: `host:port`, or a host alone.

use std::net::{IpAddr, SocketAddr};

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither an address nor a host name.
    #[error("`{0}` is neither an IP address nor a host name, with or without a port")]
    Host(String),
    /// Not 1 to 65,535.
    #[error("`{0}` is not a port: 1 to 65535")]
    Port(String),
    /// Nobody can be dialled there.
    #[error("{0} is no machine's address")]
    Undiallable(IpAddr),
}

/// `host:port` from `host:port` or a host alone, IPv6 addresses in brackets; without a port it is `default_port`.
///
/// # Errors
/// See [`EndpointError`].
pub fn host_and_port(text: &str, default_port: u16) -> Result<String, EndpointError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(EndpointError::Port("0".to_owned())),
            _ => diallable(address.ip()).map(|()| address.to_string()),
        };
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return diallable(address).map(|()| SocketAddr::new(address, default_port).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, read_port(port)?),
        None => (text, default_port),
    };
    if is_host_name(host) { Ok(format!("{host}:{port}")) } else { Err(EndpointError::Host(shown(text))) }
}

/// The address of a peer that the hub dials: an IP address and a port, no names, so that nothing waits for DNS.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, EndpointError> {
    let address: SocketAddr = text.parse().map_err(|_| EndpointError::Host(shown(text)))?;
    diallable(address.ip())?;
    if address.port() == 0 { Err(EndpointError::Port("0".to_owned())) } else { Ok(address) }
}

fn diallable(address: IpAddr) -> Result<(), EndpointError> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(EndpointError::Undiallable(address));
    }
    Ok(())
}

fn read_port(text: &str) -> Result<u16, EndpointError> {
    match text.parse() {
        Ok(port) if port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(EndpointError::Port(shown(text))),
    }
}

/// RFC 1123 2.1, and the underscore that people use anyway. A last label of digits only is a mistyped address.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && !numeric && text.split('.').all(label)
}

fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("vps.example.net:443", Some("vps.example.net:443")),
            ("vps.example.net", Some("vps.example.net:51820")),
            ("vps", Some("vps:51820")),
            ("192.0.2.1", Some("192.0.2.1:51820")),
            ("192.0.2.1:1", Some("192.0.2.1:1")),
            ("2001:db8::1", Some("[2001:db8::1]:51820")),
            ("[2001:db8::1]", Some("[2001:db8::1]:51820")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example:51820")),
            ("", None),
            (":51820", None),
            ("vps:", None),
            ("vps:0", None),
            ("vps:+1", None),
            ("vps:65536", None),
            ("300.1.1.1", None),
            ("192.0.2.1:0", None),
            ("0.0.0.0", None),
            ("255.255.255.255", None),
            ("ff02::1", None),
            ("-vps", None),
            ("a b", None),
            ("a..b", None),
            ("https://vps.example.net", None),
            ("vps\n", None),
        ] {
            assert_eq!(host_and_port(text, 51820).ok().as_deref(), expected, "{text:?}");
        }
        assert!(socket_address("192.0.2.1:51820").is_ok());
        assert!(socket_address("vps.example.net:51820").is_err());
        assert!(socket_address("192.0.2.1").is_err());
    }
}
