//! The fast path's life in the kernel: loaded, pinned, taken over, replaced, removed, with traffic on it.
//!
//! The tunnel is a TUN device that the test holds, and forwarding is off: a packet that the program does not redirect
//! is lost and missed. Every case runs on both hooks where the kernel has both.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use relay_common::{LAYOUT, Route, Verdict, checksum, global};
use relay_tests::{
    namespace::{in_namespaces, output, run, sysctl},
    tun::{Kind, Tun},
};
use relay_user::{
    kernel::datapath::{
        self, Datapath, DatapathError, EMBEDDED, Hook, Interface, PIN_ROOT, PinnedMaps, Pins,
    },
    key::PublicKey,
    maps::MapChange,
};

const PHONE: PublicKey = PublicKey::new([1; 32]);
const HOME: PublicKey = PublicKey::new([2; 32]);

/// Runs a case on every hook that this kernel has: a kernel with TCX (6.6) has clsact too.
fn on_each_hook(case: fn(Hook) -> Result<()>) {
    let has = |hook: &Hook| Hook::of_this_kernel() == Hook::Tcx || *hook == Hook::Clsact;
    for hook in [Hook::Tcx, Hook::Clsact].into_iter().filter(has) {
        in_namespaces(|| case(hook).with_context(|| format!("on {hook:?}")));
    }
}

fn tunnel() -> Result<Tun> {
    Tun::new("wg0", Kind::Tun, 1420)
}

fn interface(tunnel: &Tun) -> Result<Interface> {
    Ok(Interface { name: tunnel.name().parse()?, index: tunnel.index() })
}

fn pins() -> Pins {
    Pins::new("wg0".parse().expect("a name"))
}

/// The phone is 10.9.0.3 in slot 0, home is 10.9.0.2 with 192.168.40.0/24 in slot 1.
fn peers() -> Vec<MapChange> {
    let address = |last| IpAddr::from([10, 9, 0, last]);
    vec![
        MapChange::AssignSlot(PHONE, 0),
        MapChange::AssignSlot(HOME, 1),
        MapChange::SetHost(address(1), Route::STACK),
        MapChange::SetHost(address(3), Route::peer(0)),
        MapChange::SetHost(address(2), Route::peer(1)),
        MapChange::SetLan("192.168.40.0/24".parse().expect("a prefix"), Route::peer(1)),
        MapChange::Enable(true),
    ]
}

/// Loads, fills and attaches, as a starting daemon does; what the maps hold already is left alone.
fn start(interface: &Interface, hook: Hook) -> Result<Datapath> {
    let mut prepared = Datapath::prepare(EMBEDDED, interface.clone(), pins(), hook)?;
    if prepared.maps.read()?.slots.is_empty() {
        ensure!(prepared.maps.apply(&peers())? == 0, "the maps overflow");
    }
    Ok(prepared.commit()?)
}

/// From the phone to the NAS: UDP, with a number for payload.
fn packet(number: u64) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 3, 192, 168, 40, 10];
    let words = packet.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let check = !checksum::fold(words.sum());
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend([0x30, 0x39, 0, 80, 0, 16, 0, 0]);
    packet.extend(number.to_be_bytes());
    packet
}

/// Sends one packet and waits for it: lost, doubled and reordered ones are all errors.
fn pass(tunnel: &mut Tun, number: u64) -> Result<()> {
    tunnel.send(&packet(number))?;
    let (_, arrived) = tunnel.receive().with_context(|| format!("packet {number} was lost"))?;
    ensure!(arrived[28..] == number.to_be_bytes(), "packet {number} is not what arrived: {arrived:?}");
    ensure!(arrived[8] == 63, "packet {number} arrived with TTL {}", arrived[8]);
    Ok(())
}

/// How many programs the ingress hook runs, both kinds of hook counted; asks neither relay nor its pins.
fn programs() -> Result<usize> {
    let tcx = match Hook::of_this_kernel() {
        Hook::Tcx => SchedClassifier::query_tcx("wg0", TcAttachType::Ingress)?.1.len(),
        Hook::Clsact => 0,
    };
    let filters = output("tc filter show dev wg0 ingress")?;
    Ok(tcx + filters.lines().filter(|line| line.contains("handle")).count())
}

fn redirected(maps: &PinnedMaps) -> Result<u64> {
    Ok(maps.counters()?.verdict(Verdict::Redirected))
}

/// Another process that loads the fast path for `wg0`; see `src/bin/load-fast-path.rs`.
struct Loader {
    child: Child,
    outcome: serde_json::Value,
}

impl Loader {
    fn start(hook: Hook, pinning: &str, capabilities: Option<&str>) -> Result<Self> {
        let loader = env!("CARGO_BIN_EXE_load-fast-path");
        let hook = match hook {
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        };
        let mut command = match capabilities {
            Some(capabilities) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--bounding-set=-all,{capabilities}")).arg(loader);
                command
            }
            None => Command::new(loader),
        };
        let child = command
            .args(["wg0", hook, pinning])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start load-fast-path")?;
        let mut loader = Self { child, outcome: serde_json::Value::Null };
        let mut line = String::new();
        BufReader::new(loader.child.stdout.take().context("stdout")?).read_line(&mut line)?;
        loader.outcome = serde_json::from_str(&line).context("load-fast-path died")?;
        Ok(loader)
    }

    /// `kill -9`, and waits for its end.
    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_pinned_outlives_its_process() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let loader = Loader::start(hook, "pinned", None)?;
        ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
        let mut maps = PinnedMaps::open(&pins())?;
        maps.apply(&peers())?;
        for number in 0..100 {
            pass(&mut tunnel, number)?;
        }
        loader.kill()?;
        for number in 100..200 {
            pass(&mut tunnel, number)?;
        }
        ensure!(datapath::attached(&interface(&tunnel)?, &pins())? == Some(hook));
        let counters = PinnedMaps::open(&pins())?.counters()?;
        ensure!(counters.verdict(Verdict::Redirected) == 200, "{counters:?}");
        let (phone, home) = (counters.peers[&PHONE], counters.peers[&HOME]);
        ensure!((phone.received.packets, phone.received.bytes) == (200, 200 * 36), "{phone:?}");
        ensure!((home.sent.packets, home.sent.bytes) == (200, 200 * 36), "{home:?}");
        ensure!((phone.sent.packets, home.received.packets) == (0, 0), "{phone:?} {home:?}");
        Ok(())
    });
}

#[test]
fn dropping_it_leaves_it_attached() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn replacing_it_loses_no_packet() {
    on_each_hook(|hook| {
        const TIMES: usize = 8;
        let mut tunnel = tunnel()?;
        let interface = interface(&tunnel)?;
        drop(start(&interface, hook)?);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                let replaced = (0..TIMES).try_for_each(|_| start(&interface, hook).map(drop));
                done.store(true, Ordering::Release);
                replaced
            });
            let mut sent = 0;
            while !done.load(Ordering::Acquire) {
                pass(&mut tunnel, sent)?;
                sent += 1;
            }
            replacing.join().expect("the thread does not panic")?;
            ensure!(sent > 0, "nothing was sent meanwhile");
            ensure!(redirected(&PinnedMaps::open(&pins())?)? == sent, "not every packet was counted");
            ensure!(programs()? == 1, "{} programs", programs()?);
            Ok(())
        })
    });
}

#[test]
fn switching_it_loses_no_packet() {
    on_each_hook(|hook| {
        const TIMES: u64 = 500;
        let mut tunnel = tunnel()?;
        for scope in ["all", "wg0"] {
            sysctl(&format!("ipv4/conf/{scope}/send_redirects"), "0")?;
            sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        run("ip address add 10.9.0.1/24 dev wg0")?;
        run("ip route add 192.168.40.0/24 dev wg0")?;
        sysctl("ipv4/ip_forward", "1")?;
        let mut maps = start(&interface(&tunnel)?, hook)?.maps;
        for number in 0..TIMES {
            maps.apply(&[MapChange::Enable(number % 2 == 0)])?;
            pass(&mut tunnel, number)?;
        }
        let counters = maps.counters()?;
        let (fast, off) = (counters.verdict(Verdict::Redirected), counters.verdict(Verdict::Off));
        ensure!((fast, off) == (TIMES / 2, TIMES / 2), "{counters:?}");
        Ok(())
    });
}

#[test]
fn a_device_made_anew_gets_the_program_anew() {
    on_each_hook(|hook| {
        let mut first = tunnel()?;
        let datapath = start(&interface(&first)?, hook)?;
        pass(&mut first, 1)?;
        let gone = interface(&first)?;
        drop(first);
        ensure!(datapath.attached()?.is_none(), "attached to a device that is gone");

        let mut second = tunnel()?;
        ensure!(second.index() != gone.index, "the index was used again at once");
        let refused = Datapath::prepare(EMBEDDED, gone, pins(), hook).err();
        ensure!(matches!(refused, Some(DatapathError::NoInterface { .. })), "{refused:?}");
        let datapath = start(&interface(&second)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut second, 2)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        ensure!(redirected(&datapath.maps)? == 2, "the counters did not survive");
        Ok(())
    });
}

#[test]
fn a_link_to_a_renamed_device_is_not_mistaken_for_ours() {
    on_each_hook(|hook| {
        let first = tunnel()?;
        drop(start(&interface(&first)?, hook)?);
        run("ip link set wg0 down")?;
        run("ip link set wg0 name old0")?;
        let mut second = tunnel()?;
        let datapath = start(&interface(&second)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut second, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn leftovers_of_a_process_that_died_before_pinning() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        let loader = Loader::start(hook, "unpinned", None)?;
        ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
        ensure!(programs()? == 1, "{} programs", programs()?);
        loader.kill()?;
        let datapath = start(&interface(&tunnel)?, hook)?;
        ensure!(datapath.attached()? == Some(hook));
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn a_change_of_hook_leaves_one_program() {
    if Hook::of_this_kernel() != Hook::Tcx {
        // TCX came with 6.6 (commit e420bed02507); before, there is no other hook to change to.
        return;
    }
    for (before, after) in [(Hook::Clsact, Hook::Tcx), (Hook::Tcx, Hook::Clsact)] {
        in_namespaces(move || {
            let mut tunnel = tunnel()?;
            drop(start(&interface(&tunnel)?, before)?);
            let datapath = start(&interface(&tunnel)?, after)?;
            ensure!(datapath.attached()? == Some(after));
            pass(&mut tunnel, 1)?;
            ensure!(programs()? == 1, "{} programs", programs()?);
            Ok(())
        });
    }
}

#[test]
fn removing_it_leaves_nothing() {
    on_each_hook(|hook| {
        let device = tunnel()?;
        datapath::remove(&pins()).context("where nothing is")?;
        drop(start(&interface(&device)?, hook)?);
        ensure!(Path::new(PIN_ROOT).exists());
        datapath::remove(&pins())?;
        ensure!(!Path::new(PIN_ROOT).exists(), "{PIN_ROOT} is still there");
        ensure!(programs()? == 0, "{} programs", programs()?);
        ensure!(!output("tc qdisc show dev wg0")?.contains("clsact"), "the qdisc is still there");
        datapath::remove(&pins()).context("a second time")?;
        let closed = PinnedMaps::open(&pins()).err();
        ensure!(matches!(closed, Some(DatapathError::NotLoaded { .. })), "{closed:?}");

        drop(start(&interface(&device)?, hook)?);
        drop(device);
        datapath::remove(&pins()).context("after the device is gone")?;
        ensure!(!Path::new(PIN_ROOT).exists(), "{PIN_ROOT} is still there");
        Ok(())
    });
}

#[test]
fn another_interfaces_pins_are_left_alone() {
    on_each_hook(|hook| {
        let (device, other) = (tunnel()?, Tun::new("wg1", Kind::Tun, 1420)?);
        drop(start(&interface(&device)?, hook)?);
        let others = Pins::new(other.name().parse()?);
        let prepared = Datapath::prepare(EMBEDDED, interface(&other)?, others.clone(), hook)?;
        let datapath = prepared.commit()?;
        datapath::remove(&pins())?;
        ensure!(others.maps().exists());
        ensure!(datapath.attached()? == Some(hook));
        datapath::remove(&others).map_err(Into::into)
    });
}

#[test]
fn an_old_layout_goes_when_the_new_one_runs() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        let old = pins().folder().join((LAYOUT - 1).to_string());
        fs::rename(pins().maps(), &old)?;

        let mut prepared = Datapath::prepare(EMBEDDED, interface(&tunnel)?, pins(), hook)?;
        pass(&mut tunnel, 1).context("by the old program, before the new maps are filled")?;
        prepared.maps.apply(&peers())?;
        pass(&mut tunnel, 2).context("by the old program")?;
        ensure!(redirected(&prepared.maps)? == 0, "the new maps were used before commit");
        ensure!(old.exists());
        let datapath = prepared.commit()?;
        ensure!(!old.exists(), "the old maps are still pinned");
        pass(&mut tunnel, 3).context("by the new program")?;
        ensure!(redirected(&datapath.maps)? == 1);
        Ok(())
    });
}

#[test]
fn maps_of_another_shape_are_made_anew() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        // A map of the same name and another size, as a build leaves that forgot to raise its number.
        let path = pins().maps().join("HOSTS4");
        fs::remove_file(&path)?;
        run(&format!(
            "bpftool map create {} type hash key 4 value 8 entries 16 name HOSTS4",
            path.display()
        ))?;

        let mut prepared = Datapath::prepare(EMBEDDED, interface(&tunnel)?, pins(), hook)?;
        pass(&mut tunnel, 1).context("by the old program")?;
        prepared.maps.apply(&peers())?;
        drop(prepared.commit()?);
        pass(&mut tunnel, 2).context("by the new program")
    });
}

#[test]
fn other_programs_are_listed() {
    on_each_hook(|hook| {
        let tunnel = tunnel()?;
        drop(start(&interface(&tunnel)?, hook)?);
        ensure!(datapath::foreign_programs(tunnel.index(), &pins())?.is_empty());
        run("tc qdisc replace dev wg0 clsact")?;
        let object = tempfile::NamedTempFile::new()?;
        fs::write(object.path(), EMBEDDED)?;
        run(&format!("bpftool prog load {} /sys/fs/bpf/foreign type classifier", object.path().display()))?;
        run("tc filter add dev wg0 ingress pref 7 bpf direct-action object-pinned /sys/fs/bpf/foreign")?;
        let foreign = datapath::foreign_programs(tunnel.index(), &pins())?;
        ensure!(foreign.len() == 1 && foreign[0].contains("priority 7"), "{foreign:?}");
        if hook == Hook::Tcx {
            let loader = Loader::start(hook, "unpinned", None)?;
            let foreign = datapath::foreign_programs(tunnel.index(), &pins())?;
            ensure!(foreign.len() == 2 && foreign[0].contains("TCX program"), "{foreign:?}");
            loader.kill()?;
        }
        drop(start(&interface(&tunnel)?, hook)?);
        datapath::remove(&pins())?;
        let left = output("tc filter show dev wg0 ingress")?;
        ensure!(left.contains("pref 7 "), "the other program's filter went too: {left}");
        Ok(())
    });
}

#[test]
fn two_capabilities_are_enough() {
    on_each_hook(|hook| {
        let mut tunnel = tunnel()?;
        for _ in 0..2 {
            let loader = Loader::start(hook, "pinned", Some("+net_admin,+bpf"))?;
            ensure!(loader.outcome["attached"] == format!("{hook:?}"), "{}", loader.outcome);
            ensure!(loader.outcome["foreign"] == serde_json::json!([]), "{}", loader.outcome);
        }
        PinnedMaps::open(&pins())?.apply(&peers())?;
        pass(&mut tunnel, 1)?;
        ensure!(programs()? == 1, "{} programs", programs()?);
        Ok(())
    });
}

#[test]
fn a_missing_capability_is_named() {
    on_each_hook(|hook| {
        let _tunnel = tunnel()?;
        for (have, missing) in [("+net_admin", "CAP_BPF"), ("+bpf", "CAP_NET_ADMIN")] {
            let loader = Loader::start(hook, "pinned", Some(have))?;
            let error = loader.outcome["error"].as_str().with_context(|| loader.outcome.to_string())?;
            ensure!(error.contains(&format!("lacks {missing} ")), "with {have}: {error}");
            ensure!(programs()? == 0, "{} programs", programs()?);
        }
        Ok(())
    });
}

#[test]
fn a_missing_bpf_file_system_is_mounted_or_asked_for() {
    in_namespaces(|| {
        let hook = Hook::of_this_kernel();
        let mut device = tunnel()?;
        run("umount /sys/fs/bpf")?;
        while run("umount /sys/fs/bpf").is_ok() {}
        let loader = Loader::start(hook, "pinned", Some("+net_admin,+bpf"))?;
        let error = loader.outcome["error"].as_str().with_context(|| loader.outcome.to_string())?;
        ensure!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        drop(start(&interface(&device)?, hook)?);
        pass(&mut device, 1)
    });
}

#[test]
fn an_object_of_another_layout_is_refused() {
    in_namespaces(|| {
        let tunnel = tunnel()?;
        let refused = |object: &[u8]| -> Result<Option<DatapathError>> {
            Ok(Datapath::prepare(object, interface(&tunnel)?, pins(), Hook::of_this_kernel()).err())
        };
        let nothing = refused(&[])?;
        ensure!(matches!(nothing, Some(DatapathError::NoObject)), "{nothing:?}");
        let cut = refused(&EMBEDDED[..EMBEDDED.len() / 2])?;
        ensure!(matches!(cut, Some(DatapathError::BadObject(_))), "{cut:?}");
        let other = refused(&with_layout(LAYOUT + 1)?)?.context("another layout was taken")?.to_string();
        let both = [LAYOUT + 1, LAYOUT].map(|layout| other.contains(&format!("layout {layout}")));
        ensure!(both == [true, true], "{other}");
        ensure!(!Path::new(PIN_ROOT).exists(), "a refused object left something behind");
        Ok(())
    });
}

/// The object with another number in its global `LAYOUT`.
fn with_layout(layout: u32) -> Result<Vec<u8>> {
    let file = object::File::parse(EMBEDDED)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(global::LAYOUT)).context("LAYOUT")?;
    let section = file.section_by_index(symbol.section_index().context("LAYOUT has no section")?)?;
    let (start, _) = section.file_range().context("LAYOUT is not in the file")?;
    let at = (start + symbol.address()) as usize;
    let mut bytes = EMBEDDED.to_vec();
    ensure!(bytes[at..at + 4] == LAYOUT.to_le_bytes(), "LAYOUT stands elsewhere");
    bytes[at..at + 4].copy_from_slice(&layout.to_le_bytes());
    Ok(bytes)
}

#[test]
fn a_full_map_is_counted_and_no_failure() {
    in_namespaces(|| {
        const SURPLUS: usize = 3;
        let mut tunnel = tunnel()?;
        let mut datapath = start(&interface(&tunnel)?, Hook::of_this_kernel())?;
        let held = datapath.maps.read()?;
        let hosts = relay_common::MAX_HOSTS as usize - held.hosts.len() + SURPLUS;
        let lans = relay_common::MAX_LANS as usize - held.lans.len() + SURPLUS;
        let host = |number: usize| IpAddr::from((0x0b00_0000 + number as u32).to_be_bytes());
        let lan = |number: usize| {
            let [a, b, c, d] = (0x0c00_0000 + (number as u32) * 4).to_be_bytes();
            ipnet::IpNet::new(IpAddr::from([a, b, c, d]), 30).expect("30 bits")
        };
        let many: Vec<_> = (0..hosts)
            .map(|number| MapChange::SetHost(host(number), Route::peer(1)))
            .chain((0..lans).map(|number| MapChange::SetLan(lan(number), Route::peer(1))))
            .collect();
        let overflow = datapath.maps.apply(&many)?;
        ensure!(overflow == 2 * SURPLUS, "{overflow} found no room");
        let state = datapath.maps.read()?;
        ensure!(state.hosts.len() == relay_common::MAX_HOSTS as usize, "{} hosts", state.hosts.len());
        ensure!(state.lans.len() == relay_common::MAX_LANS as usize, "{} lans", state.lans.len());
        pass(&mut tunnel, 1)
    });
}

#[test]
fn maps_hold_what_was_put_there() {
    in_namespaces(|| {
        let mut tunnel = tunnel()?;
        let mut maps = start(&interface(&tunnel)?, Hook::of_this_kernel())?.maps;
        let (v6, lan6) = ("fd52:1a9::2".parse()?, "fd40::/56".parse()?);
        maps.apply(&[MapChange::SetHost(v6, Route::peer(1)), MapChange::SetLan(lan6, Route::STACK)])?;
        let state = PinnedMaps::open(&pins())?.read()?;
        ensure!(state.enabled);
        ensure!(state.slots == [(PHONE, 0), (HOME, 1)].into(), "{state:?}");
        ensure!(state.hosts.len() == 4 && state.hosts[&v6] == Route::peer(1), "{state:?}");
        ensure!(state.lans.len() == 2 && state.lans[&lan6] == Route::STACK, "{state:?}");

        pass(&mut tunnel, 1)?;
        let newcomer = PublicKey::new([3; 32]);
        let gone = MapChange::RemoveHost("10.9.0.3".parse()?);
        maps.apply(&[gone.clone(), gone, MapChange::FreeSlot(PHONE), MapChange::FreeSlot(PHONE)])?;
        maps.apply(&[MapChange::RemoveLan(lan6), MapChange::RemoveLan(lan6)])?;
        maps.apply(&[MapChange::AssignSlot(newcomer, 0), MapChange::Enable(false)])?;
        let counters = maps.counters()?;
        ensure!(counters.peers[&newcomer] == relay_common::PeerCounters::default(), "{counters:?}");
        ensure!(counters.peers[&HOME].sent.packets == 1, "{counters:?}");
        tunnel.send(&packet(2))?;
        let after = maps.counters()?;
        ensure!(after.verdict(Verdict::Off) == 1 && after.verdict(Verdict::Redirected) == 1, "{after:?}");
        Ok(())
    });
}
