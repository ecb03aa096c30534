//! `relay doctor`: what is wrong with the hub, and what to do.
//!
//! [`look`] gathers [`facts::Facts`] from the kernel, the file and the daemon, and changes nothing; the checks are pure
//! functions from facts to [`finding::Finding`]s, in the order in which one thing depends on another: [`hub`] for what
//! runs and how it is set up, [`way`] for the firewall and the way out, [`peers`] for each peer, with [`knocking`] for
//! those who try in vain, [`networks`] for the way into the tunnel and [`behind`] for what is behind its other end, and
//! [`mod@follow`] for one peer from end to end.
//!
//! It does its own looking and does not ask the daemon to: it runs as root anyway, it has to work where no daemon does,
//! and the daemon keeps no packet socket for the day when somebody asks.

pub mod behind;
pub mod ear;
pub mod facts;
pub mod finding;
pub mod follow;
mod guard;
pub mod hub;
pub mod initiation;
pub mod knocking;
pub mod look;
pub mod networks;
pub mod peers;
pub mod probe;
pub mod way;

#[cfg(test)]
mod tests;

use self::{
    facts::Facts,
    finding::{Finding, Report},
};

/// The whole hub.
#[must_use]
pub fn examine(facts: &Facts) -> Report {
    Report::new(
        [hub::findings(facts), way::findings(facts), guard::findings(facts), peers::findings(facts)].concat(),
    )
}

/// One peer from end to end; of the hub only what is amiss.
#[must_use]
pub fn follow(facts: &Facts, peer: &str) -> Report {
    let hub = [hub::findings(facts), way::findings(facts), guard::findings(facts)].concat();
    let amiss = hub.into_iter().filter(Finding::is_amiss);
    Report::new(amiss.chain(follow::findings(facts, peer)).collect())
}
