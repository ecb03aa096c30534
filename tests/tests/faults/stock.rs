//! Firewalls as Debian packages them, begun and ended under a hub with people connected: ufw, firewalld and Docker, the
//! programs themselves. What relay says of their rules is judged by packets.

mod docker;
mod firewalld;
mod ufw;

use std::{
    env,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::Relay,
    netns::{Netns, wait_for},
};

use crate::{
    DEADLINE,
    star::{self, Star},
    status,
};

/// Longest wait for an answer that a firewall may have swallowed; one comes within 20 ms.
const ANSWERED: Duration = Duration::from_secs(2);

/// Where `cargo xtask test netns` has unpacked a package, by the variable that says so.
fn unpacked(variable: &str) -> Option<PathBuf> {
    let found = env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        guest::skip("its package is not here; `cargo xtask test netns` unpacks it on the host");
    }
    found
}

/// Lays an unpacked package over the files of a machine, as if it were installed; what it writes is the machine's own.
fn lay_over(machine: &Netns, root: &Path) -> Result<()> {
    for part in ["usr", "etc"] {
        machine.run_all(&format!(
            "mkdir -p /run/over/{part}/up /run/over/{part}/work
             mount -t overlay overlay -o lowerdir={0}/{part}:/{part},upperdir=/run/over/{part}/up,workdir=/run/over/{part}/work /{part}",
            root.display()
        ))?;
    }
    // Debian 12's packages still have files in what is a link to /usr/lib.
    let lib = root.join("lib");
    if lib.is_dir() {
        machine.run(&format!("cp -a {}/. /usr/lib/", lib.display()))?;
    }
    Ok(())
}

/// Whether a connection from the phone reaches home, where nobody listens, and the refusal comes back. Pings tell less:
/// ufw lets them through whatever else it drops.
fn passes(star: &Star) -> Result<bool> {
    star.phone().inside(|| {
        let home = SocketAddr::from((Ipv4Addr::new(10, 9, 0, 2), 9));
        let error = TcpStream::connect_timeout(&home, ANSWERED).err().context("somebody listens at home")?;
        match error.kind() {
            ErrorKind::ConnectionRefused => Ok(true),
            ErrorKind::TimedOut | ErrorKind::HostUnreachable => Ok(false),
            _ => Err(error).context("connecting to home"),
        }
    })
}

/// Nothing that remembers flows has seen the phone from this port.
fn phone_moves_to(star: &Star, port: u16) -> Result<()> {
    star.phone().run(&format!("wg set tunnel listen-port {port}")).map(drop)
}

/// The phone's packets get through to the hub's WireGuard from a port that nobody has seen before, or do not.
fn listen_port_is_open(star: &Star, open: bool, phones_port: u16) -> Result<()> {
    phone_moves_to(star, phones_port)?;
    if open {
        return star::reach(star.phone(), "10.9.0.1");
    }
    let answered = star.phone().run("ping -n -q -c 3 -i 0.3 -W 1 10.9.0.1").is_ok();
    ensure!(!answered, "the listen port is open to a stranger");
    Ok(())
}

/// Waits until relay says that the fast path is off, with these words of a rule, and prints these commands; then packets
/// say the same.
fn closed(star: &Star, hub: &Relay<'_>, quoted: &str, commands: &[&str]) -> Result<()> {
    fast_path(hub, false, quoted)?;
    wait_for("the commands that open", DEADLINE, || {
        let status = status(hub)?;
        ensure!(status["to_open"] == serde_json::json!(commands), "{status:#}");
        Ok(())
    })?;
    ensure!(!passes(star)?, "a packet passed a firewall that drops it");
    Ok(())
}

/// Waits until the fast path is on or off, and the reason has these words.
fn fast_path(hub: &Relay<'_>, on: bool, quoted: &str) -> Result<()> {
    let state = if on { "on" } else { "off" };
    wait_for(&format!("the fast path to be {state} ({quoted})"), DEADLINE, || {
        let fast_path = &status(hub)?["fast_path"];
        ensure!(fast_path["state"] == state, "{fast_path}");
        ensure!(fast_path["reason"].as_str().is_some_and(|said| said.contains(quoted)), "{fast_path}");
        Ok(())
    })
}

/// Waits until connections from peer to peer get through again.
fn passes_again(star: &Star) -> Result<()> {
    wait_for("packets from peer to peer", DEADLINE, || {
        ensure!(passes(star)?, "they are dropped");
        Ok(())
    })
}

/// relay may open from now on.
fn manage(hub: &Relay<'_>) -> Result<()> {
    hub.edit("manage = false", "manage = true")?;
    hub.run(&["reload"]).map(drop)
}
