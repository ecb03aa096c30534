//! A message bus (D-Bus) of a machine's own, for those who answer over one.

use std::{fs, process::Stdio, time::Duration};

use anyhow::Result;

use crate::netns::{Netns, wait_for};

/// It takes a fraction of a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// Everybody in the machine may say everything.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow eavesdrop="true"/>
  </policy>
</busconfig>
"#;

/// Starts it where programs look for the system's, and waits until it listens. It ends with the machine.
pub fn start(machine: &Netns) -> Result<()> {
    machine.inside(|| {
        fs::create_dir("/run/dbus")?;
        Ok(fs::write("/run/bus.conf", CONFIG)?)
    })?;
    let mut bus = machine.command("dbus-daemon");
    bus.args(["--config-file=/run/bus.conf", "--nofork", "--nopidfile"]);
    machine.spawn(bus.stderr(Stdio::null()))?;
    wait_for("the bus", DEADLINE, || machine.run("test -S /run/dbus/system_bus_socket")).map(drop)
}
