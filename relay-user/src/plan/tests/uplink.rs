//! The guard in front of the listen port.

use relay_common::uplink::UplinkSettings;

use super::*;
use crate::uplink::{UplinkChange, UplinkDevice, UplinkState, XdpHook, source_of, wanted};

fn device() -> UplinkDevice {
    UplinkDevice { name: "eth0".parse().unwrap(), index: 2 }
}

/// A host whose guard is as it shall be.
fn guarded(desired: &Desired) -> Observed {
    let mut observed = settled(desired);
    observed.uplink.device = Some(device());
    observed.uplink.hook = XdpHook::Ours(UplinkMode::Native);
    observed.uplink.pinned = true;
    let before = UplinkSettings::watching(51820);
    let state = wanted(desired, desired.uplink().unwrap(), &observed, &before);
    observed.uplink.maps = Some(state);
    observed
}

fn with_mode(mode: UplinkMode) -> Desired {
    let mut desired = desired();
    if let Role::Hub(hub) = &mut desired.role {
        hub.uplink.mode = mode;
    }
    desired
}

#[test]
fn it_is_attached_once_and_then_left_alone() {
    let desired = desired();
    let mut observed = guarded(&desired);
    assert_eq!(todo(&desired, &observed), []);
    observed.uplink.hook = XdpHook::Free;
    assert_eq!(todo(&desired, &observed), [Change::LoadUplink(device())]);
    // A daemon that has just started puts its own program in the place of what it finds.
    let mut observed = guarded(&desired);
    observed.uplink.maps = None;
    assert_eq!(todo(&desired, &observed), [Change::LoadUplink(device())]);
    let generic = with_mode(UplinkMode::Generic);
    assert_eq!(todo(&generic, &guarded(&desired)), [Change::LoadUplink(device())]);
}

#[test]
fn it_goes_where_it_shall_not_be() {
    let desired = desired();
    let off = with_mode(UplinkMode::Off);
    assert_eq!(todo(&off, &guarded(&desired)), [Change::UnloadUplink]);
    let mut foreign = guarded(&desired);
    foreign.uplink.hook = XdpHook::Foreign(7);
    assert_eq!(todo(&desired, &foreign), [Change::UnloadUplink], "ours guards nothing, theirs stays");
    foreign.uplink.pinned = false;
    assert_eq!(todo(&desired, &foreign), []);
    let mut nowhere = guarded(&desired);
    nowhere.uplink.device = None;
    assert_eq!(todo(&desired, &nowhere), [Change::UnloadUplink]);
}

/// The guard knows a new key before WireGuard has it, and the old one as long as WireGuard has that.
#[test]
fn a_key_comes_before_and_goes_behind() {
    let old = desired();
    let new = Desired { private_key: PrivateKey::new([8; 32]), ..desired() };
    let mut observed = guarded(&old);
    let changes = todo(&new, &observed);
    let [Change::SetUplink(writes), Change::Configure { key: true, port: false }] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    let [UplinkChange::Settings(settings)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(settings.has_key, [1, 1]);
    let before = observed.uplink.maps.take().unwrap();
    assert_eq!(settings.keys[0], before.settings.keys[0], "the old one stays in its place");
    observed.uplink.maps = Some(UplinkState { settings: *settings, ..before });
    observed.device.as_mut().unwrap().public_key = Some(new.private_key.public_key());
    let changes = todo(&new, &observed);
    let [Change::SetUplink(writes)] = changes.as_slice() else { panic!("{changes:?}") };
    let [UplinkChange::Settings(settings)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(settings.has_key, [0, 1]);
}

/// Whoever comes and goes is followed without a word.
#[test]
fn sessions_are_routine() {
    let desired = desired();
    let mut observed = guarded(&desired);
    let source = source_of("203.0.113.5".parse().unwrap());
    observed.uplink.live = [source].into();
    let changes = todo(&desired, &observed);
    assert_eq!(changes, [Change::SetUplink(vec![UplinkChange::AddLive(source)])]);
    assert!(changes[0].is_routine());
}
