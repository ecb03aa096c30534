//! Sysctls, and that they go back.

use std::{fs, path::Path};

use anyhow::Result;
use relay_user::kernel::{
    odd_sysctls,
    sysctl::{self, Journal, Restored, Sysctl},
};

use crate::{
    space::{self, isolated, run},
    tunnel::name,
};

const RUN: &str = "/run/relay";
const FILE: &str = "/run/relay/wg0/sysctl.json";

fn journal() -> Journal {
    // As after kill -9: every use is a new process's.
    Journal::new(Path::new(RUN), &name("wg0"))
}

fn forward(value: &str) -> Result<()> {
    Ok(sysctl::write(&Sysctl::Ipv4Forward, value)?)
}

#[test]
fn names_are_those_of_the_kernel() {
    isolated(async || {
        run("ip link add eth0.7 type veth peer name veth1")?;
        let dotted = name("eth0.7");
        for (sysctl, path, value) in [
            (Sysctl::Ipv4Forward, "net/ipv4/ip_forward", "1"),
            (Sysctl::Ipv6Forward, "net/ipv6/conf/all/forwarding", "1"),
            (Sysctl::SendRedirects(name("all")), "net/ipv4/conf/all/send_redirects", "0"),
            (Sysctl::SendRedirects(dotted.clone()), "net/ipv4/conf/eth0.7/send_redirects", "0"),
            (Sysctl::AcceptRa(dotted), "net/ipv6/conf/eth0.7/accept_ra", "2"),
        ] {
            let before = space::sysctl(path)?;
            assert_eq!(sysctl::read(&sysctl).as_deref(), Some(before.as_str()), "{path}");
            assert_ne!(before, value, "{path}");
            assert!(journal().set(&sysctl, value)?, "{path}");
            assert_eq!(space::sysctl(path)?, value);
            assert!(!journal().set(&sysctl, value)?, "{path} a second time");
            assert_eq!(sysctl.name().replace('.', "/"), path.replace('.', "/"));
        }
        assert_eq!(journal().restore()?.len(), 5);
        assert_eq!(space::sysctl("net/ipv6/conf/eth0.7/accept_ra")?, "1");
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "0");
        let absent = Sysctl::SendRedirects(name("nowhere"));
        assert_eq!(sysctl::read(&absent), None);
        let error = journal().set(&absent, "0").expect_err("no such interface").to_string();
        assert!(error.contains("net.ipv4.conf.nowhere.send_redirects to 0"), "{error}");
        assert!(!Path::new(FILE).exists());
        Ok(())
    });
}

#[test]
fn what_the_fast_path_does_not_know_is_seen() {
    isolated(async || {
        run("ip link add wg.0 mtu 1420 type veth peer name other")?;
        forward("1")?;
        let odd = || (odd_sysctls::v4("wg.0"), odd_sysctls::v6("wg.0", 1420));
        assert_eq!(odd(), (vec![], vec![]));
        for (path, value, shown) in [
            ("net/ipv4/conf/wg.0/forwarding", "0", "net.ipv4.conf.wg.0.forwarding = 0"),
            ("net/ipv4/ip_forward_use_pmtu", "1", "net.ipv4.ip_forward_use_pmtu = 1"),
            ("net/ipv6/conf/wg.0/mtu", "1300", "net.ipv6.conf.wg.0.mtu = 1300"),
            ("net/ipv6/conf/wg.0/disable_ipv6", "1", "net.ipv6.conf.wg.0.disable_ipv6 = 1"),
        ] {
            let before = space::sysctl(path)?;
            fs::write(format!("/proc/sys/{path}"), value)?;
            let (v4, v6) = odd();
            assert_eq!([v4, v6].concat(), [shown]);
            fs::write(format!("/proc/sys/{path}"), before)?;
        }
        assert_eq!(odd(), (vec![], vec![]));
        Ok(())
    });
}

#[test]
fn the_first_original_is_what_comes_back() {
    isolated(async || {
        forward("0")?;
        journal().set(&Sysctl::Ipv4Forward, "1")?;
        forward("0")?; // somebody flips it
        journal().set(&Sysctl::Ipv4Forward, "1")?; // and relay back
        let told = journal().restore()?;
        assert!(matches!(&told[..], [Restored::Done { value, .. }] if value == "0"), "{told:?}");
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "0");
        assert!(journal().restore()?.is_empty(), "twice changes nothing");
        Ok(())
    });
}

#[test]
fn a_value_that_was_there_already_stays() {
    isolated(async || {
        forward("1")?;
        assert!(!journal().set(&Sysctl::Ipv4Forward, "1")?);
        assert!(journal().restore()?.is_empty());
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "1");
        Ok(())
    });
}

#[test]
fn somebody_elses_later_word_stands() {
    isolated(async || {
        run("ip link add veth0 type veth peer name veth1")?;
        let accept_ra = Sysctl::AcceptRa(name("veth0"));
        journal().set(&accept_ra, "2")?;
        journal().set(&Sysctl::Ipv4Forward, "1")?;
        sysctl::write(&accept_ra, "0")?;
        let told = journal().restore()?;
        let expected = matches!(
            &told[..],
            [Restored::Done { sysctl: Sysctl::Ipv4Forward, .. }, Restored::Kept { value, ours, .. }]
                if value == "0" && ours == "2"
        );
        assert!(expected, "{told:?}");
        assert_eq!(space::sysctl("net/ipv6/conf/veth0/accept_ra")?, "0");

        journal().set(&accept_ra, "2")?;
        run("ip link delete veth0")?;
        assert!(matches!(journal().restore()?[..], [Restored::Gone(_)]));
        Ok(())
    });
}

/// A kill between journal and sysctl leaves an entry whose change never came.
#[test]
fn a_journal_that_is_ahead_does_no_harm_and_a_broken_one_is_told() {
    isolated(async || {
        journal().set(&Sysctl::Ipv4Forward, "1")?;
        forward("0")?;
        let told = journal().restore()?;
        assert!(matches!(&told[..], [Restored::Done { value, .. }] if value == "0"), "{told:?}");

        fs::write(FILE, "[{")?;
        for error in [
            journal().restore().expect_err("broken").to_string(),
            journal().set(&Sysctl::Ipv4Forward, "1").expect_err("broken").to_string(),
        ] {
            assert!(error.contains(FILE), "{error}");
        }
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "0", "nothing is set that could not be undone");
        Ok(())
    });
}

#[test]
fn what_is_handed_over_the_other_one_puts_back() {
    isolated(async || {
        let other = Journal::new(Path::new(RUN), &name("wg1"));
        forward("0")?;
        journal().set(&Sysctl::Ipv4Forward, "1")?;
        other.set(&Sysctl::Ipv4Forward, "1")?;
        other.set(&Sysctl::Ipv6Forward, "1")?;
        assert_eq!(journal().hand_over(&other)?, [Sysctl::Ipv4Forward]);
        assert!(!Path::new(FILE).exists());
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "1");
        assert_eq!(other.restore()?.len(), 2);
        assert_eq!(space::sysctl("net/ipv4/ip_forward")?, "0");
        assert_eq!(space::sysctl("net/ipv6/conf/all/forwarding")?, "0");
        Ok(())
    });
}
