//! gotatun inside this process: what it leaves and what it does not, and packets through it.

use std::{
    fs,
    net::UdpSocket,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use relay_tests::guest::patience;
use relay_user::{
    desired::Backend,
    kernel::{
        netlink::Netlink,
        userspace::{MAX_MTU, Userspace, UserspaceError},
        wireguard::{self, PeerChange, Settings},
    },
    key::PrivateKey,
    observed::{DevicePeer, LinkKind},
};

use crate::{
    space::{self, Background, is_bound, isolated, run, sysctl, until},
    tunnel::{key, name, net, peer},
};

const SOCKET: &str = "/run/wireguard/wg0.sock";

fn mode(path: &str) -> Result<u32> {
    Ok(fs::metadata(path).with_context(|| path.to_owned())?.permissions().mode() & 0o7777)
}

#[test]
fn device_and_socket_come_and_go_with_it() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        for _ in 0..2 {
            let userspace = Userspace::start(&name("wg0"), 1380)?;
            let link = netlink.link(&name("wg0")).await?.context("wg0")?;
            assert_eq!((&link.kind, link.mtu, link.up, link.is_ours()), (&LinkKind::Tun, 1380, false, true));
            assert_eq!((mode(SOCKET)?, mode("/run/wireguard")?), (0o600, 0o700));
            assert_eq!(sysctl("net/ipv4/conf/wg0/send_redirects")?, "0");
            netlink.set_up(link.index).await?;
            assert_eq!(run("ip -6 address show dev wg0")?, "", "no link-local address");
            userspace.stop();
            assert_eq!(netlink.link(&name("wg0")).await?, None);
            assert!(!Path::new(SOCKET).exists());
        }
        Ok(())
    });
}

#[test]
fn names_in_use_stay_with_their_owners() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        for line in ["ip tuntap add wg0 mode tun", "ip link add wg0 type veth peer name veth1"] {
            run(line)?;
            let before = netlink.link(&name("wg0")).await?.context("wg0")?;
            let error = Userspace::start(&name("wg0"), 1420).expect_err(line);
            assert!(matches!(error, UserspaceError::NameTaken(_)), "{error}");
            assert_eq!(netlink.link(&name("wg0")).await?, Some(before.clone()));
            assert!(!Path::new(SOCKET).exists());
            netlink.delete_link(before.index).await?;
        }
        let error = Userspace::start(&name("wg0"), MAX_MTU + 1).expect_err("MTU").to_string();
        assert!(error.contains("4064"), "{error}");
        Ok(())
    });
}

#[test]
fn a_dead_socket_is_taken_over_and_a_living_one_is_not() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        fs::create_dir("/run/wireguard")?;
        let living = UnixListener::bind(SOCKET)?;
        let error = Userspace::start(&name("wg0"), 1420).expect_err("somebody answers");
        assert!(matches!(error, UserspaceError::SocketTaken { .. }), "{error}");
        assert!(Path::new(SOCKET).exists());
        assert_eq!(netlink.link(&name("wg0")).await?, None);

        // As kill -9 leaves it: the file is there, nobody listens. (Another case's child may hold it for a moment more.)
        drop(living);
        until("the socket to die", async || Ok(UnixStream::connect(SOCKET).is_err())).await?;
        assert!(Path::new(SOCKET).exists());
        let _userspace = Userspace::start(&name("wg0"), 1420)?;
        assert!(wireguard::read(&name("wg0"), Backend::Userspace)?.is_some());
        Ok(())
    });
}

#[test]
fn a_deleted_device_ends_it_and_the_next_can_start() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let private = PrivateKey::generate()?;
        let settings = Settings { private_key: Some(&private), listen_port: Some(51820) };
        for configured in [false, true, true] {
            let userspace = Userspace::start(&name("wg0"), 1420)?;
            if configured {
                // A child that another test has just forked has the last one's socket until it calls exec.
                until("the port to be free", async || Ok(!is_bound(51820)?)).await?;
                let link = netlink.link(&name("wg0")).await?.context("wg0")?;
                netlink.set_up(link.index).await?;
                wireguard::configure(&name("wg0"), Backend::Userspace, settings)?;
            }
            run("ip link delete wg0")?;
            let reason = tokio::time::timeout(patience(Duration::from_secs(20)), userspace.fatal()).await?;
            assert!(reason.contains("deleted"), "{reason}");
            assert!(!Path::new(SOCKET).exists());
        }
        Ok(())
    });
}

/// A runtime that configures itself must not wait for itself, and clients that hang must not matter.
#[test]
fn clients_that_never_speak_do_not_matter() {
    isolated(async || {
        let userspace = Userspace::start(&name("wg0"), 1420)?;
        let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(SOCKET)).collect::<Result<_, _>>()?;
        wireguard::set_peers(&name("wg0"), Backend::Userspace, &[peer(key(1), vec![net("10.9.0.2/32")])])?;
        let device = wireguard::read(&name("wg0"), Backend::Userspace)?.context("device")?;
        assert_eq!(device.peers.len(), 1);
        userspace.stop();
        drop(silent);
        Ok(())
    });
}

/// Against Debian's wireguard-go in a namespace of its own, IPv4 and IPv6; and what we read is what `wg` reads.
#[test]
fn packets_pass_and_are_counted_as_wg_shows_them() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let (hub, spoke) = (PrivateKey::generate()?, PrivateKey::generate()?);
        for line in [
            "ip netns add spoke",
            "ip link add veth0 type veth peer name veth1 netns spoke",
            "ip address add 192.0.2.1/24 dev veth0",
            "ip link set veth0 up",
            "ip -n spoke address add 192.0.2.2/24 dev veth1",
            "ip -n spoke link set veth1 up",
        ] {
            run(line)?;
        }

        let userspace = Userspace::start(&name("wg0"), 1420)?;
        let link = netlink.link(&name("wg0")).await?.context("wg0")?;
        for address in ["10.9.0.1/24", "fd52:1a9::1/64"] {
            netlink.add_address(link.index, net(address)).await?;
        }
        netlink.set_up(link.index).await?;
        let settings = Settings { private_key: Some(&hub), listen_port: Some(51820) };
        wireguard::configure(&name("wg0"), Backend::Userspace, settings)?;
        let preshared = relay_user::key::PresharedKey::generate()?;
        let change = PeerChange::Set {
            public_key: spoke.public_key(),
            preshared_key: Some(preshared.clone()),
            endpoint: None,
            allowed_ips: vec![net("10.9.0.2/32"), net("fd52:1a9::2/128")],
            keepalive: None,
        };
        wireguard::set_peers(&name("wg0"), Backend::Userspace, &[change])?;

        let _daemon = Background::start("ip netns exec spoke wireguard-go -f wg1")?;
        let answers = async || Ok(wireguard::read(&name("wg1"), Backend::Userspace)?.is_some());
        until("wireguard-go to answer", answers).await?;
        fs::write("/run/key", spoke.expose_base64().as_bytes())?;
        fs::write("/run/psk", preshared.expose_base64().as_bytes())?;
        run(&format!(
            "wg set wg1 private-key /run/key peer {} preshared-key /run/psk endpoint 192.0.2.1:51820 allowed-ips \
             10.9.0.0/24,fd52:1a9::/64",
            hub.public_key()
        ))?;
        for line in [
            "ip -n spoke address add 10.9.0.2/24 dev wg1",
            "ip -n spoke address add fd52:1a9::2/64 dev wg1 nodad",
            "ip -n spoke link set wg1 up mtu 1420",
        ] {
            run(line)?;
        }
        let hub_end = |address: &str| UdpSocket::bind((address, 4000));
        let spoke_end = |address: &str| space::within("spoke", || Ok(UdpSocket::bind((address, 4000))?));
        let (hub4, hub6) = (hub_end("10.9.0.1")?, hub_end("fd52:1a9::1")?);
        let (spoke4, spoke6) = (spoke_end("10.9.0.2")?, spoke_end("fd52:1a9::2")?);
        // The hub learns the spoke's endpoint from its first packet, whenever the handshake lets that through.
        hub4.set_nonblocking(true)?;
        let hello = async || {
            spoke4.send_to(b"hello", hub4.local_addr()?)?;
            Ok(hub4.recv(&mut [0; 5]).is_ok())
        };
        until("the first packet from the spoke", hello).await?;
        // As many bytes as fit the MTU, three times each way in either family. UDP may lose one.
        for (hub, spoke, header) in [(&hub4, &spoke4, 28), (&hub6, &spoke6, 48)] {
            for (from, to) in [(hub, spoke), (spoke, hub)] {
                to.set_nonblocking(false)?;
                to.set_read_timeout(Some(Duration::from_secs(1)))?;
                let full = vec![7; 1420 - header];
                let mut arrived = 0;
                let passes = async || {
                    from.send_to(&full, to.local_addr()?)?;
                    let mut got = vec![0; 2000];
                    arrived += usize::from(to.recv(&mut got).is_ok_and(|length| got[..length] == full));
                    Ok(arrived == 3)
                };
                until("three full packets", passes).await?;
            }
        }

        // A keepalive may still be on its way: read until nothing has moved meanwhile, and nothing is between the two ends.
        let hub_reads = || wireguard::read(&name("wg0"), Backend::Userspace)?.context("device");
        let mut readings = None;
        let agree = async || {
            let (device, dump) = (hub_reads()?, run("wg show wg0 dump")?);
            let other = wireguard::read(&name("wg1"), Backend::Userspace)?.context("wg1")?;
            let arrived = other.peers[&hub.public_key()].received == device.peers[&spoke.public_key()].sent;
            let alike = hub_reads()? == device;
            readings = Some((device, dump, other));
            Ok(arrived && alike)
        };
        // wireguard-go's counters are the mirror.
        until("both ends to have counted the same", agree).await?;
        let (device, dump, other) = readings.context("no readings")?;
        let line = dump.lines().nth(1).context("the peer's line")?;
        let shown: Vec<&str> = line.split('\t').collect();
        let read = &device.peers[&spoke.public_key()];
        let handshake = read.latest_handshake.context("no handshake")?;
        let ours = [
            spoke.public_key().to_string(),
            preshared.expose_base64().to_string(),
            read.endpoint.context("no endpoint")?.to_string(),
            read.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            handshake.duration_since(UNIX_EPOCH)?.as_secs().to_string(),
            read.received.to_string(),
            read.sent.to_string(),
            "off".to_owned(),
        ];
        assert_eq!(ours[2], "192.0.2.2:".to_owned() + ours[2].rsplit(':').next().context("port")?);
        let mut shown: Vec<String> = shown.into_iter().map(str::to_owned).collect();
        shown[3] = {
            let mut prefixes: Vec<_> = shown[3].split(',').map(net).collect();
            prefixes.sort();
            prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!(shown, ours);
        let age = SystemTime::now().duration_since(handshake)?;
        assert!(age < Duration::from_secs(120), "{age:?}");
        // Six full packets each way are 6 * (1420 + 32) bytes at the least.
        assert!(read.received > 8712 && read.sent > 8712, "{} {}", read.received, read.sent);
        let mirror = &other.peers[&hub.public_key()];
        // gotatun counts what it receives without WireGuard's 32 bytes around each data message.
        let uncounted = mirror.sent - read.received;
        assert!(uncounted >= 6 * 32 && uncounted % 32 == 0, "{uncounted}");

        // Another peer's change costs this one nothing; a keepalive in between says nothing of that.
        let mut others = 1..;
        let unmoved = async || {
            let before = hub_reads()?;
            let other = peer(key(others.next().context("no more keys")?), vec![net("10.9.0.9/32")]);
            wireguard::set_peers(&name("wg0"), Backend::Userspace, &[other])?;
            Ok(hub_reads()?.peers[&spoke.public_key()] == before.peers[&spoke.public_key()])
        };
        until("another peer's change that costs this one nothing", unmoved).await?;
        let now = &hub_reads()?.peers[&spoke.public_key()];
        assert!(now.received >= read.received && now.sent >= read.sent, "it counts anew: {now:?}");
        assert!(same(now.latest_handshake, read.latest_handshake), "{now:?}, before {read:?}");
        let counted = DevicePeer {
            received: read.received,
            sent: read.sent,
            latest_handshake: read.latest_handshake,
            ..now.clone()
        };
        assert_eq!(&counted, read);

        // Nor does another port: the spoke learns it from the next packet. A new handshake would be of another second.
        until("the handshake to be some seconds old", async || Ok(handshake.elapsed()? > 3 * SECOND)).await?;
        wireguard::configure(
            &name("wg0"),
            Backend::Userspace,
            Settings { listen_port: Some(51821), ..settings },
        )?;
        spoke4.set_nonblocking(true)?;
        let arrives = async || {
            hub4.send_to(b"moved", spoke4.local_addr()?)?;
            Ok(spoke4.recv(&mut [0; 5]).is_ok())
        };
        until("a packet from the new port", arrives).await?;
        let device = wireguard::read(&name("wg0"), Backend::Userspace)?.context("device")?;
        let now = device.peers[&spoke.public_key()].latest_handshake;
        assert!(same(now, read.latest_handshake), "a new handshake: {now:?}");
        userspace.stop();
        Ok(())
    });
}

const SECOND: Duration = Duration::from_secs(1);

/// Whether these are one handshake. gotatun knows how long ago it was, so its time may be a second off.
fn same(one: Option<SystemTime>, other: Option<SystemTime>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one == other };
    one.max(other).duration_since(one.min(other)).is_ok_and(|between| between <= SECOND)
}
