//! The hooks that relay prints for a home server, run as wg-quick runs them: in bash, on real interfaces.
//!
//! Each case is a script in namespaces of its own (network, mounts, processes), so that nothing of it outlives the
//! test: `unshare --kill-child` ends every process in them when the script ends, however it ends.

use std::{
    net::IpAddr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use ipnet::IpNet;
use relay_tests::guest::patience;
use relay_user::{
    desired::{BackendChoice, Desired, FastPathMode, Firewall, Hub, Peer, Role, Uplink},
    key::PrivateKey,
    peer_config::wg_quick,
};

/// A home (this namespace) between `phone`, which stands for the far end of the tunnel, and `nas`, which has no route
/// back to it. `$LAN4` and `$LAN6` are the home server's addresses on the LAN.
const PICTURE: &str = r#"
set -euo pipefail
mount -t tmpfs tmpfs /run
ip link set lo up
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
for name in phone nas; do ip netns add $name; ip -n $name link set lo up; done
ip link add tun0 type veth peer name eth0 netns phone
ip link add lan0 type veth peer name eth0 netns nas
ip address add 10.9.0.2/24 dev tun0
ip address add fd52:1a9::2/64 dev tun0 nodad
ip -n phone address add 10.9.0.3/24 dev eth0
ip -n phone address add fd52:1a9::3/64 dev eth0 nodad
ip -n nas address add 192.168.40.10/24 dev eth0
ip -n nas address add fd00:40::10/64 dev eth0 nodad
ip link set tun0 up
ip -n phone link set eth0 up
ip -n nas link set eth0 up
ip -n phone route add 192.168.40.0/24 via 10.9.0.2
ip -n phone route add fd00:40::/64 via fd52:1a9::2

lan() { ip address add $LAN4 dev lan0; ip address add $LAN6 dev lan0 nodad; ip link set lan0 up; }

# What wg-quick does with its hooks, in words of our own: the name put in, the line evaluated in a subshell, failure fatal.
run_hooks() { while read -r hook; do hook="${hook//%i/tun0}"; (PATH="${HOOK_PATH:-$PATH}"; eval "$hook"); done < "$1"; }

# Nothing listens: a refusal is an answer, and it came the whole way back to the phone.
reaches() {
    nsenter --net=/run/netns/phone timeout "$1" bash -c "exec 3<>/dev/tcp/$2/80" 2> /run/said || true
    grep -q "Connection refused" /run/said
}
must() { "$@" || { echo "FAILED: $*" >&2; exit 1; }; }
must_not() { if "$@"; then echo "SUCCEEDED: $*" >&2; exit 1; fi; }
everything() { iptables -w -t nat -S; ip6tables -w -t nat -S; nft -s list ruleset 2> /dev/null; }
"#;

/// Up and down, twice each: what is left over does not stand in the way of the next time.
const MASQUERADES: &str = r#"
lan
# The first rule ever creates iptables' own tables, which it then keeps.
for tables in iptables ip6tables; do
    $tables -w -t nat -A POSTROUTING -j RETURN; $tables -w -t nat -D POSTROUTING -j RETURN
done
everything > /run/before
must_not reaches 1 192.168.40.10
run_hooks "$FOLDER/up"
everything > /run/first
must test "$(cat /proc/sys/net/ipv4/ip_forward)" = 1
must test "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" = 1
must test "$(cat /proc/sys/net/ipv6/conf/lan0/accept_ra)" = 2
must reaches 20 192.168.40.10
must reaches 20 fd00:40::10
must grep -q -e "$EXPECT" /run/first
must_not grep -q -e "$REFUSE" /run/first
run_hooks "$FOLDER/up"
everything > /run/second
must diff /run/first /run/second
must reaches 20 192.168.40.10
run_hooks "$FOLDER/down"
everything > /run/after
must diff /run/before /run/after
must_not reaches 1 192.168.40.10
run_hooks "$FOLDER/down"
"#;

/// The LAN is nowhere: words, and neither failure nor a rule.
const WITHOUT_LAN: &str = r#"
ip route add default via 10.9.0.3
run_hooks "$FOLDER/up"
nft list ruleset > /run/rules
must_not grep -q masquerade /run/rules
must test "$(cat /proc/sys/net/ipv4/ip_forward)" = 1
run_hooks "$FOLDER/down"
"#;

/// Debian's wg-quick itself takes the whole file, with the kernel's WireGuard or wireguard-go.
const WG_QUICK: &str = r#"
ip link delete tun0
lan
mkdir -p /run/wireguard
wg-quick up "$FOLDER/home.conf" 2>&1
must test "$(wg show home peers | wc -l)" = 1
ip -o link show dev home > /run/link
must grep -q "mtu 1420" /run/link
ip -4 route show dev home > /run/routes
must grep -q "^10.9.0.0/24" /run/routes
must_not grep -q 192.168.40 /run/routes
nft list table ip relay-home > /run/rules
must grep -q 'oifname "lan0" .*masquerade' /run/rules
wg-quick down "$FOLDER/home.conf" 2>&1
nft list ruleset > /run/rules
must_not grep -q relay-home /run/rules
"#;

#[test]
fn masquerades_by_nftables() {
    // The home server is the LAN's first address itself.
    let lan = [("LAN4", "192.168.40.1/24"), ("LAN6", "fd00:40::1/64")];
    run(MASQUERADES, &lan, &[("EXPECT", "table ip relay-tun0"), ("REFUSE", "-N relay-tun0")]);
}

#[test]
fn masquerades_by_iptables_where_there_is_no_nft() {
    let without_nft = tempfile::tempdir().expect("folder");
    for tool in ["cat", "ip", "ip6tables", "iptables"] {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|folder| Path::new(folder).join(tool));
        let found =
            found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{tool} is not installed"));
        symlink(found, without_nft.path().join(tool)).expect("link");
    }
    let path = without_nft.path().to_str().expect("path");
    let lan = [("LAN4", "192.168.40.5/24"), ("LAN6", "fd00:40::5/64")];
    let env = [("EXPECT", "-N relay-tun0"), ("REFUSE", "table ip relay-tun0"), ("HOOK_PATH", path)];
    run(MASQUERADES, &lan, &env);
}

#[test]
fn a_lan_that_is_not_there_is_no_failure() {
    let output = run(WITHOUT_LAN, &[], &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    for lan in ["192.168.40.0/24", "fd00:40::/64"] {
        let expected = format!("relay: found no interface toward {lan}, which stays out of reach\n");
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[test]
fn stock_wg_quick_takes_it() {
    run(WG_QUICK, &[("LAN4", "192.168.40.5/24"), ("LAN6", "fd00:40::5/64")], &[]);
}

/// Runs a script after [`PICTURE`]; panics with all it said unless it succeeds.
fn run(script: &str, lan: &[(&str, &str)], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("folder");
    let config = home_config();
    let file = folder.path().join("home.conf");
    std::fs::write(&file, &config).expect("write");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    for (name, key) in [("up", "PostUp = "), ("down", "PostDown = ")] {
        let hooks: String = config
            .lines()
            .filter_map(|line| line.strip_prefix(key))
            .map(|hook| format!("{hook}\n"))
            .collect();
        assert!(!hooks.is_empty(), "no {key}");
        std::fs::write(folder.path().join(name), hooks).expect("write");
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["timeout", &patience(Duration::from_secs(120)).as_secs().to_string()])
        .args(["bash", "-c", &format!("{PICTURE}{script}")])
        .env("FOLDER", folder.path())
        .envs(lan.iter().copied())
        .envs(env.iter().copied())
        .output()
        .expect("unshare");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn home_config() -> String {
    let (private_key, desired) = (PrivateKey::new([2; 32]), hub());
    let key = private_key.public_key();
    let endpoint = "203.0.113.1:51820";
    wg_quick(&desired, Some(endpoint), &key, &desired.peers[&key], Some(&private_key)).as_str().to_owned()
}

fn hub() -> Desired {
    let home = Peer {
        name: "home".parse().expect("name"),
        preshared_key: None,
        addresses: ["10.9.0.2", "fd52:1a9::2"]
            .map(|address| address.parse::<IpAddr>().expect("address"))
            .into(),
        lans: ["192.168.40.0/24", "fd00:40::/64"].map(|lan| lan.parse::<IpNet>().expect("net")).into(),
        endpoint: None,
        keepalive: Some(25),
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    };
    Desired {
        interface: "wg0".parse().expect("name"),
        backend: BackendChoice::Auto,
        mtu: 1420,
        addresses: ["10.9.0.1/24", "fd52:1a9::1/64"].map(|net| net.parse::<IpNet>().expect("net")).into(),
        private_key: PrivateKey::new([1; 32]),
        role: Role::Hub(Hub {
            listen_port: 51820,
            endpoint: None,
            fast_path: FastPathMode::Auto,
            uplink: Uplink::default(),
        }),
        firewall: Firewall::default(),
        peers: [(PrivateKey::new([2; 32]).public_key(), home)].into(),
    }
}
