//! Docker: its daemon, a container that publishes a port, and a restart that writes all rules anew.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    cgroup,
    lab::peer::{wg_quick_down, wg_quick_up},
    netns::{Netns, checked, wait_for},
};

use super::{closed, fast_path, lay_over, manage, passes, passes_again, unpacked};
use crate::{
    busy,
    star::{self, Star, with_two},
};

const TUNNEL: &str =
    "iptables-nft -w -t filter -I DOCKER-USER 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT";

/// How long the daemon may take to start, and to stop with a container; it takes 2 s.
const STARTS: Duration = Duration::from_secs(30);

/// A control group for it alone, below which it makes those of containers, and namespaces that end with it.
const OUTER: &str = r#"exec unshare --mount --propagation private --cgroup --pid --fork --kill-child --mount-proc sh -c "$INNER""#;
const INNER: &str = "set -e
mount -t cgroup2 cgroup2 /sys/fs/cgroup
rm -f /run/docker.pid /run/docker/containerd/containerd.pid
exec dockerd --storage-driver vfs --group root";

/// An image without a distribution: busybox, and a page.
const IMAGE: &str = "mkdir -p /run/image/bin && cp $(command -v busybox) /run/image/bin/busybox && \
    echo published > /run/image/index.html && tar -C /run/image -c . | docker import - box";
const PUBLISHES: &str = "docker run --detach --name web --stop-signal KILL --publish 8080:80 box /bin/busybox httpd -f -p 80 -h /";

/// The daemon, on a machine that has its package.
struct Docker<'a> {
    machine: &'a Netns,
    outer: u32,
}

impl<'a> Docker<'a> {
    fn start(machine: &'a Netns) -> Result<Self> {
        let mut command = machine.command("sh");
        command
            .args(["-c", &format!("set -e\n{}{OUTER}", cgroup::ENTER)])
            .env("INNER", INNER)
            .env("NAME", machine.name());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let docker = Self { machine, outer: machine.spawn(&mut command)? };
        wait_for("dockerd", STARTS, || {
            if let Some(status) = machine.ended(docker.outer)? {
                anyhow::bail!("it ended ({status})");
            }
            machine.run("docker version")
        })?;
        Ok(docker)
    }

    /// Ends it as systemd does.
    fn stop(&self) -> Result<()> {
        self.end("TERM")
    }

    /// Signals the one process that stands between us and its namespaces' end, and waits for that.
    fn end(&self, signal: &str) -> Result<()> {
        let children = checked(Command::new("pgrep").args(["-P", &self.outer.to_string()]))?;
        checked(Command::new("kill").args(["-s", signal, children.trim()]))?;
        wait_for("dockerd to end", STARTS, || self.machine.ended(self.outer)?.context("it runs").map(drop))
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if self.machine.ended(self.outer).is_ok_and(|status| status.is_none()) {
            let _ = self.end("KILL").or_else(|_| self.machine.kill(self.outer));
        }
        cgroup::remove(self.machine);
    }
}

/// A container that everybody reaches by a port of the hub's.
fn publish(star: &Star) -> Result<()> {
    checked(star.hub.command("sh").args(["-c", IMAGE])).context("making the image")?;
    star.hub.run(PUBLISHES).map(drop)
}

/// The rules in DOCKER-USER, the first of them first.
fn docker_user(star: &Star) -> Result<Vec<String>> {
    let text = star.hub.run("iptables-nft -S DOCKER-USER")?;
    Ok(text.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect())
}

#[test]
fn drops_until_relay_may_open_in_docker_user() -> Result<()> {
    let Some(root) = unpacked("RELAY_DOCKER") else { return Ok(()) };
    let _busy = busy();
    with_two(|star, hub| {
        lay_over(&star.hub, &root)?;
        let docker = Docker::start(&star.hub)?;
        publish(star)?;
        // It closes what it forwards for itself alone: where somebody has switched forwarding on before, it does not.
        ensure!(star.hub.run("iptables-nft -S FORWARD")?.contains("-P FORWARD ACCEPT"), "Docker's policy");
        passes_again(star).context("Docker drops what others forward")?;
        fast_path(hub, true, "")?;

        // At the next boot it comes first.
        docker.stop()?;
        hub.stop()?;
        star.hub.run("sysctl -qw net.ipv4.ip_forward=0")?;
        let docker = Docker::start(&star.hub)?;
        star.hub.run("docker start web")?;
        hub.up()?;
        for peer in [star.home(), star.phone()] {
            // It would notice only after 15 s that a userspace hub has lost its sessions.
            let config = peer.run("cat /run/tunnel.conf")?;
            wg_quick_down(peer, "tunnel")?;
            wg_quick_up(peer, "tunnel", &config)?;
            star::reach(peer, "10.9.0.1")?;
        }
        closed(star, hub, "table ip filter, chain FORWARD: policy drop", &[TUNNEL])?;
        ensure!(docker_user(star)? == ["-A DOCKER-USER -j RETURN"], "relay opened what it may not");

        manage(hub)?;
        fast_path(hub, true, "")?;
        let rules = docker_user(star)?;
        ensure!(rules.len() == 2 && rules[0].contains("\"relay wg0\" -j ACCEPT"), "{rules:#?}");
        passes_again(star)?;
        star::goes_fast(star, hub)?;

        // What Docker publishes is still there for peers, and its containers are strangers to the tunnel.
        let page = star.phone().run("curl -sS --fail --max-time 20 http://10.9.0.1:8080/")?;
        ensure!(page == "published\n", "{page}");
        let ping = |to: &str| star.hub.run(&format!("docker exec web /bin/busybox ping -c 1 -W 1 {to}"));
        ping("172.17.0.1").context("a container and its own bridge")?;
        ensure!(ping("10.9.0.2").is_err(), "a container reaches home");

        // Somebody throws all rules away, and Docker writes its own again.
        docker.stop()?;
        star.hub
            .run_all("iptables-nft -F\niptables-nft -X\niptables-nft -t nat -F\niptables-nft -t nat -X")?;
        let docker = Docker::start(&star.hub)?;
        star.hub.run("docker start web")?;
        fast_path(hub, true, "")?;
        passes_again(star)?;
        star::goes_fast(star, hub)?;
        ensure!(star.hub.run("iptables-nft -S FORWARD")?.contains("-P FORWARD DROP"), "Docker's policy");

        hub.run(&["down"])?;
        let rules = star.hub.run("iptables-nft-save")?;
        ensure!(!rules.contains("relay") && rules.contains("DOCKER-USER"), "{rules}");
        ensure!(!passes(star)?, "packets pass without a hub");
        drop(docker);
        Ok(())
    })
}
