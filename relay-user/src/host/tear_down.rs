//! Takes everything of relay's off the host, whoever put it there: this daemon, one that was killed, one before a
//! crash. Everything is found by its own mark, nothing is remembered but what the sysctls were.

use std::path::Path;

use super::HostError;
use crate::{
    desired::InterfaceName,
    error::chain,
    kernel::{
        datapath::{self, Pins, uplink},
        firewall as nft,
        netlink::Netlink,
        sysctl::{Journal, Restored, Sysctl},
        userspace,
    },
    report::Reloaded,
};

/// Removes fast path, interface, nftables table and openings, and restores the sysctls that relay changed. What cannot
/// be removed is reported, and the rest removed all the same. An interface that is not relay's stays.
///
/// The home is closed last: forwarding goes off before the guard does.
pub async fn tear_down(netlink: &Netlink, interface: &InterfaceName, run_dir: &Path) -> Reloaded {
    let mut done = Reloaded::default();
    let pins = Pins::new(interface.clone());
    let loaded = pins.exist();
    note(&mut done, "took the fast path off", datapath::remove(&pins).map(|()| loaded));
    let pins = Pins::of_uplink(interface.clone());
    let guarded = pins.exist();
    note(&mut done, "took the guard off the uplink", uplink::remove(&pins).map(|()| guarded));
    note(&mut done, "removed the interface", remove_link(netlink, interface).await);
    note(&mut done, "removed a dead daemon's socket", userspace::remove_leftovers(interface));
    let journal = Journal::new(run_dir, interface);
    match nft::other_relays(interface).await.unwrap_or_default().first() {
        Some(other) => hand_over(&journal, other, run_dir, &mut done),
        None => restore_sysctls(&journal, &mut done),
    }
    note(&mut done, "closed what relay had opened in the firewall", nft::close_all(interface.as_str()).await);
    note(&mut done, "removed the nftables table `inet relay`", nft::delete_table(interface.as_str()).await);
    done
}

fn note<E: std::error::Error + 'static>(done: &mut Reloaded, what: &str, result: Result<bool, E>) {
    match result {
        Ok(true) => done.changes.push(what.to_owned()),
        Ok(false) => {}
        Err(error) => done.problems.push(chain(&error)),
    }
}

/// Forwarding is what two relays share: the last one switches it off.
fn hand_over(journal: &Journal, to: &InterfaceName, run_dir: &Path, done: &mut Reloaded) {
    match journal.hand_over(&Journal::new(run_dir, to)) {
        Ok(sysctls) => {
            let left = |sysctl: &Sysctl| format!("left {} to the relay of {to}", sysctl.name());
            done.changes.extend(sysctls.iter().map(left));
        }
        Err(error) => done.problems.push(chain(&error)),
    }
}

fn restore_sysctls(journal: &Journal, done: &mut Reloaded) {
    let restored = match journal.restore() {
        Ok(restored) => restored,
        Err(error) => return done.problems.push(chain(&error)),
    };
    for one in restored {
        match one {
            Restored::Done { sysctl, value } => {
                done.changes.push(format!("set {} back to {value}", sysctl.name()));
            }
            Restored::Kept { sysctl, value, ours } => done.changes.push(format!(
                "left {} at {value}: somebody changed it after relay had set {ours}",
                sysctl.name()
            )),
            Restored::Gone(_) => {}
            Restored::Failed(error) => done.problems.push(chain(&error)),
        }
    }
}

async fn remove_link(netlink: &Netlink, interface: &InterfaceName) -> Result<bool, HostError> {
    let Some(link) = netlink.link(interface).await?.filter(crate::observed::Link::is_ours) else {
        return Ok(false);
    };
    netlink.delete_link(link.index).await?;
    Ok(true)
}
