//! Where the guard is attached, and what it leaves alone.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use relay_common::program;
use relay_tests::{netns::wait_for, uplink::message::made_up};
use relay_user::kernel::datapath::EMBEDDED;

use crate::{DEADLINE, HUB, PORT, configured, counted, guard, has_program, machines, send, wait_for_guard};

#[test]
fn native_where_the_driver_can_and_gone_after_down() -> Result<()> {
    let (machine, neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    hub.up()?;
    wait_for_guard(&hub, true, "native, on eth0")?;
    ensure!(has_program(&machine, "eth0")?);

    let before = counted(&hub, "unknown_type")?;
    send(&neighbour, PORT, &vec![b"no WireGuard at all".to_vec(); 20])?;
    send(&neighbour, PORT, &[made_up(&[9; 32], 1)])?;
    wait_for("the guard to have counted", DEADLINE, || {
        let (unknown, bad) = (counted(&hub, "unknown_type")?, counted(&hub, "bad_mac1")?);
        ensure!(unknown == before + 20 && bad == 1, "{unknown} unknown, {bad} with a wrong mac1");
        Ok(())
    })?;
    let other = machine.inside(|| {
        let socket = UdpSocket::bind((HUB, PORT + 1))?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(socket)
    })?;
    send(&neighbour, PORT + 1, &[b"no WireGuard at all".to_vec()])?;
    let mut buffer = [0; 64];
    ensure!(other.recv(&mut buffer)? == 19, "another port is nobody's affair");
    ensure!(hub.run(&["stats"])?.contains("the guard of the uplink"));
    ensure!(hub.run(&["metrics"])?.contains("relay_uplink_guard_enabled{interface=\"wg0\"} 1"));

    hub.run(&["down"])?;
    ensure!(!has_program(&machine, "eth0")?, "the program is still there");
    ensure!(machine.run("find /sys/fs/bpf -mindepth 1 -name *uplink*")?.is_empty());
    Ok(())
}

#[test]
fn another_xdp_program_is_left_alone() -> Result<()> {
    let (machine, _neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    let mut foreign = Ebpf::load(EMBEDDED)?;
    let program: &mut Xdp = foreign.program_mut(program::UPLINK).expect("it is there").try_into()?;
    program.load()?;
    let link = machine.inside(|| Ok(program.attach("eth0", XdpMode::Driver)?))?;
    let before = machine.run("ip link show dev eth0")?;
    hub.up()?;
    wait_for_guard(&hub, false, "another XDP program")?;
    ensure!(machine.run("ip link show dev eth0")? == before, "it was touched");
    hub.run(&["reload"])?;
    ensure!(machine.run("ip link show dev eth0")? == before, "it was touched");
    // Once it has gone, the place is free.
    program.detach(link)?;
    wait_for_guard(&hub, true, "native, on eth0")
}

#[test]
fn where_the_driver_cannot_only_when_asked() -> Result<()> {
    let (machine, _neighbour) = machines()?;
    let mut hub = configured(&machine)?;
    // Loopback is a driver that every kernel has, and which cannot.
    hub.edit("[firewall]", "[uplink]\ninterface = \"lo\"\n\n[firewall]")?;
    hub.up()?;
    wait_for_guard(&hub, false, "the driver of lo takes no XDP program")?;
    ensure!(!has_program(&machine, "lo")? && !has_program(&machine, "eth0")?);
    let problems = hub.run(&["status", "--json"])?;
    ensure!(problems.contains("\"problems\": []"), "it is no problem: {problems}");

    hub.edit("interface = \"lo\"\n", "interface = \"lo\"\nmode = \"generic\"\n")?;
    hub.run(&["reload"])?;
    wait_for_guard(&hub, true, "generic, on lo")?;
    hub.edit("mode = \"generic\"", "mode = \"off\"")?;
    hub.run(&["reload"])?;
    wait_for_guard(&hub, false, "mode = \"off\"")?;
    ensure!(!has_program(&machine, "lo")?);
    hub.edit("interface = \"lo\"\nmode = \"off\"", "interface = \"eth7\"")?;
    hub.run(&["reload"])?;
    ensure!(guard(&hub)? == (false, "there is no interface eth7, which [uplink] names".to_owned()));
    Ok(())
}
