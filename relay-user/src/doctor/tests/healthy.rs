//! What is no fault, and where a way breaks.

use super::*;

#[test]
fn what_is_no_fault() {
    let rows: &[(&str, Inject)] = &[
        ("a handshake that is heard and completed", |f| {
            counts(f, HOME, 30, 180);
            live(f, HOME).latest_handshake = Some(before(4));
            hears(f, Ok((HOME, before(4))));
        }),
        ("the same of one whose clock is always slow", |f| {
            counts(f, HOME, 120, 180);
            live(f, HOME).latest_handshake = Some(before(4));
            hears(f, Ok((HOME, before(4200))));
        }),
        ("a handshake under way, while the last one is in force", |f| {
            hears(f, Ok((HOME, before(4))));
        }),
        ("a home that is dialled when there is something for it", |f| {
            rewrite(f, "name = \"home\"", "name = \"home\"\nendpoint = \"192.0.2.9:51820\"");
            counts(f, HOME, 7200, 0);
            f.probes.clear();
        }),
        ("a home with few keepalives", |f| {
            rewrite(f, "name = \"home\"", "name = \"home\"\nkeepalive = 300");
            counts(f, HOME, 400, 0);
            f.probes.clear();
        }),
        ("a LAN of which a part was asked", |f| {
            rewrite(f, "192.168.40.0/24", "10.64.0.0/16");
            host(f).observed.routes.push(route("10.64.0.0/16", 7, ROUTE_PROTOCOL));
            let probe = f.probes.get_mut("home").expect("home's");
            probe.lans = vec![("10.64.0.0/16".parse().expect("a prefix"), Behind::Silent { asked: 254 })];
        }),
        ("a route that the kernel does not take", |f| {
            let worse = KernelRoute { metric: 100, ..route("192.168.40.0/24", 2, 4) };
            host(f).observed.routes.push(worse);
        }),
        ("more homes than are asked", |f| f.not_asked = 3),
        ("a name of this host's in /etc/hosts", |f| {
            f.endpoint = Some(Ok(vec!["127.0.1.1".parse().expect("an address")]));
        }),
        ("the same, and the right address", |f| {
            let both = ["127.0.1.1", "203.0.113.7"].map(|address| address.parse().expect("an address"));
            f.endpoint = Some(Ok(both.to_vec()));
        }),
        ("behind NAT, with IPv6 of its own", |f| {
            let uplink = f.uplink.as_mut().expect("one");
            uplink.host_addresses =
                ["10.0.0.5", "2001:db8::7"].map(|a| a.parse().expect("an address")).to_vec();
            let both = ["203.0.113.7", "2001:db8::7"].map(|a| a.parse().expect("an address"));
            f.endpoint = Some(Ok(both.to_vec()));
        }),
        ("a kernel without BTF, and no bpffs yet", |f| {
            let kernel = f.kernel.as_mut().expect("one");
            (kernel.btf, kernel.bpffs) = (false, false);
        }),
        ("junk", |f| hears(f, Err(Sealed::Damaged))),
        ("the fast path off by the file", |f| {
            rewrite(f, "[interface]", "[interface]\nfast_path = \"off\"");
            host(f).fast_path = Standing::off("fast_path = \"off\"");
        }),
        ("behind NAT", |f| {
            let uplink = f.uplink.as_mut().expect("one");
            uplink.host_addresses = vec!["10.0.0.5".parse().expect("an address")];
        }),
        ("another relay that runs", |f| {
            f.relays = vec![OtherRelay { interface: "wg1".into(), runs: true }];
        }),
        ("a home that answers no ping, with a LAN that does", |f| {
            behind(f, false, Behind::Answers([192, 168, 40, 10].into()));
        }),
        ("userspace, since the kernel has none", |f| {
            f.kernel_wireguard = Some(Err("no module".into()));
            status(f).backend = Backend::Userspace;
        }),
    ];
    for (what, change) in rows {
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(amiss(&examine(&facts)), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn whoever_is_not_root_learns_just_that() {
    let mut facts = healthy();
    facts.unseen = vec!["WireGuard".into(), "the firewall".into()];
    facts.host = Err("only root may read WireGuard and the firewall".into());
    (facts.kernel, facts.kernel_wireguard, facts.device) = (None, None, None);
    facts.ears = Ears::Unused;
    facts.probes.clear();
    for report in [examine(&facts), follow(&facts, "home")] {
        let checks: Vec<Check> = report.findings.iter().filter(|f| f.is_amiss()).map(|f| f.check).collect();
        assert_eq!(checks, [Check::Rights], "{:#?}", amiss(&report));
    }
}

#[test]
fn a_home_that_shall_have_no_keepalive_is_not_gone() {
    let mut facts = healthy();
    rewrite(&mut facts, "name = \"home\"", "name = \"home\"\nkeepalive = 0");
    counts(&mut facts, HOME, 7200, 0);
    let report = examine(&facts);
    assert_eq!(report.worst, Level::Warning, "{:#?}", amiss(&report));
    assert_eq!(amiss(&report).len(), 1, "{:#?}", amiss(&report));
}

#[test]
fn a_laptop_that_ignores_pings_is_well() {
    let mut facts = healthy();
    counts(&mut facts, PHONE, 30, 0);
    let probe = Probe { tunnel: Some(([10, 9, 0, 3].into(), false)), ..Probe::default() };
    facts.probes.insert("phone".to_owned(), probe);
    assert_eq!(amiss(&follow(&facts, "phone")), Vec::<String>::new());
}

#[test]
fn what_follows_from_the_daemons_absence_is_not_told_again() {
    let mut facts = healthy();
    facts.daemon = Daemon::Absent;
    facts.link = None;
    facts.device = None;
    facts.ears = Ears::Unused;
    facts.probes.clear();
    host(&mut facts).observed.link = None;
    host(&mut facts).attached = None;
    host(&mut facts).fast_path = Standing::off("no program is attached; the kernel forwards");
    let report = examine(&facts);
    assert_eq!(amiss(&report).len(), 1, "{:#?}", amiss(&report));
}

#[test]
fn a_file_that_we_may_not_read_is_a_matter_of_rights() {
    let mut facts = healthy();
    facts.unseen = vec!["relay.toml".into()];
    facts.config = Err(Refused { message: "denied".into(), hint: None, forbidden: true });
    let report = examine(&facts);
    assert_eq!(report.worst, Level::Warning, "{:#?}", amiss(&report));
}

#[test]
fn the_way_to_a_peer_breaks_where_it_breaks() {
    let broken = |inject: Inject, peer: &str| {
        let mut facts = healthy();
        inject(&mut facts);
        let findings = follow(&facts, peer).findings;
        let last = findings.last().expect("a finding").seen.clone();
        last.split('`').nth(1).map(str::to_owned)
    };
    let at = |check: &str| Some(check.to_owned());
    assert_eq!(broken(|_| {}, "home"), None);
    assert_eq!(broken(|_| {}, "old"), at("peer"), "disabled");
    assert_eq!(broken(|_| {}, "guest"), at("peer"), "expired");
    assert_eq!(broken(|_| {}, "phone"), at("handshake"), "away is a break for whoever looks for it");
    assert_eq!(broken(|f| drop(f.device.take()), "home"), at("wireguard"));
    let unroute = |f: &mut Facts| host(f).observed.routes.retain(|route| route.protocol != ROUTE_PROTOCOL);
    assert_eq!(broken(unroute, "home"), at("networks"));
    let part = |f: &mut Facts| host(f).observed.routes.push(route("192.168.40.128/25", 2, 4));
    assert_eq!(broken(part, "home"), at("networks"), "a part of the LAN is elsewhere");
    assert_eq!(broken(|f| behind(f, true, Behind::NotForwarded), "home"), at("lan"));
    assert_eq!(broken(|f| behind(f, false, Behind::NotForwarded), "home"), at("tunnel"));
    assert_eq!(follow(&healthy(), "nobody").findings.len(), 0);
}
