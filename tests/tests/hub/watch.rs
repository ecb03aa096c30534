//! `relay stats --watch`, at a terminal and in a pipe.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _, pipe},
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::pty::{Winsize, openpty};
use relay_tests::{
    lab::relay::{CONFIG_FOLDER, binary},
    netns::wait_for,
};

use crate::{DEADLINE, hub, machine};

/// What xterm and its likes are told to leave the screen of a full-screen program.
const LEAVE: &str = "\x1b[?1049l";

#[test]
fn it_draws_on_a_terminal_and_leaves_it_as_it_was() -> Result<()> {
    let machine = machine("watch")?;
    let _hub = hub(&machine)?;
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).context("opening a terminal")?;
    let before = nix::sys::termios::tcgetattr(&pty.slave)?;
    let mut command = machine.command(binary()?);
    command.args(["stats", "--watch", "--config", &format!("{CONFIG_FOLDER}/relay.toml")]);
    command.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).env("TERM", "xterm");
    let watch = machine.spawn(&mut command)?;

    let mut keyboard = File::from(pty.master);
    let mut screen = keyboard.try_clone()?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    // Ends when the last end of the slave is closed.
    thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut some) {
            sink.lock().expect("no reader panics").extend_from_slice(&some[..count]);
        }
    });
    let said = || String::from_utf8_lossy(&seen.lock().expect("no reader panics")).into_owned();
    wait_for("the live view to name its peers", DEADLINE, || {
        let said = said();
        ensure!(["LAST MINUTE", "home", "phone", "never"].iter().all(|word| said.contains(word)), "{said:?}");
        Ok(())
    })?;
    ensure!(nix::sys::termios::tcgetattr(&pty.slave)? != before, "keys would wait for Enter");
    keyboard.write_all(b"sq")?;
    let status = wait_for("q to end it", DEADLINE, || machine.ended(watch)?.context("it runs"))?;
    ensure!(status.success(), "{status}: {:?}", said());
    wait_for("the screen to be left", DEADLINE, || {
        ensure!(said().contains(LEAVE), "{:?}", said());
        Ok(())
    })?;
    ensure!(nix::sys::termios::tcgetattr(&pty.slave)? == before, "the terminal is not as it was");
    Ok(())
}

#[test]
fn in_a_pipe_it_is_a_line_of_json_a_second_until_nobody_reads() -> Result<()> {
    let machine = machine("watchpipe")?;
    let _hub = hub(&machine)?;
    let (reader, writer) = pipe()?;
    let mut command = machine.command(binary()?);
    command.args(["stats", "--watch", "--json", "--config", &format!("{CONFIG_FOLDER}/relay.toml")]);
    let watch = machine.spawn(command.stdin(Stdio::null()).stdout(writer))?;
    // It holds the other end of the pipe as long as it lives.
    drop(command);
    let mut lines = BufReader::new(reader).lines();
    for number in 0..2 {
        let line = lines.next().with_context(|| format!("it ended before line {number}"))??;
        let stats: serde_json::Value = serde_json::from_str(&line)?;
        ensure!(stats["peers"].as_array().is_some_and(|peers| peers.len() == 2), "{line}");
    }
    drop(lines);
    let status =
        wait_for("it to notice that nobody reads", DEADLINE, || machine.ended(watch)?.context("it runs"))?;
    ensure!(status.success(), "{status}");
    Ok(())
}
