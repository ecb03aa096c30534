//! People and homes that move to other networks: the hub follows, and nobody tells it to.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, world::HOME_PUBLIC},
    netns::wait_for,
};
use serde_json::json;

use crate::{DEADLINE, KEEPALIVE, all_fast, back, connected, endpoint, nas4, ping, seconds};

/// After a move: the ping comes back, `peer`'s endpoint begins with `public`, the fast path carries all, and relay has
/// changed nothing.
fn follows(
    world: &World,
    relay: &Relay<'_>,
    (case, peer, public): (&str, &str, &str),
    within: Duration,
    moves: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (old, said) = (endpoint(relay, peer)?, relay.log());
    moves()?;
    let took = back(&world.phone, nas4(), within)?;
    wait_for(&format!("relay to know where {peer} is"), DEADLINE, || {
        let new = endpoint(relay, peer)?;
        ensure!(new != old && new.starts_with(public), "{case}: {old} became {new}");
        Ok(())
    })?;
    let before = relay.stats()?;
    ping::none_lost(world, 50).with_context(|| case.to_owned())?;
    all_fast(relay, &before)?;
    ensure!(relay.log() == said, "{case}: relay had to do something: {}", relay.log());
    guest::fact(&json!({ "network": case, "seconds": seconds(took) }));
    Ok(())
}

#[test]
fn a_phone_and_a_home_that_move() -> Result<()> {
    connected(UDP_TIMEOUT, |world, relay| {
        let phone = &world.phone;
        follows(world, relay, ("the phone takes another port", "phone", "192.0.2.2:"), DEADLINE, || {
            phone.run("wg set phone listen-port 40123").map(drop)
        })?;
        let behind_the_isp = ("the phone moves behind the home's own CGNAT", "phone", HOME_PUBLIC);
        follows(world, relay, behind_the_isp, DEADLINE, || {
            world.isp.cable("mobiles", phone, "lte")?;
            world.isp.run("ip addr add 10.200.0.1/24 dev mobiles")?;
            world.isp.run("nft add rule inet filter forward iifname mobiles accept")?;
            phone.run_all(
                "ip link set eth0 down
                 ip addr add 10.200.0.20/24 dev lte
                 ip route replace default via 10.200.0.1",
            )
        })?;
        let back_again = ("the phone comes back to its old network", "phone", "192.0.2.2:");
        follows(world, relay, back_again, DEADLINE, || {
            phone.run_all(
                "ip link set lte down
                 ip link set eth0 up
                 ip route replace default via 192.168.7.1",
            )
        })?;
        // Where the home is, only the home can tell, and an idle home says something once in a keepalive's time.
        let within = KEEPALIVE + DEADLINE;
        let other_line = ("the home moves to a line with an address of its own", "home", "198.18.9.2:");
        follows(world, relay, other_line, within, || {
            world.internet.cable("fibre", &world.home, "fibre")?;
            world.internet.run("ip addr add 198.18.9.1/24 dev fibre")?;
            world.home.run_all(
                "ip link set eth0 down
                 ip addr add 198.18.9.2/24 dev fibre
                 ip route replace default via 198.18.9.1",
            )
        })
    })
}
