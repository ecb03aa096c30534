//! The laboratory's machines keep their word: apart from each other, and gone with their test.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use relay_tests::netns::{Netns, checked, wait_for};

#[test]
fn machines_are_apart_and_connected_by_cables() -> Result<()> {
    let (left, right) = (Netns::new("left")?, Netns::new("right")?);
    left.cable("to-right", &right, "to-left")?;
    left.run("ip addr add 10.0.0.1/24 dev to-right")?;
    right.run("ip addr add 10.0.0.2/24 dev to-left")?;
    let listener = right.inside(|| Ok(TcpListener::bind("10.0.0.2:80")?))?;
    left.inside(|| {
        Ok(std::net::TcpStream::connect_timeout(&"10.0.0.2:80".parse()?, Duration::from_secs(5))?)
    })?;
    listener.accept()?;

    left.inside(|| Ok(fs::write("/run/mark", "left")?))?;
    ensure!(!right.inside(|| Ok(Path::new("/run/mark").exists()))?, "two machines share /run");
    ensure!(!Path::new("/run/mark").exists(), "a machine shares /run with the host");
    let seen = left.run("ls /sys/class/net")?;
    ensure!(seen.contains("to-right") && !seen.contains("to-left"), "its /sys shows other devices: {seen}");
    ensure!(left.run("stat -f -c %T /sys/fs/bpf")?.trim() == "bpf_fs", "no BPF file system");
    Ok(())
}

#[test]
fn nothing_is_left_when_a_test_panics() -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = std::thread::spawn(move || {
        let machine = Netns::new("panics").expect("a machine");
        let child = machine.spawn(machine.command("sleep").arg("1000")).expect("sleep starts");
        // A daemon is nobody's child.
        let mut daemon = machine.command("setsid");
        checked(daemon.args(["-f", "sh", "-c", "exec sleep 1000 >/dev/null 2>&1"])).expect("a daemon starts");
        let daemons = wait_for("both", Duration::from_secs(10), || {
            let pids = Command::new("ip").args(["netns", "pids", machine.name()]).output()?.stdout;
            let pids: Vec<u32> =
                String::from_utf8(pids)?.lines().map(str::parse).collect::<Result<_, _>>()?;
            ensure!(pids.len() >= 3, "only {pids:?}");
            Ok(pids)
        });
        sender.send((machine.path(), child, daemons)).expect("the test listens");
        panic!("as tests do");
    })
    .join();
    ensure!(outcome.is_err(), "it did not panic");
    let (path, child, daemons) = receiver.recv()?;
    ensure!(!path.exists(), "{} is left", path.display());
    for pid in daemons?.into_iter().chain([child]) {
        wait_for("the end of its processes", Duration::from_secs(10), || {
            ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn waiting_says_what_for_and_why_not() {
    let error =
        wait_for("rain", Duration::ZERO, || -> Result<()> { anyhow::bail!("a blue sky") }).unwrap_err();
    assert_eq!(format!("{error:#}"), "waiting for rain: not within 0 s: a blue sky");
}
