//! ufw as it is enabled on a VPS: what comes in is denied but SSH, what is forwarded as well.

use anyhow::{Result, ensure};

use super::{closed, fast_path, lay_over, listen_port_is_open, manage, passes, passes_again, unpacked};
use crate::{
    busy,
    star::{self, Star, with_two},
};

const PORT: &str = "ufw allow 51820/udp comment 'relay wg0'";
const TUNNEL: &str = "ufw route allow in on wg0 out on wg0 comment 'relay wg0'";

/// What its package does when it is configured.
const CONFIGURED: &str = "cp /usr/share/ufw/iptables/before.rules /etc/ufw/before.rules
    cp /usr/share/ufw/iptables/before6.rules /etc/ufw/before6.rules
    cp /usr/share/ufw/iptables/after.rules /etc/ufw/after.rules
    cp /usr/share/ufw/iptables/after6.rules /etc/ufw/after6.rules
    cp /usr/share/ufw/iptables/user.rules /etc/ufw/user.rules
    cp /usr/share/ufw/iptables/user6.rules /etc/ufw/user6.rules
    cp /usr/share/ufw/before.init /etc/ufw/before.init
    cp /usr/share/ufw/after.init /etc/ufw/after.init
    cp /usr/share/ufw/ufw.conf /etc/ufw/ufw.conf";

/// ufw's own words, and what is in the kernel.
fn rules(star: &Star) -> Result<[String; 3]> {
    let kernel = |program: &str| -> Result<String> {
        let text = star.hub.run(program)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(|line| line.split(" [").next().unwrap_or_default()).collect::<Vec<_>>().join("\n"))
    };
    Ok([
        star.hub.run("cat /etc/ufw/user.rules /etc/ufw/user6.rules")?,
        kernel("iptables-nft-save")?,
        kernel("ip6tables-nft-save")?,
    ])
}

#[test]
fn denies_until_relay_may_open_and_is_as_before_afterwards() -> Result<()> {
    let Some(root) = unpacked("RELAY_UFW") else { return Ok(()) };
    let _busy = busy();
    with_two(|star, hub| {
        lay_over(&star.hub, &root)?;
        star.hub.run_all(CONFIGURED)?;
        star.hub.run_all("ufw allow 22/tcp\nufw --force enable")?;
        let before = rules(star)?;
        closed(star, hub, "chain FORWARD: policy drop", &[PORT, TUNNEL])?;
        listen_port_is_open(star, false, 40_001)?;
        ensure!(rules(star)? == before, "relay opened what it may not");

        manage(hub)?;
        fast_path(hub, true, "")?;
        listen_port_is_open(star, true, 40_002)?;
        passes_again(star)?;
        star::goes_fast(star, hub)?;
        let said = star.hub.run("ufw status")?;
        ensure!(said.matches("# relay wg0").count() == 4, "both families of port and tunnel: {said}");

        // The admin's own commands leave what relay put there; one who takes it away gets it back.
        star.hub.run_all("ufw allow 443/tcp\nufw reload\nufw delete allow 443/tcp")?;
        star.hub.run("ufw route delete allow in on wg0 out on wg0")?;
        fast_path(hub, true, "")?;
        passes_again(star)?;

        hub.run(&["down"])?;
        let after = rules(star)?;
        ensure!(after == before, "not as before:\n{after:#?}\n{before:#?}");
        ensure!(!passes(star)?, "packets pass without a hub");
        Ok(())
    })
}
