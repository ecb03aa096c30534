//! The hub that `relay up` makes of a relay.toml, between the same spokes.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay::{self, CONFIG_FOLDER, Relay},
    netns::Netns,
    tun::{Kind, Tun},
};

use super::{
    carried::Spoke,
    wire::Wire,
    world::{spoke, underlay},
};
use crate::{
    host,
    hub::{Out, Sent, drain},
    normal,
    peers::{self, HUB_KEY},
};

/// What the cases made leave the hub, with one `fast_path`.
pub(crate) struct Seen {
    /// What left of each.
    pub(crate) outs: Vec<Vec<Out>>,
    /// How many packets the program redirected, of all.
    pub(crate) redirected: u64,
}

/// Sends every case through one hub, with `fast_path = "off"`, and then, after a reload, with "auto".
pub(crate) fn observe(cases: &[Vec<Sent>]) -> Result<[Seen; 2]> {
    let machine = Netns::new("hub")?;
    let [phone, home] = [spoke(Spoke::Phone, machine.name())?, spoke(Spoke::Home, machine.name())?];
    let mut wire = Wire::new(phone, home, true);
    let mut uplink = machine.inside(|| {
        underlay()?;
        Tun::new("eth0", Kind::TunVnet { offload: false }, 1500)
    })?;
    let mut relay = Relay::init(&machine, &relay::binary()?)?;
    relay.write(&config()?)?;
    machine.inside(|| {
        // Over the key that `relay init` made, which keeps its mode.
        let path = format!("{CONFIG_FOLDER}/wg0.key");
        fs::write(path, HUB_KEY.expose_base64().as_bytes()).context("write the key")
    })?;
    relay.up()?;
    machine.inside(|| host::surround(&[]))?;
    let mut both = || -> Result<_> {
        wire.greet()?;
        let off = pass_all(&relay, &mut wire, &mut uplink, cases).context("with the fast path off")?;
        relay.edit("\"off\"", "\"auto\"")?;
        let on = pass_all(&relay, &mut wire, &mut uplink, cases).context("with the fast path on")?;
        ensure!(relay.stats()?.fast_path_is_on(), "it is not on: {}", relay.stats()?.0["fast_path"]);
        Ok([off, on])
    };
    both().with_context(|| format!("relay up said:\n{}", relay.log()))
}

fn pass_all(relay: &Relay<'_>, wire: &mut Wire, uplink: &mut Tun, cases: &[Vec<Sent>]) -> Result<Seen> {
    // Once it has answered, what it finds in the file and in the kernel is in its maps.
    relay.run(&["reload"])?;
    let before = relay.stats()?;
    let mut pass = |case| -> Result<Vec<Out>> {
        let mut out = wire.pass(case)?;
        out.extend(drain("eth0", uplink)?);
        Ok(out.into_iter().map(normal).collect())
    };
    let outs =
        cases.iter().map(|case| pass(case).with_context(|| format!("{case:?}"))).collect::<Result<_>>()?;
    let (redirected, _) = relay.stats()?.since(&before)?;
    Ok(Seen { outs, redirected })
}

/// The hub of [`peers::desired`].
fn config() -> Result<String> {
    let desired = peers::desired()?;
    let mut text = format!(
        "[interface]
         addresses = {:?}
         endpoint = \"198.51.100.2\"
         backend = \"kernel\"
         fast_path = \"off\"\n",
        words(&desired.addresses),
    );
    for (key, peer) in &desired.peers {
        text.push_str(&format!(
            "[[peer]]
             name = \"{}\"
             public_key = \"{key}\"
             addresses = {:?}
             lans = {:?}
             keepalive = 0\n",
            peer.name,
            words(&peer.addresses),
            words(&peer.lans),
        ));
    }
    Ok(text)
}

fn words<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(|item| item.to_string()).collect()
}
