//! Sysctls by which the kernel forwards the tunnel's packets otherwise than the fast path does. Relay sets none of them;
//! all are as the fast path assumes unless the admin says otherwise.
//!
//! Each is given as `sysctl` prints it, for the calling thread's network namespace; one that does not exist (no IPv6) is
//! not odd.

use std::fs;

/// IPv4's.
#[must_use]
pub fn v4(interface: &str) -> Vec<String> {
    let odd = [
        // What the interface itself says decides, whatever `ip_forward` says (`ip_route_input_slow`).
        of_interface("ipv4", interface, "forwarding", "1"),
        // Else what the hub has learned of paths lowers their MTUs (`ip_dst_mtu_maybe_forward`).
        other_than("/proc/sys/net/ipv4/ip_forward_use_pmtu", "net.ipv4.ip_forward_use_pmtu", "0"),
    ];
    odd.into_iter().flatten().collect()
}

/// IPv6's, on an interface of this MTU in bytes.
#[must_use]
pub fn v6(interface: &str, mtu: u32) -> Vec<String> {
    let odd = [
        of_interface("ipv6", interface, "disable_ipv6", "0"),
        // IPv6 may have a lower MTU than the interface (`ip6_dst_mtu_maybe_forward`).
        of_interface("ipv6", interface, "mtu", &mtu.to_string()),
    ];
    odd.into_iter().flatten().collect()
}

fn of_interface(family: &str, interface: &str, name: &str, expected: &str) -> Option<String> {
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
    other_than(&path, &format!("net.{family}.conf.{interface}.{name}"), expected)
}

/// The sysctl with its value, where that is not the expected one.
fn other_than(path: &str, name: &str, expected: &str) -> Option<String> {
    let value = fs::read_to_string(path).ok()?;
    (value.trim() != expected).then(|| format!("{name} = {}", value.trim()))
}
