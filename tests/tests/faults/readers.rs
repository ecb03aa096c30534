//! Those who ask and never read, and those who ask without end: the hub goes on as if they were not there.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{self, Relay},
    netns::{Netns, wait_for},
    resident::Resident,
};
use relay_user::key::PublicKey;
use serde_json::json;

use crate::DEADLINE;

const SOCKET: &str = "/run/relay/relay.sock";

/// So many that the answer does not fit into a socket's buffer.
const PEERS: u8 = 250;

/// net.core.wmem_default, of which a socket counts more than the bytes.
const BUFFER: usize = 212_992;

/// Many times what the daemon talks to at a time.
const READERS: usize = 150;

/// What the daemon may keep for those who do not read: an answer of 0.3 MB, and once more on its way, for each of 32.
const KEPT_KB: u64 = 48 * 1024;

fn many_peers(machine: &Netns) -> Result<Relay<'_>> {
    let mut hub = Relay::init(machine, &relay::binary()?)?;
    let mut text = machine.run("cat /run/lab/relay.toml")?;
    for number in 2..PEERS {
        let key = PublicKey::new([number; 32]);
        text += &format!(
            "\n[[peer]]\nname = \"peer{number}\"\npublic_key = \"{key}\"\naddresses = [\"10.9.0.{number}\"]\n"
        );
    }
    hub.write(&text)?;
    hub.up()?;
    Ok(hub)
}

/// Somebody who has asked. Who is hung up on while he asks has been answered too.
fn ask(path: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET).context("connecting")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n");
    Ok(stream)
}

/// Resident memory in kB, and open files.
fn size(pid: u32) -> Result<(u64, usize)> {
    Ok((Resident::of(pid)?.all, fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count()))
}

/// The loop turns: what is changed behind it is as it was.
fn heals(machine: &Netns) -> Result<()> {
    machine.run("ip link set wg0 mtu 1300")?;
    wait_for("the MTU to be as the file says", DEADLINE, || {
        let mtu = machine.run("cat /sys/class/net/wg0/mtu")?;
        ensure!(mtu.trim() == "1420", "it is {mtu}");
        Ok(())
    })
}

#[test]
fn who_asks_and_never_reads() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("the kernel has no part in it, and 250 peers take a guest long");
        return Ok(());
    }
    let _busy = crate::busy();
    let machine = Netns::new("readers")?;
    let mut hub = many_peers(&machine)?;
    let pid = hub.daemon().context("no daemon")?;
    let answer = hub.run(&["metrics"])?.len();
    ensure!(answer > BUFFER, "an answer of {answer} bytes finds room in a socket");
    let (before, files_before) = size(pid)?;

    let paths = ["/metrics", "/metrics", "/stats", "/status"];
    let readers =
        machine.inside(|| (0..READERS).map(|n| ask(paths[n % paths.len()])).collect::<Result<Vec<_>>>())?;
    // Who says nothing at all is no better.
    let silent = machine.inside(|| {
        (0..READERS).map(|_| UnixStream::connect(SOCKET).context("connecting")).collect::<Result<Vec<_>>>()
    })?;
    let more = machine.inside(|| (0..READERS).map(|_| ask("/metrics")).collect::<Result<Vec<_>>>())?;
    heals(&machine)?;
    for command in ["status", "stats", "metrics", "reload"] {
        hub.run(&[command])?;
    }
    let (after, files_after) = size(pid)?;
    guest::fact(&json!({ "never read": 2 * READERS, "kb_before": before, "kb_after": after }));
    ensure!(after < before + KEPT_KB, "{before} kB became {after} kB");
    ensure!(files_after < files_before + 50, "{files_before} open files became {files_after}");
    hub.stop()?;
    drop((readers, silent, more));
    Ok(())
}

#[test]
fn who_asks_without_end() -> Result<()> {
    let _busy = crate::busy();
    let machine = Netns::new("questions")?;
    let hub = crate::hub(&machine)?;
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let asks = |path: &'static str| {
        machine.inside(|| {
            while !over.load(Ordering::Relaxed) {
                let mut answer = Vec::new();
                ask(path)?.read_to_end(&mut answer)?;
                ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    };
    let came = thread::scope(|scope| {
        let asking = ["/stats", "/metrics", "/status", "/stats"].map(|path| scope.spawn(move || asks(path)));
        let came = wait_for("answers", DEADLINE, || {
            ensure!(answered.load(Ordering::Relaxed) > 100, "{answered:?}");
            Ok(())
        })
        .and_then(|()| heals(&machine))
        .and_then(|()| hub.run(&["reload"]));
        over.store(true, Ordering::Relaxed);
        let ended: Result<Vec<()>> = asking
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
            .collect();
        came.and(ended)
    });
    came.map(drop)
}
