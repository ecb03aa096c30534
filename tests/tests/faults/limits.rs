//! Too few open files, too little memory: the hub is up, or it says what it lacks and leaves nothing behind.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{CONFIG_FOLDER, binary},
    netns::{Netns, wait_for},
    resident::Resident,
};

use crate::{DEADLINE, configured, nothing_left, settled};

/// From too few to open the first socket with, to enough for all; fewer steps where each takes seconds.
fn open_files() -> &'static [u32] {
    if guest::line().is_some() { &[4, 16, 24, 64] } else { &[4, 8, 12, 16, 20, 24, 32, 48, 64] }
}

#[test]
fn few_open_files() -> Result<()> {
    let machine = Netns::new("files")?;
    let hub = configured(&machine)?;
    let (mut up, mut refused) = (0, 0);
    for limit in open_files() {
        let log = format!("{CONFIG_FOLDER}/limited");
        let line = format!(
            "exec prlimit --nofile={limit} {} up --config {CONFIG_FOLDER}/relay.toml > {log} 2>&1",
            binary()?.display()
        );
        let daemon = machine.spawn(machine.command("sh").args(["-c", &line]).stdin(Stdio::null()))?;
        let ended = wait_for("relay to be up or to give up", DEADLINE, || match machine.ended(daemon)? {
            Some(ended) => Ok(Some(ended)),
            None => hub.run(&["status"]).map(|_| None),
        })?;
        let said = machine.run(&format!("cat {log}"))?;
        match ended {
            Some(ended) => {
                refused += 1;
                ensure!(ended.code() == Some(1), "with {limit} files: {ended}: {said}");
                ensure!(said.contains("error:"), "with {limit} files: {said}");
                ensure!(!said.contains("panicked"), "with {limit} files: {said}");
                nothing_left(&machine).with_context(|| format!("with {limit} files: {said}"))?;
            }
            None => {
                up += 1;
                // It may say that it could not take down everything; what runs without a limit does.
                let _ = hub.run(&["down"]);
                wait_for("it to end", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
                hub.run(&["down"])?;
                nothing_left(&machine).with_context(|| format!("with {limit} files, after down"))?;
            }
        }
    }
    guest::fact(&serde_json::json!({ "open_files": "limits tried", "up": up, "refused": refused }));
    ensure!(up > 0 && refused > 0, "{up} up, {refused} refused: the limits prove nothing");
    Ok(())
}

/// A control group with a limit of memory, gone when dropped.
struct Group(std::path::PathBuf);

impl Group {
    fn new(limit: &str) -> Result<Self> {
        let root = std::path::Path::new("/sys/fs/cgroup");
        fs::write(root.join("cgroup.subtree_control"), "+memory")
            .context("asking for the memory controller")?;
        let folder = root.join(format!("relay-test-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let group = Self(folder);
        fs::write(group.0.join("memory.max"), limit).context("limiting its memory")?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("{} stays", self.0.display());
    }
}

/// Starts, each of which loads the fast path and the uplink's guard; without one pool a third of them kept what that took.
const STARTS: usize = 10;

/// Of the daemon's own memory at rest, in KiB; it takes 2 to 3 MiB, and what a load reads is 8.
const OWN: u64 = 6 * 1024;

#[test]
fn what_a_load_took_is_given_back() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("what the C library keeps: the kernel has no part in it");
        return Ok(());
    }
    let machine = Netns::with_uplink("small")?;
    let mut hub = configured(&machine)?;
    for start in 1..=STARTS {
        hub.up()?;
        settled(&machine, &hub)?;
        let daemon = hub.daemon().context("the daemon was started")?;
        let own = Resident::of(daemon)?.own;
        ensure!(own < OWN, "start {start}: {own} KiB");
        hub.stop()?;
    }
    Ok(())
}

#[test]
fn little_memory() -> Result<()> {
    if guest::line().is_none() {
        guest::skip("control groups of the host are not ours to make");
        return Ok(());
    }
    // Too little to start with, and plenty.
    for (limit, is_little) in [("2M", true), ("64M", false)] {
        let machine = Netns::new("memory")?;
        let mut hub = configured(&machine)?;
        let group = Group::new(limit)?;
        let line = format!(
            "echo $$ > {}/cgroup.procs && exec {} {} up --config {CONFIG_FOLDER}/relay.toml",
            group.0.display(),
            machine.entering(),
            binary()?.display()
        );
        let daemon = machine.spawn(Command::new("sh").args(["-c", &line]).stdin(Stdio::null()))?;
        let ended = wait_for("relay to be up or to be ended", DEADLINE, || match machine.ended(daemon)? {
            Some(ended) => Ok(Some(ended)),
            None => hub.run(&["status"]).map(|_| None),
        })?;
        guest::fact(&serde_json::json!({
            "memory": limit, "ended": ended.map_or("up".to_owned(), |ended| ended.to_string())
        }));
        ensure!(
            ended.is_some() == is_little,
            "with {limit} it {}",
            if is_little { "is up" } else { "ended" }
        );
        if ended.is_none() {
            machine.kill(daemon)?;
        }
        // However far it came: the next one, in peace, has one program and takes everything down.
        hub.up()?;
        settled(&machine, &hub)?;
        hub.run(&["down"])?;
        nothing_left(&machine).with_context(|| format!("after {limit}"))?;
    }
    Ok(())
}
