//! Another key: mac1 is checked against it from the moment at which the kernel has it.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{netns::wait_for, uplink::message::made_up};
use relay_user::key::PublicKey;

use crate::{DEADLINE, PORT, configured, counted, machines, send, wait_for_guard};

#[test]
fn mac1_follows_the_key() -> Result<()> {
    let (machine, neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    hub.up()?;
    wait_for_guard(&hub, true, "native")?;
    let key = || -> Result<[u8; 32]> {
        let text = machine.run("wg show wg0 public-key")?;
        Ok(*text.trim().parse::<PublicKey>().context("the hub's key")?.as_bytes())
    };
    let old = key()?;
    send(&neighbour, PORT, &[made_up(&old, 1)])?;
    let counts = |initiations: u64, bad: u64| {
        wait_for("the guard to have counted", DEADLINE, || {
            let found = (counted(&hub, "initiation")?, counted(&hub, "bad_mac1")?);
            ensure!(found == (initiations, bad), "{found:?}");
            Ok(())
        })
    };
    counts(1, 0)?;
    machine.run("sh -c umask\t077;wg\tgenkey>/run/lab/wg0.key".replace('\t', "${IFS}").as_str())?;
    hub.run(&["reload"])?;
    let new = key()?;
    ensure!(new != old, "the key is the same");
    send(&neighbour, PORT, &[made_up(&new, 2)])?;
    counts(2, 0)?;
    let mut number = 100;
    wait_for("the old key to be forgotten", DEADLINE, || {
        number += 1;
        send(&neighbour, PORT, &[made_up(&old, number)])?;
        ensure!(counted(&hub, "bad_mac1")? > 0, "nothing has a wrong mac1");
        Ok(())
    })
}
