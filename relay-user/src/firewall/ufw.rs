//! Reads ufw's own list of rules, `/etc/ufw/user.rules` and `user6.rules`: above each rule stands a line
//! `### tuple ### …` that says what it was made from, its comment in hexadecimal (ufw keeps comments there only, and
//! gives iptables none). Only rules of the two shapes that relay makes are returned.

use super::ruleset::UfwRule;

/// The rules with a comment, each once.
#[must_use]
pub fn parse(user_rules: &str) -> Vec<UfwRule> {
    let mut found: Vec<UfwRule> = Vec::new();
    for tuple in user_rules.lines().filter_map(|line| line.strip_prefix("### tuple ### ")) {
        let Some((tuple, comment)) = tuple.rsplit_once(" comment=") else { continue };
        let (Some(arguments), Some(comment)) = (arguments(tuple), text(comment.trim())) else { continue };
        let rule = UfwRule { arguments, comment };
        if !found.contains(&rule) {
            found.push(rule);
        }
    }
    found
}

/// What `ufw` was called with: action, protocol, destination port and address, source port and address, interfaces.
fn arguments(tuple: &str) -> Option<Vec<String>> {
    const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
    let [action, protocol, port, to, "any", from, interfaces] = tuple.split(' ').collect::<Vec<_>>()[..]
    else {
        return None;
    };
    if !ANYWHERE.contains(&to) || !ANYWHERE.contains(&from) {
        return None;
    }
    let arguments = match (action, protocol, port, interfaces) {
        ("allow", "udp", port, "in") => format!("allow {port}/udp"),
        ("route:allow", "any", "any", interfaces) => {
            let (input, output) = interfaces.strip_prefix("in_")?.split_once("!out_")?;
            format!("route allow in on {input} out on {output}")
        }
        _ => return None,
    };
    Some(arguments.split(' ').map(str::to_owned).collect())
}

/// Hexadecimal UTF-8.
fn text(hexadecimal: &str) -> Option<String> {
    let digits = hexadecimal.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(pairs.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ufw 0.36.2 writes it.
    const USER_RULES: &str = "\
*filter
### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=726573637565
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow udp 51820 0.0.0.0/0 any 0.0.0.0/0 in comment=72656c617920776730
-A ufw-user-input -p udp --dport 51820 -j ACCEPT

### tuple ### allow udp 5353 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p udp --dport 5353 -j ACCEPT

### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_wg0!out_wg0 comment=72656c617920776730
-A ufw-user-forward -i wg0 -o wg0 -j ACCEPT

### tuple ### allow udp 51820 0.0.0.0/0 any 10.0.0.0/8 in comment=72656c617920776730
### tuple ### allow udp 1 0.0.0.0/0 any 0.0.0.0/0 in comment=zz
### END RULES ###
";

    #[test]
    fn rules_of_ours_are_found() {
        let both = format!("{USER_RULES}{}", USER_RULES.replace("0.0.0.0/0", "::/0"));
        let found: Vec<(String, String)> =
            parse(&both).into_iter().map(|rule| (rule.arguments.join(" "), rule.comment)).collect();
        let expected = [("allow 51820/udp", "relay wg0"), ("route allow in on wg0 out on wg0", "relay wg0")];
        assert_eq!(found, expected.map(|(rule, comment)| (rule.to_owned(), comment.to_owned())));
    }
}
