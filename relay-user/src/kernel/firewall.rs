//! The host's firewall, read and written through the tools that own it.
//!
//! nftables is read as nft prints it, tables of iptables as `iptables-…-save` prints them, ufw's comments from its own
//! files. Tools are given arguments and scripts, never a shell line, and run in the network namespace of the calling
//! thread. Everything is read each time; what is ours is found by its tag.

mod error;
mod firewalld;
mod tool;

use std::{fs, io};

pub use error::FirewallError;
use tool::{run, script};

use crate::firewall::{
    opening::{self, Opening, Ours, program},
    printed::Printed,
    ruleset::{Family, Ruleset, Source, Unreadable},
    table::{self, Table},
    ufw,
};
use crate::name::InterfaceName;

/// Everything that hangs on the kernel's hooks.
///
/// # Errors
///
/// nft is missing, or is refused (not root), or prints what cannot be read. An iptables that is missing while the kernel
/// has rules of it is no error but [`Ruleset::unreadable`].
pub async fn read() -> Result<Ruleset, FirewallError> {
    let mut ruleset = nft().await?;
    for family in ruleset.families_of_iptables() {
        // Without it, or where it refuses (a table that nft and iptables both wrote to), nft's word stands, which
        // counts each extension of iptables as the worst.
        let save = format!("{}-save", program(false, family == Family::Ip6));
        if let Ok(text) = run(&[save.as_str()]).await {
            ruleset.merge_iptables(crate::firewall::iptables_save::parse(&text, family, Source::Iptables));
        }
    }
    for (family, names) in [(Family::Ip, "ip_tables_names"), (Family::Ip6, "ip6_tables_names")] {
        legacy(&mut ruleset, family, names).await?;
    }
    ruleset.ufw = ufw_rules();
    Ok(ruleset)
}

/// What nft alone knows.
async fn nft() -> Result<Ruleset, FirewallError> {
    // Terse: the elements of named sets, of which there may be a hundred thousand, are not looked at. Stateless: a
    // quoted rule does not change with its counters.
    let json = run(&["nft", "-j", "-t", "list", "ruleset"]).await?;
    let text = run(&["nft", "-s", "-t", "-a", "list", "ruleset"]).await?;
    let printed = Printed { nft_json: json, nft_text: text, iptables: Vec::new() };
    Ok(printed.ruleset()?)
}

/// Legacy iptables has tables only where something has asked for them, and asking makes them: so the kernel is asked
/// for their names first.
async fn legacy(ruleset: &mut Ruleset, family: Family, names: &str) -> Result<(), FirewallError> {
    // The thread's own, since namespaces are a thread's; and read here, not by a helper thread that may have another.
    let tables = match fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(FirewallError::LegacyNames { file: names.to_owned(), cause }),
    };
    if tables.trim().is_empty() {
        return Ok(());
    }
    let save = format!("{}-save", program(true, family == Family::Ip6));
    match run(&[save.as_str()]).await {
        Ok(text) => {
            let tables = crate::firewall::iptables_save::parse(&text, family, Source::IptablesLegacy);
            ruleset.tables.extend(tables);
        }
        Err(FirewallError::Missing { .. }) => ruleset.unreadable.push(Unreadable {
            what: format!(
                "legacy {} tables: {}",
                family.name(),
                tables.split_whitespace().collect::<Vec<_>>().join(", ")
            ),
            hint: format!("{save} is not installed, so nobody can tell what they do: apt install iptables"),
        }),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// ufw's rules with comments; none where there is no ufw.
fn ufw_rules() -> Vec<crate::firewall::ruleset::UfwRule> {
    let read = |name| fs::read_to_string(format!("/etc/ufw/{name}")).unwrap_or_default();
    ufw::parse(&[read("user.rules"), read("user6.rules")].concat())
}

/// Puts our table in place of whatever is there under its names, in one transaction.
///
/// # Errors
///
/// nft is missing or refuses.
pub async fn replace_table(table: &Table) -> Result<(), FirewallError> {
    script("write the nftables table `inet relay`", &table::script(table)).await
}

/// Takes away what our table holds for an interface, and the table with the last of it. Says whether there was any.
///
/// # Errors
///
/// nft is missing or refuses.
pub async fn delete_table(interface: &str) -> Result<bool, FirewallError> {
    let ruleset = nft().await?;
    let last = table::is_last(&ruleset, interface);
    if !last && table::observed(&ruleset, interface).is_none() {
        return Ok(false);
    }
    script("remove the nftables table `inet relay`", &table::removal_script(interface, last)).await?;
    Ok(true)
}

/// The other interfaces for which our table stands: the other relays of this host.
///
/// # Errors
///
/// nft is missing or refuses.
pub async fn other_relays(interface: &InterfaceName) -> Result<Vec<InterfaceName>, FirewallError> {
    let mut interfaces = table::interfaces(&nft().await?);
    interfaces.retain(|other| other != interface);
    Ok(interfaces)
}

/// Makes an opening. One that is left to the admin ([`Opening::by_hand`]) is left alone.
///
/// # Errors
///
/// The owner's tool is missing or refuses.
pub async fn open(opening: &Opening) -> Result<(), FirewallError> {
    if opening.by_hand {
        return Ok(());
    }
    run(&opening.argv).await.map(drop)
}

/// Takes one rule of ours away.
///
/// # Errors
///
/// Its tool is missing or refuses.
pub async fn close(ours: &Ours) -> Result<(), FirewallError> {
    run(&ours.remove).await.map(drop)
}

/// Takes away every opening that carries this interface's tag, whoever made it and however long ago. All are tried; the
/// first failure is returned. Says whether nftables, iptables or ufw held any.
///
/// # Errors
///
/// As [`read`] and [`close`].
pub async fn close_all(interface: &str) -> Result<bool, FirewallError> {
    let ruleset = read().await?;
    let mut outcome = Ok(());
    let found = opening::ours(&ruleset, interface);
    for ours in &found {
        outcome = outcome.and(close(ours).await);
    }
    if firewalld::stands(&ruleset) {
        outcome = outcome.and(firewalld::close_all(interface).await);
    }
    outcome.map(|()| !found.is_empty())
}
