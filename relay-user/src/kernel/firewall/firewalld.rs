//! firewalld keeps no comments, so it is asked by itself for what is ours: rich rules of our priority, and the tunnel
//! interface where it is in a zone at run time only.

use super::{FirewallError, tool::run};
use crate::firewall::{opening::firewalld_priority, ruleset::Ruleset};

/// Whether firewalld's rules are in the kernel, by either of its backends.
pub(super) fn stands(ruleset: &Ruleset) -> bool {
    ruleset.tables.iter().any(|table| table.name == "firewalld" || table.chains.contains_key("INPUT_ZONES"))
}

/// Takes away what is ours.
pub(super) async fn close_all(interface: &str) -> Result<(), FirewallError> {
    let zones = run(&["firewall-cmd", "--list-all-zones"]).await?;
    let mut outcome = Ok(());
    for (zone, rule) in rich_rules(&zones, firewalld_priority(interface)) {
        let remove = [format!("--zone={zone}"), format!("--remove-rich-rule={rule}")];
        outcome = outcome.and(run(&["firewall-cmd", &remove[0], &remove[1]]).await.map(drop));
    }
    let asked = format!("--get-zone-of-interface={interface}");
    // "no zone" is an exit status of 2, here as there.
    let lasting = run(&["firewall-cmd", "--permanent", &asked]).await;
    if let (Ok(zone), Err(FirewallError::Refused { .. })) = (run(&["firewall-cmd", &asked]).await, lasting) {
        let remove = [format!("--zone={}", zone.trim()), format!("--remove-interface={interface}")];
        outcome = outcome.and(run(&["firewall-cmd", &remove[0], &remove[1]]).await.map(drop));
    }
    outcome
}

/// Zone and text of each rich rule of that priority. A zone's name stands at the beginning of a line, `(active)` or
/// `(default, active)` behind it; its rich rules stand below, one a line.
fn rich_rules(zones: &str, priority: i32) -> Vec<(String, String)> {
    let ours = format!("rule priority=\"{priority}\" ");
    let mut found = Vec::new();
    let mut zone = "";
    for line in zones.lines() {
        if !line.starts_with(char::is_whitespace) {
            zone = line.split_whitespace().next().unwrap_or_default();
        } else if line.trim().starts_with(&ours) {
            found.push((zone.to_owned(), line.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rich_rules_of_ours_are_found_in_their_zones() {
        let zones = "drop\n  target: DROP\n  rich rules: \n\npublic (active)\n  ports: 1/udp\n  rich rules: \n\
                     \trule priority=\"-5\" port port=\"2\" protocol=\"udp\" accept\n\
                     \trule priority=\"-50\" port port=\"3\" protocol=\"udp\" accept\n\n\
                     work\n  rich rules: \n\trule priority=\"-50\" port port=\"4\" protocol=\"udp\" accept\n";
        let rule = |port: u16| format!("rule priority=\"-50\" port port=\"{port}\" protocol=\"udp\" accept");
        assert_eq!(rich_rules(zones, -50), [("public".to_owned(), rule(3)), ("work".to_owned(), rule(4))]);
    }
}
