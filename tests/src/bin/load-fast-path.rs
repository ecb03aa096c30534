//! A process that tests can kill, or run with few capabilities: loads the fast path for an interface, prints one line
//! of JSON saying how it went, and then does nothing until its stdin ends.
//!
//! `load-fast-path INTERFACE tcx|clsact pinned|unpinned`: `unpinned` attaches without pinning, as a process
//! does that dies between the two.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    tc::{NlOptions, TcAttachOptions},
};
use relay_common::program;
use relay_user::{
    kernel::datapath::{self, Datapath, EMBEDDED, Hook, Interface, Pins},
    name::InterfaceName,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, hook, pinning] = arguments.as_slice() else {
        bail!("three arguments: INTERFACE tcx|clsact pinned|unpinned")
    };
    let name: InterfaceName = name.parse()?;
    let hook = match hook.as_str() {
        "tcx" => Hook::Tcx,
        "clsact" => Hook::Clsact,
        other => bail!("no such hook: {other}"),
    };
    match pinning.as_str() {
        "pinned" => pinned(name, hook),
        "unpinned" => unpinned(&name, hook),
        other => bail!("no such pinning: {other}"),
    }
}

fn pinned(name: InterfaceName, hook: Hook) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(name.as_str())?;
    let interface = Interface { name: name.clone(), index };
    let pins = Pins::new(name);
    let loaded = Datapath::prepare(EMBEDDED, interface, pins.clone(), hook)
        .and_then(datapath::Prepared::commit)
        .and_then(|datapath| Ok((datapath.maps.read()?, datapath.maps.counters()?, datapath.attached()?)))
        .and_then(|(state, _, attached)| Ok((state, attached, datapath::foreign_programs(index, &pins)?)));
    match loaded {
        Ok((state, attached, foreign)) => report(&serde_json::json!({
            "hosts": state.hosts.len(),
            "attached": attached.map(|hook| format!("{hook:?}")),
            "foreign": foreign,
        })),
        Err(error) => report(&serde_json::json!({ "error": error.to_string() })),
    }
}

fn unpinned(name: &InterfaceName, hook: Hook) -> Result<()> {
    let mut ebpf = aya::Ebpf::load(EMBEDDED)?;
    let program: &mut SchedClassifier =
        ebpf.program_mut(program::TUNNEL).context("no program `tunnel`")?.try_into()?;
    program.load()?;
    let options = match hook {
        Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
        Hook::Clsact => {
            aya::programs::tc::qdisc_add_clsact(name.as_str())?;
            TcAttachOptions::Netlink(NlOptions::default())
        }
    };
    program.attach_with_options(name.as_str(), TcAttachType::Ingress, options)?;
    report(&serde_json::json!({ "attached": format!("{hook:?}") }))
}

fn report(outcome: &serde_json::Value) -> Result<()> {
    println!("{outcome}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
