//! That a guest is what the tests in it take for granted: its kernel, and what that kernel has.
//!
//! Outside of a guest a kernel may lack any of it; what cannot be tried there is said to be skipped and proves nothing.

use std::fs;
use std::process::Command;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::statfs::{FsType, statfs};
use relay_tests::guest::{self, kernel_version, skip};

/// From include/uapi/linux/magic.h.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// Runs a shell's lines in a network namespace of their own that ends with them; gives what they printed.
fn in_namespace(lines: &str) -> String {
    let output = Command::new("unshare")
        .args(["--net", "--mount", "bash", "-e", "-u", "-o", "pipefail", "-c", lines])
        .output()
        .expect("starting unshare");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines}\n{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether this is a guest; if not, that is said.
fn in_guest(needs: &str) -> bool {
    let here = guest::line().is_some();
    if !here {
        skip(&format!("outside of a guest the kernel need not have {needs}"));
    }
    here
}

#[test]
fn the_kernel_is_the_one_asked_for() {
    match guest::line() {
        Some(line) => {
            let (major, minor) = kernel_version();
            assert_eq!(line, format!("{major}.{minor}"));
        }
        None => skip("no guest, so no kernel was asked for"),
    }
}

#[test]
fn two_kernel_wireguard_links_reach_each_other() {
    if !in_guest("WireGuard") {
        return;
    }
    // Two links in one namespace would answer each other without a tunnel, so the far one has its own.
    let printed = in_namespace(
        "mount -t tmpfs none /run
         ip link set lo up
         ip netns add far
         trap 'ip netns del far' EXIT
         ip link add near0 type veth peer name far0 netns far
         ip addr add 192.0.2.1/24 dev near0; ip link set near0 up
         ip -n far addr add 192.0.2.2/24 dev far0; ip -n far link set far0 up
         near=$(wg genkey); far=$(wg genkey)
         ip link add wg0 type wireguard
         ip -n far link add wg0 type wireguard
         wg set wg0 listen-port 51820 private-key <(echo \"$near\") \
             peer \"$(echo \"$far\" | wg pubkey)\" endpoint 192.0.2.2:51820 allowed-ips 10.9.0.2/32
         nsenter --net=/run/netns/far wg set wg0 listen-port 51820 private-key <(echo \"$far\") \
             peer \"$(echo \"$near\" | wg pubkey)\" allowed-ips 10.9.0.1/32
         ip addr add 10.9.0.1/24 dev wg0; ip link set wg0 up
         ip -n far addr add 10.9.0.2/24 dev wg0; ip -n far link set wg0 up
         ping -c 3 -W 20 10.9.0.2
         ip -details link show wg0",
    );
    // busybox counts "packets received", iputils "received".
    assert!(printed.contains(" 0% packet loss"), "{printed}");
    assert!(printed.contains("wireguard"), "{printed}");
}

#[test]
fn netem_is_there() {
    if in_guest("netem") {
        let printed = in_namespace("tc qdisc add dev lo root netem loss 50%; tc qdisc show dev lo");
        assert!(printed.contains("netem") && printed.contains("loss 50%"), "{printed}");
    }
}

#[test]
fn clsact_is_there() {
    let printed = in_namespace("tc qdisc add dev lo clsact; tc qdisc show dev lo");
    assert!(printed.contains("clsact"), "{printed}");
}

/// TCX came with 6.6: <https://git.kernel.org/torvalds/c/e420bed02507>
#[test]
fn tcx_is_there_from_kernel_6_6() {
    let answer = SchedClassifier::query_tcx("lo", TcAttachType::Ingress);
    assert_eq!(answer.is_ok(), kernel_version() >= (6, 6), "{answer:?}");
}

#[test]
fn the_kernel_describes_its_types() {
    let types = fs::read("/sys/kernel/btf/vmlinux").expect("reading the kernel's BTF");
    // From include/uapi/linux/btf.h.
    assert_eq!(types[..2], 0xeb9f_u16.to_ne_bytes());
}

#[test]
fn bpffs_is_mounted() {
    if in_guest("bpffs mounted") {
        let kind = statfs("/sys/fs/bpf").expect("asking after /sys/fs/bpf").filesystem_type();
        assert_eq!(kind, BPF_FS_MAGIC);
    }
}

#[test]
fn both_kinds_of_netfilter_are_there() {
    if in_guest("nftables and legacy iptables") {
        in_namespace(
            "nft add table inet t
             nft add chain inet t c '{ type filter hook forward priority 0; policy drop; }'
             nft add rule inet t c ct state established accept
             iptables-legacy -P FORWARD DROP
             iptables-legacy -t nat -A POSTROUTING -o lo -j MASQUERADE
             iptables-nft -A FORWARD -m conntrack --ctstate RELATED -m comment --comment x -j ACCEPT
             ip6tables-legacy -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        );
    }
}
