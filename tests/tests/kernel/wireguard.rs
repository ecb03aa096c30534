//! Devices on both backends, and each of wireguard-control's edges.

use std::{collections::BTreeSet, fs, net::UdpSocket, path::Path};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use relay_user::{
    desired::Backend,
    kernel::{
        netlink::Netlink,
        wireguard::{self, PeerChange, Settings, WireGuardError},
    },
    key::{PresharedKey, PrivateKey},
    observed::{LinkKind, MARK},
};

use crate::{
    space::{Background, is_bound, isolated, run, until},
    tunnel::{Tunnel, has_kernel_wireguard, key, name, net, on_both_backends, peer},
};

on_both_backends! {
    key_and_port_are_set_and_read => key_and_port;
    peers_change_one_by_one => peers_one_by_one;
    a_hundred_dual_stack_peers_are_a_hundred => hundred_peers;
    a_peer_may_have_a_thousand_prefixes => thousand_prefixes;
    a_taken_port_is_told_and_tried_again => taken_port;
}

async fn key_and_port(backend: Backend) -> Result<()> {
    let netlink = Netlink::connect()?;
    let Tunnel { name, index, .. } = &Tunnel::create(&netlink, backend).await?;
    let private = PrivateKey::generate()?;
    netlink.set_up(*index).await?;
    let settings = Settings { private_key: Some(&private), listen_port: Some(51820) };
    for _ in 0..2 {
        wireguard::configure(name, backend, settings)?;
        let device = wireguard::read(name, backend)?.context("device")?;
        assert_eq!(device.public_key, Some(private.public_key()));
        assert_eq!((device.listen_port, device.fwmark, device.peers.len()), (51820, 0, 0));
    }
    // Bound for real, and what is not given stays.
    assert!(UdpSocket::bind("0.0.0.0:51820").is_err());
    wireguard::configure(name, backend, Settings { private_key: None, listen_port: Some(51821) })?;
    let device = wireguard::read(name, backend)?.context("device")?;
    assert_eq!((device.public_key, device.listen_port), (Some(private.public_key()), 51821));
    until("the old port to be let go", async || Ok(UdpSocket::bind("0.0.0.0:51820").is_ok())).await?;

    // A new key on the same port: gotatun binds again before it has let go.
    for _ in 0..10 {
        let private = PrivateKey::generate()?;
        wireguard::configure(name, backend, Settings { private_key: Some(&private), listen_port: None })?;
        let device = wireguard::read(name, backend)?.context("device")?;
        assert_eq!((device.public_key, device.listen_port), (Some(private.public_key()), 51821));
        assert!(UdpSocket::bind("0.0.0.0:51821").is_err());
    }
    Ok(())
}

async fn peers_one_by_one(backend: Backend) -> Result<()> {
    let netlink = Netlink::connect()?;
    let tunnel = &Tunnel::create(&netlink, backend).await?;
    let read = || wireguard::read(&tunnel.name, backend)?.context("device");
    let preshared = PresharedKey::generate()?;
    let full = PeerChange::Set {
        public_key: key(1),
        preshared_key: Some(preshared.clone()),
        endpoint: Some("192.0.2.7:51820".parse()?),
        allowed_ips: vec![net("10.9.0.2/32"), net("192.168.40.0/24"), net("fd52:1a9::2/128")],
        keepalive: Some(25),
    };
    wireguard::set_peers(&tunnel.name, backend, &[full, peer(key(2), vec![net("10.9.0.3/32")])])?;
    let before = read()?;
    assert_eq!(before.peers.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
    let first = &before.peers[&key(1)];
    assert!(first.preshared_key.as_ref() == Some(&preshared));
    assert_eq!((first.keepalive, first.endpoint), (Some(25), Some("192.0.2.7:51820".parse()?)));
    assert_eq!(first.allowed_ips.len(), 3);
    assert_eq!((first.latest_handshake, first.received), (None, 0));

    // Everything that can be cleared is; the endpoint, not given, stays; nobody else is touched.
    wireguard::set_peers(&tunnel.name, backend, &[peer(key(1), vec![net("10.9.0.2/32")])])?;
    let after = read()?;
    let first = &after.peers[&key(1)];
    assert_eq!((&first.preshared_key, first.keepalive), (&None, None));
    assert_eq!(first.allowed_ips, [net("10.9.0.2/32")].into());
    assert_eq!(first.endpoint, Some("192.0.2.7:51820".parse()?));
    assert_eq!(after.peers[&key(2)], before.peers[&key(2)]);

    // A prefix moves in one go, and a removed peer is gone, twice.
    let moved = peer(key(2), vec![net("10.9.0.2/32"), net("10.9.0.3/32")]);
    let changes = [peer(key(1), vec![]), moved];
    wireguard::set_peers(&tunnel.name, backend, &changes)?;
    assert_eq!(read()?.peers[&key(1)].allowed_ips, BTreeSet::new());
    for _ in 0..2 {
        wireguard::set_peers(&tunnel.name, backend, &[PeerChange::Remove(key(1))])?;
        assert_eq!(read()?.peers.keys().copied().collect::<Vec<_>>(), [key(2)]);
    }
    assert_eq!(read()?.peers[&key(2)].allowed_ips, [net("10.9.0.2/32"), net("10.9.0.3/32")].into());
    Ok(())
}

/// wireguard-control counts a peer twice whose prefixes a netlink message cuts, once without its endpoint.
async fn hundred_peers(backend: Backend) -> Result<()> {
    let netlink = Netlink::connect()?;
    let tunnel = &Tunnel::create(&netlink, backend).await?;
    let prefixes =
        |number: u16| vec![net(&format!("10.9.1.{number}/32")), net(&format!("fd52:1a9::{number:x}/128"))];
    let changes: Vec<_> = (1..=100)
        .map(|number| PeerChange::Set {
            public_key: key(number),
            preshared_key: None,
            endpoint: Some(format!("[2001:db8::1]:{number}").parse().expect("endpoint")),
            allowed_ips: prefixes(number),
            keepalive: Some(25),
        })
        .collect();
    wireguard::set_peers(&tunnel.name, backend, &changes)?;
    let device = wireguard::read(&tunnel.name, backend)?.context("device")?;
    assert_eq!(device.peers.len(), 100);
    for (number, (public_key, peer)) in (1..=100).zip(&device.peers) {
        assert_eq!(*public_key, key(number));
        assert_eq!(peer.endpoint.map(|endpoint| endpoint.port()), Some(number));
        assert_eq!(peer.allowed_ips, prefixes(number).into_iter().collect());
        assert_eq!(peer.keepalive, Some(25));
    }
    Ok(())
}

/// wireguard-control fails at some 256 IPv4 prefixes in one peer, and prints the peer with its preshared key.
async fn thousand_prefixes(backend: Backend) -> Result<()> {
    let netlink = Netlink::connect()?;
    let tunnel = &Tunnel::create(&netlink, backend).await?;
    let v4 = (0..700).map(|number: u16| net(&format!("10.{}.{}.0/24", 100 + number / 256, number % 256)));
    let v6 = (0..300).map(|number: u16| net(&format!("fd00:{number:x}::/64")));
    let many: Vec<IpNet> = v4.chain(v6).collect();
    let preshared = PresharedKey::generate()?;
    let set = |allowed_ips: &[IpNet]| PeerChange::Set {
        public_key: key(1),
        preshared_key: Some(preshared.clone()),
        endpoint: None,
        allowed_ips: allowed_ips.to_vec(),
        keepalive: None,
    };
    for prefixes in [&many[..], &many[990..], &many[..500]] {
        wireguard::set_peers(&tunnel.name, backend, &[set(prefixes), peer(key(2), vec![])])?;
        let device = wireguard::read(&tunnel.name, backend)?.context("device")?;
        assert_eq!(device.peers.len(), 2);
        assert_eq!(device.peers[&key(1)].allowed_ips, prefixes.iter().copied().collect());
        assert!(device.peers[&key(1)].preshared_key.as_ref() == Some(&preshared));
    }
    Ok(())
}

/// gotatun takes the port it failed to bind for the one it has, and says yes to the next attempt without making one.
async fn taken_port(backend: Backend) -> Result<()> {
    let netlink = Netlink::connect()?;
    let tunnel = &Tunnel::create(&netlink, backend).await?;
    netlink.set_up(tunnel.index).await?;
    let private = PrivateKey::generate()?;
    let settings = Settings { private_key: Some(&private), listen_port: Some(51820) };
    for taken in ["0.0.0.0:51820", "[::]:51820"] {
        let holder = UdpSocket::bind(taken)?;
        let error = wireguard::configure(&tunnel.name, backend, settings).expect_err(taken);
        assert!(matches!(error, WireGuardError::PortTaken { port: 51820, .. }), "{error}");
        assert!(error.to_string().contains("51820"), "{error}");
        drop(holder);
        // A child that another test has just forked has the socket until it calls exec.
        until("the port to be free", async || Ok(!is_bound(51820)?)).await?;
    }
    wireguard::configure(&tunnel.name, backend, settings)?;
    let device = wireguard::read(&tunnel.name, backend)?.context("device")?;
    assert_eq!((device.public_key, device.listen_port), (Some(private.public_key()), 51820));
    assert!(UdpSocket::bind("0.0.0.0:51820").is_err());
    Ok(())
}

fn refused(name: &str, backend: Backend) -> [WireGuardError; 2] {
    let name = crate::tunnel::name(name);
    let private = PrivateKey::generate().expect("generator");
    let settings = Settings { private_key: Some(&private), listen_port: Some(51820) };
    [
        wireguard::configure(&name, backend, settings).expect_err("configure"),
        wireguard::set_peers(&name, backend, &[peer(key(1), vec![])]).expect_err("set_peers"),
    ]
}

/// wireguard-control would create the interface, or start `wireguard-go`.
#[test]
fn what_is_not_there_is_not_made() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        for backend in [Backend::Kernel, Backend::Userspace] {
            assert_eq!(wireguard::read(&name("wg0"), backend)?, None);
            for error in refused("wg0", backend) {
                assert!(matches!(error, WireGuardError::Absent(_)), "{error}");
            }
            assert_eq!(netlink.link(&name("wg0")).await?, None);
        }
        assert!(!Path::new("/run/wireguard/wg0.sock").exists());
        Ok(())
    });
}

/// wireguard-control would start `wireguard-go`, which would take the device over.
#[test]
fn a_device_whose_daemon_is_gone_gets_no_other() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        run("ip tuntap add wg0 mode tun")?;
        let link = netlink.link(&name("wg0")).await?.context("wg0")?;
        netlink.set_alias(link.index, MARK).await?;
        for error in refused("wg0", Backend::Userspace) {
            assert!(matches!(error, WireGuardError::NoSocket { .. }), "{error}");
        }
        assert_eq!(wireguard::read(&name("wg0"), Backend::Userspace)?, None);
        assert!(!Path::new("/run/wireguard/wg0.sock").exists());
        for error in refused("wg0", Backend::Kernel) {
            assert!(matches!(error, WireGuardError::NotWireGuard(_)), "{error}");
        }
        Ok(())
    });
}

/// wireguard-control would overwrite its key and port.
#[test]
fn somebody_elses_userspace_wireguard_is_left_alone() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let _daemon = Background::start("wireguard-go -f wg0")?;
        let socket = async || Ok(wireguard::read(&name("wg0"), Backend::Userspace)?.is_some());
        until("wireguard-go to answer", socket).await?;
        let theirs = PrivateKey::generate()?;
        fs::write("/run/key", theirs.expose_base64().as_bytes())?;
        run("wg set wg0 private-key /run/key listen-port 4711")?;
        for error in refused("wg0", Backend::Userspace) {
            assert!(matches!(error, WireGuardError::NotOurs(_)), "{error}");
        }
        let device = wireguard::read(&name("wg0"), Backend::Userspace)?.context("device")?;
        assert_eq!((device.public_key, device.listen_port), (Some(theirs.public_key()), 4711));
        assert_eq!(device.peers.len(), 0);
        let link = netlink.link(&name("wg0")).await?.context("wg0")?;
        assert_eq!((link.kind.clone(), link.is_ours()), (LinkKind::Tun, false));
        Ok(())
    });
}

#[test]
fn somebody_elses_kernel_wireguard_is_left_alone() {
    if !has_kernel_wireguard() {
        return;
    }
    isolated(async || {
        run("ip link add wg0 type wireguard")?;
        let theirs = PrivateKey::generate()?;
        fs::write("/run/key", theirs.expose_base64().as_bytes())?;
        run("wg set wg0 private-key /run/key listen-port 4711")?;
        for error in refused("wg0", Backend::Kernel) {
            assert!(matches!(error, WireGuardError::NotOurs(_)), "{error}");
        }
        let device = wireguard::read(&name("wg0"), Backend::Kernel)?.context("device")?;
        assert_eq!((device.public_key, device.listen_port), (Some(theirs.public_key()), 4711));
        assert_eq!(device.peers.len(), 0);
        Ok(())
    });
}
