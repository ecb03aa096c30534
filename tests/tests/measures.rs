//! `cargo xtask bench forward` and `uplink` work: every way through the hub, and the guard, is measured with every kind of
//! packet. What comes of it is nobody's business here; a machine that tests run on is no place to measure.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::guest;
use serde_json::Value;

#[test]
fn every_way_with_every_kind() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("what is measured of a kernel's forwarding is measured on the host");
        return Ok(());
    }
    let result = quick("forward")?;
    let rows = result["rows"].as_array().context("no rows")?;
    let ways = 7 - result["unavailable"].as_array().map_or(0, Vec::len);
    ensure!(rows.len() == 8 * ways, "{} rows for {ways} ways and 8 kinds", rows.len());
    for row in rows {
        ensure!(row["gross"]["median"].as_f64().is_some_and(|median| median > 0.0), "{row}");
    }
    Ok(())
}

#[test]
fn the_guard_with_every_kind() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("what is measured of the guard alone is measured on the host");
        return Ok(());
    }
    let result = quick("uplink")?;
    let rows = result["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == 3 && rows.iter().all(|row| row["net"]["median"].is_f64()), "{rows:?}");
    Ok(())
}

/// What the benchmark of that name prints when it is quick.
fn quick(what: &str) -> Result<Value> {
    let objects =
        env::var_os("RELAY_BPF_DIR").context("no RELAY_BPF_DIR: cargo sets it in this workspace")?;
    // cargo's own is relative to the workspace.
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PathBuf::from(objects));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = command.args([what, "--quick"]).arg("--objects").arg(&objects).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("reading the results")
}
