//! Lines that lose, delay, reorder and double packets: the hub's uplink and the home's, both at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{UDP_TIMEOUT, World, world::VPS},
};
use serde_json::json;

use crate::{
    REKEY, all_fast, connected, nas4,
    ping::{self, Pinged},
    transfer,
};

/// Pings that show what the line is like.
const PINGS: u32 = 300;
const EACH: Duration = Duration::from_millis(10);

/// Whether the kernel can do it: a module, and part of all distributions' kernels.
fn missing(world: &World) -> Result<Option<String>> {
    match world.internet.run("tc qdisc add dev lo root netem delay 1ms") {
        Ok(_) => world.internet.run("tc qdisc del dev lo root").map(|_| None),
        Err(why) if guest::line().is_none() => Ok(Some(format!("this kernel has no netem: {why:#}"))),
        Err(why) => Err(why).context("a guest without netem"),
    }
}

/// (what the lines do, netem's word for it, whether pings of the VPS from the internet show that they do)
type Fault = (&'static str, &'static str, fn(&Pinged) -> bool);

const FAULTS: [Fault; 3] = [
    ("loss", "loss 5%", |outer| outer.lost() > 0),
    // Some overtake the others, which take 20 ms.
    ("delay and reordering", "delay 20ms reorder 25%", |outer| {
        outer.times.is_some_and(|(fastest, slowest)| fastest < 20.0 && slowest >= 20.0)
    }),
    ("duplicates", "duplicate 20%", |outer| outer.duplicates > 0),
];

#[test]
fn lines_that_lose_delay_reorder_and_double() -> Result<()> {
    let begun = Instant::now();
    connected(UDP_TIMEOUT, |world, relay| {
        if let Some(why) = missing(world)? {
            guest::skip(&why);
            return Ok(());
        }
        let clean = transfer(world)?;
        let shaken = handshakes(world)?;
        for (fault, netem, shows) in FAULTS {
            let before = relay.stats()?;
            for machine in [&world.vps, &world.home] {
                machine.run(&format!("tc qdisc add dev eth0 root netem {netem}"))?;
            }
            let outer = ping::send(&world.internet, VPS.parse()?, PINGS, EACH)?;
            ensure!(shows(&outer), "{fault}: netem does nothing of the kind: {outer:?}");
            let rate = transfer(world).with_context(|| format!("a transfer with {fault}"))?;
            let inner = ping::send(&world.phone, nas4(), PINGS, EACH)?;
            // A packet that the line doubles is a replay, and ends there.
            ensure!(
                inner.duplicates == 0,
                "{fault}: {} answers came twice through the tunnel",
                inner.duplicates
            );
            for machine in [&world.vps, &world.home] {
                machine.run("tc qdisc del dev eth0 root")?;
            }
            ping::none_lost(world, PINGS).with_context(|| format!("{fault} is over"))?;
            let packets = all_fast(relay, &before).with_context(|| fault.to_owned())?;
            // Nothing was silent for long enough to make anybody shake hands before the key's time.
            let anew = handshakes(world)? != shaken;
            ensure!(!anew || begun.elapsed() > REKEY, "{fault}: somebody had to shake hands anew");
            guest::fact(&json!({
                "network": fault, "mbit_per_s": rate.round(), "mbit_per_s_clean": clean.round(), "pings": PINGS,
                "lost": inner.lost(), "packets": packets, "handshakes": u8::from(anew),
            }));
        }
        Ok(())
    })
}

fn handshakes(world: &World) -> Result<[String; 2]> {
    Ok([
        world.home.run("wg show home latest-handshakes")?,
        world.phone.run("wg show phone latest-handshakes")?,
    ])
}
