//! UDP there and back.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::web::noise;
use crate::netns::Netns;

/// Where the echo answers (RFC 862).
const PORT: u16 = 7;
/// How long an answer may take; it takes 1 ms, and handshakes are repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(20);

/// Sends back every datagram that comes to port 7 of any address of a machine. Ends when dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Starts it.
    pub fn start(machine: &Netns) -> Result<Self> {
        let socket = machine.inside(|| UdpSocket::bind(("::", PORT)).context("binding the echo"))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // An answer that cannot be sent is one that the other side misses, and says so.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self { stop })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends `count` datagrams of `size` bytes one after the other from a machine to an echo; each must come back whole.
pub fn ask(machine: &Netns, to: IpAddr, count: u32, size: usize) -> Result<()> {
    machine.inside(|| {
        let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
        let socket = UdpSocket::bind(any)?;
        socket.connect((to, PORT))?;
        socket.set_read_timeout(Some(DEADLINE))?;
        let mut answer = vec![0; size + 1];
        for number in 0..count {
            let datagram = noise(u64::from(number) << 8, size);
            socket.send(&datagram).with_context(|| format!("sending to {to}"))?;
            let length = socket
                .recv(&mut answer)
                .with_context(|| format!("no answer from {to} to datagram {number} of {count}"))?;
            ensure!(answer[..length] == datagram, "{to} answered datagram {number} with something else");
        }
        Ok(())
    })
}
