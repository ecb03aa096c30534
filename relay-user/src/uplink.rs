//! The guard in front of the listen port: what its maps shall hold, and how it stands. Nothing here touches the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use relay_common::{
    UplinkVerdict,
    mac1::MacKey,
    uplink::{MAX_LIVE, MAX_LOCAL, PrefixRule, SourceKey, UplinkSettings, UplinkSource},
};

use crate::{
    desired::{Desired, InterfaceName, Uplink, UplinkMode},
    observed::{Device, KernelRoute, Observed},
    report::Standing,
};

/// What the guard's maps hold, or shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkState {
    /// What it goes by.
    pub settings: UplinkSettings,
    /// This machine's addresses.
    pub local: BTreeSet<IpAddr>,
    /// `deny` and `allow`.
    pub rules: BTreeMap<IpNet, PrefixRule>,
    /// Sources with a live session.
    pub live: BTreeSet<SourceKey>,
}

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkChange {
    /// Watch an address.
    AddLocal(IpAddr),
    /// Watch it no more.
    RemoveLocal(IpAddr),
    /// What becomes of a prefix.
    SetRule(IpNet, PrefixRule),
    /// Nothing any more.
    RemoveRule(IpNet),
    /// Go by other settings.
    Settings(UplinkSettings),
    /// A source has a live session, and a reserve with it.
    AddLive(SourceKey),
    /// It has none any more.
    RemoveLive(SourceKey),
}

impl UplinkChange {
    /// Whether it follows the tunnel's life, which nobody needs to be told.
    #[must_use]
    pub const fn is_routine(&self) -> bool {
        matches!(self, Self::AddLive(_) | Self::RemoveLive(_))
    }
}

/// The interface that the guard shall be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkDevice {
    /// Its name.
    pub name: InterfaceName,
    /// Its index.
    pub index: u32,
}

/// Which XDP program an interface has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpHook {
    /// None.
    #[default]
    Free,
    /// Ours, attached in this mode.
    Ours(UplinkMode),
    /// Somebody else's, by its id.
    Foreign(u32),
}

/// What there is of the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkObserved {
    /// Where it shall be, if that is there.
    pub device: Option<UplinkDevice>,
    /// What is there.
    pub hook: XdpHook,
    /// What its maps hold, if this daemon has loaded it.
    pub maps: Option<UplinkState>,
    /// Whether anything of it is pinned, on whatever interface.
    pub pinned: bool,
    /// The sources that have a live session now.
    pub live: BTreeSet<SourceKey>,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkCounters {
    /// Packets by [`UplinkVerdict`]'s value.
    pub verdicts: [u64; UplinkVerdict::ALL.len()],
}

impl UplinkCounters {
    /// Packets that got this verdict.
    #[must_use]
    pub const fn verdict(&self, verdict: UplinkVerdict) -> u64 {
        self.verdicts[verdict as usize]
    }

    /// Packets that went no further.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        UplinkVerdict::ALL
            .iter()
            .filter(|verdict| verdict.drops())
            .map(|verdict| self.verdict(*verdict))
            .sum()
    }
}

/// What is remembered of sources that had something dropped.
pub type UplinkSources = BTreeMap<SourceKey, UplinkSource>;

/// The address of a source, or the first one of its prefix.
#[must_use]
pub fn address_of(SourceKey(bytes): SourceKey) -> IpAddr {
    match bytes {
        [0, 0, 0xff, 0xff, a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => {
            let mut address = [0; 16];
            address[..8].copy_from_slice(&bytes);
            IpAddr::from(address)
        }
    }
}

/// A source in words: `203.0.113.9`, `2001:db8:99::/64`.
#[must_use]
pub fn source_in_words(source: SourceKey) -> String {
    match address_of(source) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

/// An address as limits see it.
#[must_use]
pub fn source_of(address: IpAddr) -> SourceKey {
    match address.to_canonical() {
        IpAddr::V4(address) => SourceKey::v4(address.octets()),
        IpAddr::V6(address) => SourceKey::v6(address.octets()),
    }
}

/// How long after its last handshake a peer's address keeps a reserve: while its session may live (WireGuard's
/// REJECT_AFTER_TIME, 180 s), and as long as it goes on asking for another (REKEY_ATTEMPT_TIME, 90 s; whitepaper 6.1).
const LIVE: Duration = Duration::from_secs(180 + 90);

/// `RTN_LOCAL` (include/uapi/linux/rtnetlink.h).
const LOCAL: u8 = 2;

/// What the maps shall hold, given what their settings are now.
#[must_use]
pub fn wanted(
    desired: &Desired,
    uplink: &Uplink,
    observed: &Observed,
    before: &UplinkSettings,
) -> UplinkState {
    let mut rules: BTreeMap<IpNet, PrefixRule> =
        uplink.deny.iter().map(|&prefix| (prefix, PrefixRule::DENY)).collect();
    rules.extend(uplink.allow.iter().map(|&prefix| (prefix, PrefixRule::ALLOW)));
    let device = observed.device.as_ref();
    let port = desired.listen_port().unwrap_or_default();
    let mut settings = UplinkSettings {
        has_prefixes: u32::from(!rules.is_empty()),
        usual: usual(&observed.routes, observed.uplink.device.as_ref()),
        ..UplinkSettings::watching(port)
    };
    // While the key is changed, the kernel has the one and the file the other; peers may already have either.
    let keys = [Some(desired.private_key.public_key()), device.and_then(|device| device.public_key)];
    let keys: Vec<MacKey> = keys.into_iter().flatten().map(|key| MacKey::of(key.as_bytes())).collect();
    (settings.has_key, settings.keys) = places(&keys, before);
    UplinkState { settings, local: local(&observed.routes), rules, live: observed.uplink.live.clone() }
}

/// Which key stands where: one that has a place keeps it, since the program may be reading it.
fn places(wanted: &[MacKey], before: &UplinkSettings) -> ([u32; 2], [MacKey; 2]) {
    let mut places: [Option<MacKey>; 2] = std::array::from_fn(|at| {
        Some(before.keys[at]).filter(|key| before.has_key[at] != 0 && wanted.contains(key))
    });
    for key in wanted {
        if !places.contains(&Some(*key))
            && let Some(free) = places.iter_mut().find(|place| place.is_none())
        {
            *free = Some(*key);
        }
    }
    // A place without a key keeps what it has: nobody reads it, and nothing needs to be written.
    let keys = std::array::from_fn(|at| places[at].unwrap_or(before.keys[at]));
    (places.map(|place| u32::from(place.is_some())), keys)
}

/// The addresses that the kernel takes packets for.
fn local(routes: &[KernelRoute]) -> BTreeSet<IpAddr> {
    routes
        .iter()
        .filter(|route| {
            route.kind == LOCAL && route.destination.prefix_len() == route.destination.max_prefix_len()
        })
        .map(|route| route.destination.addr())
        .filter(|address| !address.is_loopback())
        .take(MAX_LOCAL as usize)
        .collect()
}

/// The first address of each family that is the guarded interface's own.
fn usual(routes: &[KernelRoute], device: Option<&UplinkDevice>) -> [[u64; 2]; 2] {
    let index = device.map(|device| device.index);
    let own: Vec<KernelRoute> =
        routes.iter().filter(|route| index.is_some() && route.interface == index).cloned().collect();
    let (own, mut usual) = (local(&own), [[0; 2]; 2]);
    // Backwards, so that the first one stays.
    for address in own.into_iter().rev() {
        match address {
            IpAddr::V4(address) => usual[0] = bytemuck::cast(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) if address.is_unicast_link_local() => {}
            IpAddr::V6(address) => usual[1] = bytemuck::cast(address.octets()),
        }
    }
    usual
}

/// Where the peers are that have a live session, or had one a moment ago.
#[must_use]
pub fn live(device: &Device, now: SystemTime) -> BTreeSet<SourceKey> {
    let recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < LIVE);
    device
        .peers
        .values()
        .filter(|peer| peer.latest_handshake.is_some_and(recent))
        .filter_map(|peer| peer.endpoint)
        .map(|endpoint| source_of(endpoint.ip()))
        .take(MAX_LIVE as usize)
        .collect()
}

/// The writes that make `state` what is `wanted`.
#[must_use]
pub fn diff(wanted: &UplinkState, state: &UplinkState) -> Vec<UplinkChange> {
    let mut changes = Vec::new();
    let stale = state.rules.keys().filter(|prefix| !wanted.rules.contains_key(prefix));
    changes.extend(stale.map(|&prefix| UplinkChange::RemoveRule(prefix)));
    let rules = wanted.rules.iter().filter(|(prefix, rule)| state.rules.get(prefix) != Some(rule));
    changes.extend(rules.map(|(&prefix, &rule)| UplinkChange::SetRule(prefix, rule)));
    changes.extend(state.local.difference(&wanted.local).map(|&address| UplinkChange::RemoveLocal(address)));
    changes.extend(wanted.local.difference(&state.local).map(|&address| UplinkChange::AddLocal(address)));
    if wanted.settings != state.settings {
        changes.push(UplinkChange::Settings(wanted.settings));
    }
    changes.extend(state.live.difference(&wanted.live).map(|&source| UplinkChange::RemoveLive(source)));
    changes.extend(wanted.live.difference(&state.live).map(|&source| UplinkChange::AddLive(source)));
    changes
}

/// Whether the guard stands, and why not.
#[must_use]
pub fn judge(uplink: &Uplink, observed: &UplinkObserved, failure: Option<&str>) -> Standing {
    if uplink.mode == UplinkMode::Off {
        return Standing::off("mode = \"off\" under [uplink] in the configuration");
    }
    let Some(device) = &observed.device else {
        return Standing::off(match &uplink.interface {
            Some(name) => format!("there is no interface {name}, which [uplink] names"),
            None => {
                "this host has no default route, so none of its interfaces leads to the internet".to_owned()
            }
        });
    };
    match observed.hook {
        XdpHook::Ours(UplinkMode::Generic) => Standing::on(format!("generic, on {}", device.name)),
        XdpHook::Ours(_) => Standing::on(format!("native, on {}", device.name)),
        XdpHook::Foreign(id) => Standing::off(format!(
            "another XDP program ({id}) is on {}, which relay leaves alone",
            device.name
        )),
        XdpHook::Free => Standing::off(failure.unwrap_or("it is not attached yet")),
    }
}

#[cfg(test)]
mod tests;
