//! A phone, a hub and a home, each in a namespace of its own with a WireGuard of the kernel's. The spokes are mute: what
//! arrives there is read by the test, and their own stacks see nothing of it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::unistd::gettid;
use relay_tests::{
    namespace::{in_namespaces, output, run, sysctl},
    packet_socket::PacketSocket,
    tun::{Kind, Tun, in_new_namespace},
};
use relay_user::{
    desired::Backend,
    kernel::{
        netlink::Netlink,
        wireguard::{self, PeerChange, Settings},
    },
    key::{PrivateKey, PublicKey},
    name::InterfaceName,
    observed::Device,
};

use super::{
    carried::{Refusal, Spoke, carry},
    wire::Wire,
};
use crate::{
    host::{self, ip, nft},
    hub::{FastPath, Firewall, MTU, Observation, Sent, drain},
    peers::{self, HOME, HOME_KEY, HUB_KEY, PHONE, PHONE_KEY},
};

const PORT: u16 = 51820;
/// Of the spokes' tunnels: above every packet that is sent unmerged, since it is the hub that is asked about too long ones.
const SPOKES_MTU: u16 = 10_000;
/// Of the cables, so that encrypted packets are not cut.
const UNDERLAY_MTU: u16 = SPOKES_MTU + 200;

/// How a hub is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// What stands on the tunnel.
    pub(crate) fast_path: FastPath,
    /// How much of relay's table is loaded.
    pub(crate) firewall: Firewall,
    /// Whether the hub merges TCP segments that arrive together (GRO). How many do is left to chance.
    pub(crate) merging: bool,
}

/// Sends every case through one hub and says what came of each.
pub(crate) fn observe(setup: Setup, cases: &[Vec<Sent>]) -> Vec<Observation> {
    let mut observations = Vec::new();
    in_namespaces(|| {
        let here = gettid().to_string();
        let mut wire = Wire::new(spoke(Spoke::Phone, &here)?, spoke(Spoke::Home, &here)?, setup.merging);
        underlay()?;
        let device = hub()?;
        if !setup.merging {
            run("ethtool -K wg0 gro off")?;
        }
        let mut uplink = Tun::new("eth0", Kind::TunVnet { offload: false }, 1500)?;
        let mut meter = host::set_up(setup.fast_path, setup.firewall, &device)?;
        wire.greet()?;
        meter.observe(Vec::new())?;
        let before = errors()?;
        for case in cases {
            let mut pass = || {
                let mut out = wire.pass(case)?;
                // The kernel had written there what belongs there before it answered the sentinels.
                out.extend(drain("eth0", &mut uplink)?);
                wire.without_sentinels(case, meter.observe(out)?, setup.fast_path)
            };
            observations.push(pass().with_context(|| format!("{setup:?}, {case:?}"))?);
        }
        let refused = |why| cases.iter().flatten().filter(|sent| carry(sent) == Err(why)).count() as u64;
        let expected = [refused(Refusal::Source), refused(Refusal::Length)];
        let counted = errors()?;
        let counted = [counted[0] - before[0], counted[1] - before[1]];
        ensure!(counted == expected, "WireGuard refused {counted:?} sources and lengths, not {expected:?}");
        Ok(())
    });
    observations
}

/// A machine for a spoke, connected to the hub by a cable whose other end is called as the spoke. It is there as long as
/// the socket on its wg0. `hub` is the hub's namespace for `ip`: a name, or a thread in it.
pub(crate) fn spoke(spoke: Spoke, hub: &str) -> Result<PacketSocket> {
    let (device, key) = match spoke {
        Spoke::Phone => ("phone", &PHONE_KEY),
        Spoke::Home => ("home", &HOME_KEY),
    };
    in_new_namespace(|| {
        // Before there is any, so that no device ever has an IPv6 address.
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        tunnel(key)?;
        let everything = ["0.0.0.0/0".parse()?, "::/0".parse()?];
        let [here, there] = addresses(spoke);
        let to_hub = peer(HUB_KEY.public_key(), Some((there, PORT).into()), &everything);
        wireguard::set_peers(&name()?, Backend::Kernel, &[to_hub])?;
        ip(&[
            format!("link add eth0 mtu {UNDERLAY_MTU} type veth peer name {device} mtu {UNDERLAY_MTU} netns {hub}"),
            "link set eth0 up".into(),
            format!("address add {here}/24 dev eth0"),
            format!("link set wg0 mtu {SPOKES_MTU} up"),
        ])?;
        run("ethtool -K wg0 gro off")?;
        // A packet socket sees what arrives before these rules do.
        nft("table ip mute {\n chain arriving {\n type filter hook prerouting priority raw\n iifname wg0 drop\n }\n }\n")?;
        PacketSocket::open("wg0")
    })
    .with_context(|| format!("making {spoke:?}"))
}

/// The hub's ends of the cables. They carry IPv4 alone, so that no address of theirs comes into being in the middle of a
/// test.
pub(crate) fn underlay() -> Result<()> {
    for spoke in [Spoke::Phone, Spoke::Home] {
        let [_, here] = addresses(spoke);
        let device = format!("{spoke:?}").to_lowercase();
        sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "1")?;
        ip(&[format!("address add {here}/24 dev {device}"), format!("link set {device} up")])?;
    }
    Ok(())
}

/// Where encrypted packets go: the spoke's end of its cable, and the hub's.
fn addresses(spoke: Spoke) -> [IpAddr; 2] {
    let number = match spoke {
        Spoke::Phone => 1,
        Spoke::Home => 2,
    };
    [2, 1].map(|end| [172, 31, number, end].into())
}

/// The hub's tunnel, with the peers as relay would have them, in the calling thread's namespace.
fn hub() -> Result<Device> {
    tunnel(&HUB_KEY)?;
    let desired = peers::desired()?;
    let spokes = [(*PHONE, Spoke::Phone), (*HOME, Spoke::Home)];
    let changes: Vec<PeerChange> = desired
        .peers
        .iter()
        .map(|(key, wanted)| {
            let spoke = spokes.iter().find(|(own, _)| own == key);
            let endpoint = spoke.map(|(_, spoke)| SocketAddr::from((addresses(*spoke)[0], PORT)));
            peer(*key, endpoint, &wanted.allowed_ips().collect::<Vec<_>>())
        })
        .collect();
    wireguard::set_peers(&name()?, Backend::Kernel, &changes)?;
    run(&format!("ip link set wg0 mtu {MTU} up"))?;
    wireguard::read(&name()?, Backend::Kernel)?.context("wg0 is gone")
}

/// An interface wg0 with this key, down, without peers.
fn tunnel(key: &PrivateKey) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::connect()?.create_wireguard(&name()?).await.context("make wg0") })?;
    let settings = Settings { private_key: Some(key), listen_port: Some(PORT) };
    Ok(wireguard::configure(&name()?, Backend::Kernel, settings)?)
}

fn peer(public_key: PublicKey, endpoint: Option<SocketAddr>, allowed_ips: &[IpNet]) -> PeerChange {
    let allowed_ips = allowed_ips.to_vec();
    PeerChange::Set { public_key, preshared_key: None, endpoint, allowed_ips, keepalive: None }
}

fn name() -> Result<InterfaceName> {
    Ok("wg0".parse()?)
}

/// What WireGuard has refused on the hub, for its source and for its length.
fn errors() -> Result<[u64; 2]> {
    let links: serde_json::Value = serde_json::from_str(&output("ip -json -stats -stats link show wg0")?)?;
    let count = |name: &str| {
        links[0]["stats64"]["rx"][name].as_u64().with_context(|| format!("no {name} in {links}"))
    };
    Ok([count("frame_errors")?, count("length_errors")?])
}
