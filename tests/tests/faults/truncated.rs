//! relay.toml cut off at each of its bytes, as a reader finds it while a careless program writes: what is refused names
//! its line and changes nothing, and what is valid never takes away every peer.

use anyhow::{Result, ensure};
use relay_tests::{guest, netns::Netns};

use crate::{busy, hub, status};

/// Where to cut; the whole file and its last newline are no cut. In a guest, where a reload takes ten times as long, at the
/// end of each line, where what is left may be valid, and here and there within.
fn cuts(whole: &str) -> Vec<usize> {
    let bytes = whole.as_bytes();
    let chosen = |at: &usize| guest::line().is_none() || at.is_multiple_of(41) || bytes[*at] == b'\n';
    (0..whole.trim_end().len()).filter(|at| whole.is_char_boundary(*at)).filter(chosen).collect()
}

fn allowed(machine: &Netns) -> Result<Vec<String>> {
    let mut lines: Vec<String> = machine.run("wg show wg0 allowed-ips")?.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

#[test]
fn cut_off_at_every_byte() -> Result<()> {
    let _busy = busy();
    let machine = Netns::new("cut")?;
    let hub = hub(&machine)?;
    let whole = hub.edit("[interface]", "[interface]")?;
    let before = allowed(&machine)?;
    ensure!(before.len() == 2, "{before:?}");
    let (mut refused, mut taken) = (0, 0);
    for length in cuts(&whole) {
        hub.write(&whole[..length])?;
        match hub.run(&["reload"]) {
            Err(error) => {
                refused += 1;
                let said = format!("{error:#}");
                let place = said.contains("relay.toml:");
                ensure!(place, "cut at {length}: no place in: {said}");
                ensure!(said.contains("error:") && !said.contains("panicked"), "cut at {length}: {said}");
                ensure!(allowed(&machine)? == before, "cut at {length}: refused, and changed");
            }
            Ok(_) => {
                // A file that is valid is the admin's word, as long as it names anybody.
                taken += 1;
                let peers = status(&hub)?["peers"].as_u64().unwrap_or_default();
                ensure!(peers >= 1, "cut at {length}: nobody is left");
                let now = allowed(&machine)?;
                ensure!(now.iter().any(|line| line.contains("10.9.0.2/32")), "cut at {length}: {now:?}");
                hub.write(&whole)?;
                hub.run(&["reload"])?;
                ensure!(allowed(&machine)? == before, "the whole file after a cut at {length}");
            }
        }
    }
    guest::fact(&serde_json::json!({ "relay.toml": "cut off", "refused": refused, "taken": taken }));
    ensure!(refused > 0 && taken > 0, "{refused} refused, {taken} taken: one of them was not tried");
    hub.write(&whole)?;
    hub.run(&["reload"]).map(drop)
}

#[test]
fn a_file_that_lost_all_its_peers_is_refused_and_one_that_lost_its_last_is_not() -> Result<()> {
    let machine = Netns::new("nobody")?;
    let hub = hub(&machine)?;
    let whole = hub.edit("[interface]", "[interface]")?;
    let cut = whole.find("[[peer]]").unwrap_or_default();
    hub.write(&whole[..cut])?;
    let refused = hub.run(&["reload"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("no peers any more") && refused.contains("relay peer remove"), "{refused}");
    ensure!(status(&hub)?["peers"] == 2);
    hub.write(&whole)?;
    for (name, left) in [("home", 1), ("phone", 0)] {
        hub.run(&["peer", "remove", name])?;
        ensure!(status(&hub)?["peers"] == left, "after {name}");
    }
    Ok(())
}
