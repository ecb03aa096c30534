//! A program that the kernel's verifier refuses: the kernel forwards, and status keeps the verifier's last words.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use relay_common::program;
use relay_tests::{
    lab::relay::{self, Relay, programs_on},
    netns::{Netns, checked, wait_for},
};
use relay_user::kernel::datapath::EMBEDDED;

use crate::{DEADLINE, nothing_left, status};

/// `r0 = *(u64 *)(r5 + 0)`: nobody has written r5 when a program begins.
const UNREADABLE: [u8; 8] = [0x79, 0x50, 0, 0, 0, 0, 0, 0];

/// Where the first instruction of `tunnel` stands in the object.
fn first_instruction() -> Result<usize> {
    let file = object::File::parse(EMBEDDED)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(program::TUNNEL)).context("tunnel")?;
    let section = file.section_by_index(symbol.section_index().context("tunnel has no section")?)?;
    let (start, _) = section.file_range().context("tunnel is not in the file")?;
    Ok(usize::try_from(start + symbol.address())?)
}

/// A copy of relay whose program begins with what no verifier lets pass.
fn refused_relay(folder: &Path) -> Result<std::path::PathBuf> {
    let mut binary = fs::read(relay::binary()?)?;
    let range = {
        let file = object::File::parse(binary.as_slice())?;
        let section = file.section_by_name(".rodata").context("relay has no .rodata")?;
        let (start, size) = section.file_range().context(".rodata is not in the file")?;
        usize::try_from(start)?..usize::try_from(start + size)?
    };
    let at = (range.start..range.end - EMBEDDED.len())
        .find(|&at| binary[at] == 0x7f && binary[at..at + EMBEDDED.len()] == *EMBEDDED)
        .context("relay does not have the object of these tests")?;
    let instruction = at + first_instruction()?;
    binary[instruction..instruction + UNREADABLE.len()].copy_from_slice(&UNREADABLE);
    let (bytes, path) = (folder.join("bytes"), folder.join("relay"));
    fs::write(&bytes, binary)?;
    // By another process, of which no child that another test has just forked has a file open: it could not be run then.
    checked(Command::new("cp").args([&bytes, &path]))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn a_refused_program_leaves_the_kernel_forwarding() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let machine = Netns::new("refused")?;
    let mut hub = Relay::init(&machine, &refused_relay(folder.path())?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.up()?;
    wait_for("status to say why", DEADLINE, || {
        let fast_path = &status(&hub)?["fast_path"];
        ensure!(fast_path["state"] == "off", "{fast_path}");
        let reason = fast_path["reason"].as_str().unwrap_or_default();
        for words in ["verifier refused the program", "R5 !read_ok", "the kernel forwards"] {
            ensure!(reason.contains(words), "no {words:?} in: {reason}");
        }
        Ok(())
    })?;
    ensure!(programs_on(&machine, "wg0")? == 0);
    ensure!(machine.run("sysctl -n net.ipv4.ip_forward")? == "1\n");
    ensure!(machine.run("ip route")?.contains("192.168.40.0/24 dev wg0"));
    hub.run(&["down"])?;
    nothing_left(&machine)
}
