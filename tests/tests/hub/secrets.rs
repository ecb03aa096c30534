//! No secret in any output, log, argument list, environment or run-time file, at the finest level of logging.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{lab::relay::CONFIG_FOLDER, netns::wait_for};

use crate::{DEADLINE, configured, machine};

/// The ways in which 32 bytes could show.
fn shapes(base64: &str, bytes: &[u8]) -> Vec<String> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = bytes.iter().take(8).map(u8::to_string).collect();
    vec![base64.trim_end_matches('=').to_owned(), hex.to_uppercase(), hex, list.join(", ")]
}

#[test]
fn canary_keys_stay_unseen_at_trace_level() -> Result<()> {
    let machine = machine("canary")?;
    let hub = configured(&machine)?;
    let canaries: Vec<(String, Vec<u8>)> = machine.inside(|| {
        let private = fs::read_to_string(format!("{CONFIG_FOLDER}/wg0.key"))?.trim().to_owned();
        let psk = "Q2FuYXJ5UHJlc2hhcmVkS2V5VGhhdElzVGhpcnR5MiE=".to_owned();
        fs::write(format!("{CONFIG_FOLDER}/home.psk"), format!("{psk}\n"))?;
        fs::set_permissions(
            format!("{CONFIG_FOLDER}/home.psk"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        [private, psk]
            .into_iter()
            .map(|text| {
                let key: relay_user::key::PrivateKey = text.parse().context("a key of ours")?;
                Ok((text, key.expose().to_vec()))
            })
            .collect()
    })?;
    hub.insert_after("name = \"home\"\n", "preshared_key_file = \"home.psk\"\n")?;

    let mut seen = Vec::new();
    let daemon = hub.spawn_traced(&["up"])?;
    wait_for("relay up to answer", DEADLINE, || hub.run(&["status"]))?;
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["stats", "--json"],
        &["peer", "list", "--json"],
        &["peer", "show", "home"],
        &["reload"],
    ] {
        seen.push(hub.run_traced(arguments)?);
    }
    hub.edit("listen_port", "listen_prot")?;
    seen.push(hub.run_traced(&["reload"])?);
    seen.push(hub.run_traced(&["peer", "add", "third"])?);
    hub.edit("listen_prot", "listen_port")?;
    machine.run("ip link delete wg0")?;
    wait_for("the interface to come back", DEADLINE, || machine.run("ip address show wg0"))?;
    seen.push(machine.run(&format!("cat /proc/{daemon}/cmdline"))?);
    seen.push(machine.run(&format!("cat /proc/{daemon}/environ"))?);
    seen.push(machine.run("grep -r . /run/relay")?);
    seen.push(hub.run_traced(&["down"])?);
    seen.push(hub.log());
    ensure!(seen.iter().any(|text| text.contains("TRACE")), "nothing was logged at trace level");
    for (base64, bytes) in &canaries {
        for shape in shapes(base64, bytes) {
            let leak = seen.iter().find(|text| text.contains(&shape));
            ensure!(leak.is_none(), "a secret shows as {shape:?} in:\n{}", leak.map_or("", String::as_str));
        }
    }
    Ok(())
}
