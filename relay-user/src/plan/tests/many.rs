//! Two thousand peers, and one change: what is done is for that one, and needs no second look.

use super::*;

const PEERS: u16 = 2_000;

fn numbered(number: u16) -> PublicKey {
    let mut bytes = [4; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::new(bytes)
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 8, high, low])
}

fn many() -> Desired {
    let peers = (1..=PEERS).map(|number| {
        let peer =
            Peer { addresses: [address(number)].into(), ..peer(&format!("peer{number}"), "10.8.0.0", None) };
        (numbered(number), peer)
    });
    Desired { addresses: ["10.8.255.1/16".parse().unwrap()].into(), peers: peers.collect(), ..desired() }
}

/// What is to be done, and whether some of it may lead to more.
fn done(desired: &Desired, observed: &Observed) -> (Vec<Change>, bool) {
    let changes = todo(desired, observed);
    let leads_on = changes.iter().any(|change| change.leads_on(desired, observed));
    (changes, leads_on)
}

/// Says what is to be done after something happened to the file and to the host.
fn after(happened: impl FnOnce(&mut Desired, &mut Observed)) -> (Vec<Change>, bool) {
    let mut desired = many();
    let mut observed = Observed { routes: Vec::new(), ..settled(&desired) };
    assert_eq!(done(&desired, &observed), (Vec::new(), false));
    happened(&mut desired, &mut observed);
    done(&desired, &observed)
}

#[test]
fn another_address_of_one() {
    let (changes, leads_on) = after(|desired, _| {
        desired.peers.get_mut(&numbered(1_000)).unwrap().addresses = [address(3_000)].into();
    });
    let [Change::SetMaps(takes), Change::SetPeers(keys), Change::SetMaps(gives)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(takes[..], [MapChange::RemoveHost(address(1_000))]);
    assert_eq!(*keys, [numbered(1_000)].into());
    assert!(
        matches!(gives[..], [MapChange::SetHost(to, route)] if to == address(3_000) && route.slot().is_some())
    );
    assert!(!leads_on);
}

#[test]
fn where_addresses_are_looked_for_is_put_right_first() {
    let (changes, _) = after(|desired, observed| {
        desired.peers.get_mut(&numbered(1_000)).unwrap().addresses = [address(3_000)].into();
        observed.maps.as_mut().unwrap().all_direct.v4 = false;
    });
    let [Change::SetMaps(takes), Change::SetPeers(_), Change::SetMaps(gives)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(
        takes[..],
        [MapChange::AllDirect(AllDirect { v4: true, v6: true }), MapChange::RemoveHost(address(1_000))]
    );
    assert!(matches!(gives[..], [MapChange::SetHost(..)]), "{gives:?}");
}

#[test]
fn one_more_or_less() {
    let (changes, leads_on) = after(|desired, _| drop(desired.peers.remove(&numbered(7))));
    assert!(
        matches!(&changes[..], [Change::SetMaps(takes), Change::RemovePeers(keys), Change::SetMaps(gives)]
            if takes.len() == 1 && keys.len() == 1 && gives.len() == 1),
        "{changes:?}"
    );
    assert!(!leads_on);

    let more = |endpoint: Option<&'static str>| {
        after(move |desired, _| {
            let endpoint = endpoint.map(|text| text.parse().unwrap());
            let new = Peer { endpoint, ..peer("new", "10.8.40.1", None) };
            desired.peers.insert(numbered(9_000), new);
        })
    };
    for (endpoint, leads) in [(None, false), (Some("203.0.113.9:4000"), true)] {
        let (changes, leads_on) = more(endpoint);
        assert!(
            matches!(&changes[..], [Change::SetPeers(keys), Change::SetMaps(gives)] if keys.len() == 1 && gives.len() == 1),
            "{changes:?}"
        );
        assert_eq!(leads_on, leads, "its way is published once WireGuard has its endpoint");
    }
}

#[test]
fn what_may_lead_to_more() {
    for (name, happened) in [
        ("the link went down", (|o| o.link.as_mut().unwrap().up = false) as fn(&mut Observed)),
        ("the table is gone", |o| o.table = None),
        ("the fast path is gone", |o| o.attached = None),
        ("an address is gone", |o| o.addresses.clear()),
    ] {
        let (changes, leads_on) = after(|_, observed| happened(observed));
        assert!(leads_on, "{name}: {changes:?}");
    }
}
