//! A peer that is no machine: it shakes hands with the hub's WireGuard over a socket and then encrypts packets in advance,
//! so that sending them costs the machine under measurement nothing.

use std::{
    fs::File,
    net::{SocketAddrV4, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use gotatun::{
    noise::{Tunn, TunnResult, index_table::IndexTable, rate_limiter::RateLimiter},
    packet::{Packet, WgKind},
    x25519::{PublicKey, StaticSecret},
};
use nix::sched::{CloneFlags, setns};
use relay_tests::{
    guest::patience,
    packet::{Ip as _, Ipv4, Transport},
};

use crate::kinds::{FAR, NEAR};

/// WireGuard's port, here and there.
const PORT: u16 = 51820;

/// What a message of WireGuard is padded to, in bytes.
const PADDING: usize = 16;

/// A handshake takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// Handshakes a second that are let through without a cookie: more than there are.
const UNLIMITED: u64 = 1_000_000;

/// The peer.
pub(crate) struct Spoke {
    own: SocketAddrV4,
    hub: SocketAddrV4,
    socket: UdpSocket,
    key: StaticSecret,
    tunnel: Option<Tunn>,
}

impl Spoke {
    /// One that is in this namespace, with addresses that exist there.
    pub(crate) fn new(namespace: &File, own: [u8; 4], hub: [u8; 4]) -> Result<Self> {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a spoke's namespace")?;
        let (own, hub) = (SocketAddrV4::new(own.into(), PORT), SocketAddrV4::new(hub.into(), PORT));
        let socket = UdpSocket::bind(own).with_context(|| format!("binding {own}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        // Of a network that lasts for a minute. Not the first byte nor the last: X25519 changes those.
        let mut secret = [1; 32];
        secret[1] = own.ip().octets()[2];
        Ok(Self { own, hub, socket, key: StaticSecret::from(secret), tunnel: None })
    }

    /// Its key, as `wg` takes it.
    pub(crate) fn public_key(&self) -> String {
        relay_user::key::PublicKey::new(PublicKey::from(&self.key).to_bytes()).to_string()
    }

    /// Where the hub finds it.
    pub(crate) fn endpoint(&self) -> SocketAddrV4 {
        self.own
    }

    /// A new session, which the hub may use at once.
    pub(crate) fn shake_hands(&mut self, hub: [u8; 32]) -> Result<()> {
        let hub = PublicKey::from(hub);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&self.key), UNLIMITED));
        let table = IndexTable::from_os_rng();
        let mut tunnel = Tunn::new(self.key.clone(), hub, None, None, table, limiter);
        let begun = Instant::now();
        let first = tunnel.format_handshake_initiation(true).context("no handshake")?;
        self.socket.send_to(&Packet::from(first), self.hub)?;
        let mut buffer = [0; 2048];
        while begun.elapsed() < patience(DEADLINE) {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let message = Packet::copy_from(&buffer[..length]).try_into_wg();
            let message = message.map_err(|error| anyhow::anyhow!("what the hub says: {error}"))?;
            // What is left of the session before is none of this one.
            if !matches!(message, WgKind::HandshakeResp(_)) {
                continue;
            }
            match tunnel.handle_incoming_packet(message) {
                TunnResult::WriteToNetwork(answer) => {
                    self.socket.send_to(&Packet::from(answer), self.hub)?;
                    self.tunnel = Some(tunnel);
                    // An empty packet: the hub sends nothing before it has had one.
                    let empty = self.encrypt(&[])?;
                    self.socket.send_to(&empty, self.hub)?;
                    return Ok(());
                }
                TunnResult::Err(error) => bail!("the handshake: {error:?}"),
                TunnResult::Done | TunnResult::WriteToTunnel(_) => {}
            }
        }
        bail!("the hub does not answer within {} s", begun.elapsed().as_secs())
    }

    /// Sends one packet by the socket.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Result<()> {
        let message = self.encrypt(packet)?;
        self.socket.send_to(&message, self.hub)?;
        Ok(())
    }

    /// What a packet is on the cable to the hub. The UDP checksum is left out: a network card has looked at it already.
    pub(crate) fn frame(&mut self, packet: &[u8]) -> Result<Vec<u8>> {
        const UDP_CHECKSUM: usize = 20 + 6;
        let message = self.encrypt(packet)?;
        let mut outer = Ipv4::new(*self.own.ip(), *self.hub.ip()).carry(&Transport::Udp(PORT, PORT, message));
        outer[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
        Ok([&FAR[..], &NEAR, &Ipv4::ETHERTYPE.to_be_bytes(), &outer].concat())
    }

    fn encrypt(&mut self, packet: &[u8]) -> Result<Vec<u8>> {
        let tunnel = self.tunnel.as_mut().context("no handshake before")?;
        let mut padded = packet.to_vec();
        padded.resize(packet.len().next_multiple_of(PADDING), 0);
        let message = tunnel.encapsulate_with_session(Packet::copy_from(&padded[..]));
        let message = message.map_err(|_| anyhow::anyhow!("no session"))?;
        let bytes: Packet = message.into();
        ensure!(bytes.len() == padded.len() + 32, "a message of {} bytes for {}", bytes.len(), padded.len());
        Ok(bytes.to_vec())
    }
}
