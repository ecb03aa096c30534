//! What a test program leaves behind in the guest, which tests must not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::system::run;

/// How long things may take to go away after the program's end: a namespace's links and a killed child's zombie
/// take milliseconds, many times that under emulation.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was there before any test.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        Ok(Self(everything()?))
    }

    /// What is there on top of the snapshot and does not go away by itself; it is taken away, so that the next program
    /// starts from the same.
    pub(crate) fn leftovers(&self) -> Result<Vec<String>> {
        let until = Instant::now() + PATIENCE;
        let left = loop {
            let left: Vec<String> = everything()?.difference(&self.0).cloned().collect();
            if left.is_empty() || Instant::now() > until {
                break left;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        for thing in &left {
            // A leftover that resists has been reported already, which is what counts.
            let _ = match thing.split_once(' ') {
                Some(("namespace", name)) => run("ip", &["netns", "del", name]),
                Some(("link", name)) => run("ip", &["link", "del", name]),
                Some(("pin", path)) => run("rm", &["-f", path]),
                _ => Ok(()),
            };
        }
        Ok(left)
    }
}

/// Namespaces with a name, links, pins, each as "kind name".
fn everything() -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    all.extend(names(Path::new("/run/netns"))?.into_iter().map(|name| format!("namespace {name}")));
    // Some modules make a link of their own when they are loaded, and tests may load them.
    let own = ["dummy0", "ifb0", "ifb1", "tunl0", "sit0", "gre0", "gretap0", "erspan0", "ip6tnl0", "bond0"];
    let links = names(Path::new("/sys/class/net"))?.into_iter().filter(|name| !own.contains(&name.as_str()));
    all.extend(links.filter(|name| name != "bonding_masters").map(|name| format!("link {name}")));
    pins(Path::new("/sys/fs/bpf"), &mut all)?;
    Ok(all)
}

/// The names in a folder; none if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let act = || format!("looking into {}", folder.display());
    fs::read_dir(folder)
        .with_context(act)?
        .map(|entry| Ok(entry.with_context(act)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Everything pinned below a folder. Empty folders hold nothing.
fn pins(folder: &Path, into: &mut BTreeSet<String>) -> Result<()> {
    for name in names(folder)? {
        let path = folder.join(name);
        if path.is_dir() && !path.is_symlink() {
            pins(&path, into)?;
        } else {
            into.insert(format!("pin {}", path.display()));
        }
    }
    Ok(())
}
