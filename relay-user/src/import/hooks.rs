//! What the commands of PostUp and PostDown are for, and who does that with relay. They are read, never run.

use super::{found::Hook, sentence::shown};

/// One command of a hook and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) command: String,
    pub(super) meaning: Meaning,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Lets peers use the internet by the hub's address.
    Masquerade,
    /// Lets packets of the tunnel be forwarded.
    Forward,
    /// Lets peers dial the hub.
    ListenPort,
    /// Turns forwarding on.
    Sysctl,
    /// Fits TCP to the tunnel's MTU.
    Mss,
    /// Takes away what another hook put there.
    Undo,
    /// Something else.
    Unknown,
}

impl Meaning {
    /// In a sentence.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Masquerade => {
                "gives peers the internet by this host's address: relay does that for peers with `full_tunnel = true`"
            }
            Self::Forward => {
                "lets the tunnel's packets be forwarded: relay does that, and `relay status` says if this host's firewall stops them"
            }
            Self::ListenPort => {
                "lets peers dial the hub: `relay status` says if this host's firewall stops them, `[firewall] manage = true` opens it"
            }
            Self::Sysctl => "turns forwarding on: relay does that",
            Self::Mss => "fits TCP to the tunnel: relay does that",
            Self::Undo => {
                "takes away what another hook put there: `relay down` takes away what relay put there"
            }
            Self::Unknown => "is not carried over: if it is still needed, it has to be done by other means",
        }
    }
}

/// The commands of a hook's line, one by one.
pub(super) fn explain(hook: &Hook, interface: &str) -> Vec<Explained> {
    let commands = commands(&hook.command).into_iter().map(str::trim).filter(|command| !command.is_empty());
    commands
        .map(|command| Explained { command: shown(command), meaning: meaning(command, interface) })
        .collect()
}

/// Cut at `;`, `&&`, `||` and line breaks outside of quotes.
fn commands(line: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quote) = (Vec::new(), 0, None);
    let mut characters = line.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some(open), _) => quote = Some(open).filter(|open| *open != c),
            (None, '"' | '\'') => quote = Some(c),
            (None, ';' | '\n') => {
                parts.push(&line[begin..at]);
                begin = at + 1;
            }
            (None, '&' | '|') if characters.peek().is_some_and(|(_, next)| *next == c) => {
                parts.push(&line[begin..at]);
                characters.next();
                begin = at + 2;
            }
            _ => {}
        }
    }
    parts.push(&line[begin..]);
    parts
}

fn meaning(command: &str, interface: &str) -> Meaning {
    let words: Vec<&str> = command.split_whitespace().skip_while(|word| *word == "sudo").collect();
    let has = |word: &str| words.contains(&word);
    let value = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(word))?;
        words.get(at + 1).map(|word| word.trim_matches(['"', '\'']))
    };
    let program = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    if program.starts_with("iptables") || program.starts_with("ip6tables") {
        let device = value(&["-o", "--out-interface"]);
        return rule(
            value(&["-A", "-I", "--append", "--insert"]),
            value(&["-j", "--jump"]),
            has("-D") || has("--delete"),
            device.is_some_and(|device| device == "%i" || device == interface),
            has("udp"),
        );
    }
    match program {
        "nft" if has("delete") || has("flush") => Meaning::Undo,
        "nft" if has("masquerade") => Meaning::Masquerade,
        "ufw" if has("delete") => Meaning::Undo,
        "ufw" if has("route") && has("allow") => Meaning::Forward,
        "ufw" if has("allow") && command.contains("/udp") => Meaning::ListenPort,
        "sysctl" if forwards(command) && command.trim_end().ends_with('1') => Meaning::Sysctl,
        "echo" if command.contains('>') && forwards(command) && words.get(1) == Some(&"1") => Meaning::Sysctl,
        _ => Meaning::Unknown,
    }
}

/// A rule of iptables: the chain it is added to, its target, and what tells it from others like it.
fn rule(chain: Option<&str>, target: Option<&str>, deletes: bool, into_tunnel: bool, udp: bool) -> Meaning {
    match (chain, target) {
        _ if deletes => Meaning::Undo,
        (Some("POSTROUTING"), Some("MASQUERADE" | "SNAT")) if !into_tunnel => Meaning::Masquerade,
        (Some(_), Some("TCPMSS")) => Meaning::Mss,
        (Some("FORWARD"), Some("ACCEPT")) => Meaning::Forward,
        (Some("INPUT"), Some("ACCEPT")) if udp => Meaning::ListenPort,
        _ => Meaning::Unknown,
    }
}

fn forwards(command: &str) -> bool {
    ["ip_forward", "conf.all.forwarding", "conf/all/forwarding"].iter().any(|name| command.contains(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::import::Place;

    #[test]
    fn what_people_write() {
        use Meaning::*;
        for (command, expected) in [
            ("iptables -t nat -A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE", Masquerade),
            (
                "/usr/sbin/ip6tables -w -t nat -I POSTROUTING -o ens3 -j SNAT --to-source 192.0.2.1",
                Masquerade,
            ),
            ("iptables -t nat -A POSTROUTING -o %i -j MASQUERADE", Unknown),
            ("iptables -t nat -A POSTROUTING -o wg0 -j MASQUERADE", Unknown),
            ("iptables -t nat -A POSTROUTING -d 192.168.40.0/24 -o eth0 -j MASQUERADE", Masquerade),
            ("iptables -t nat -D POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE", Undo),
            ("iptables -A FORWARD -i %i -j ACCEPT", Forward),
            ("iptables -A FORWARD -o wg0 -m state --state RELATED,ESTABLISHED -j ACCEPT", Forward),
            ("iptables -A FORWARD -i wg0 -o wg0 -j REJECT", Unknown),
            ("iptables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT", ListenPort),
            ("iptables -A INPUT -p tcp --dport 22 -j ACCEPT", Unknown),
            (
                "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
                Mss,
            ),
            ("sysctl -w net.ipv4.ip_forward=1", Sysctl),
            ("sysctl -w net.ipv4.ip_forward=0", Unknown),
            ("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding", Sysctl),
            ("nft add rule ip nat postrouting oifname eth0 masquerade", Masquerade),
            ("nft delete table ip nat", Undo),
            ("ufw route allow in on wg0 out on eth0", Forward),
            ("ufw allow 51820/udp", ListenPort),
            ("curl https://example.net/up", Unknown),
            ("iptables", Unknown),
        ] {
            assert_eq!(meaning(command, "wg0"), expected, "{command}");
        }
    }

    #[test]
    fn a_line_is_cut_into_its_commands() {
        let line = "a && b; echo 'x; y' || c; ;";
        let hook = Hook { place: Place::whole(Path::new("x")), when: "PostUp", command: line.to_owned() };
        let commands: Vec<String> = explain(&hook, "wg0").into_iter().map(|each| each.command).collect();
        assert_eq!(commands, ["a", "b", "echo 'x; y'", "c"]);
    }
}
