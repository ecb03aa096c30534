//! The way of a packet through a base chain: every step that it may or must take.

use super::{
    packet::{Packet, Truth},
    ruleset::{Base, Chain, Hook, Part, Rule, Ruleset, Statement, Table},
};

/// The kernel refuses chains that jump deeper (`NFT_JUMP_STACK_SIZE` in include/net/netfilter/nf_tables.h).
const DEEPEST: usize = 16;

/// A base chain and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain<'a> {
    /// Its table.
    pub table: &'a Table,
    /// Its name.
    pub name: &'a str,
    /// Itself.
    pub chain: &'a Chain,
    /// What it hangs on.
    pub base: &'a Base,
}

/// The base chains that hang on these hooks, in the order in which a packet meets them.
#[must_use]
pub fn base_chains<'a>(ruleset: &'a Ruleset, hooks: &[Hook]) -> Vec<BaseChain<'a>> {
    let mut found: Vec<BaseChain<'a>> = ruleset
        .tables
        .iter()
        .flat_map(|table| table.chains.iter().map(move |(name, chain)| (table, name, chain)))
        .filter_map(|(table, name, chain)| {
            let base = chain.base.as_ref().filter(|base| hooks.contains(&base.hook))?;
            Some(BaseChain { table, name, chain, base })
        })
        .collect();
    found.sort_by_key(|chain| (chain.base.hook, chain.base.priority));
    found
}

/// One thing that happens, or may happen, to a packet in a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The chain it happens in.
    pub chain: &'a str,
    /// The rule that does it; `None` for the policy.
    pub rule: Option<&'a Rule>,
    /// What is done.
    pub act: Act,
    /// Whether it happens to some such packets or to all that came so far.
    pub truth: Truth,
}

/// What can happen to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Let through, as far as this base chain goes.
    Accepted,
    /// Dropped or rejected.
    Dropped,
    /// Changed, marked, translated, steered, or treated in a way not known here.
    Changed,
}

/// The steps of such a packet in a base chain, in order. The last is the one that every packet which came so far
/// meets: an accept, a drop, or the policy.
#[must_use]
pub fn walk<'a>(chain: &BaseChain<'a>, packet: &Packet<'_>) -> Vec<Step<'a>> {
    let mut walk = Walk { table: chain.table, packet, steps: Vec::new() };
    if walk.chain(chain.name, chain.chain, Truth::Always, 0) == Flow::Ended {
        return walk.steps;
    }
    let act = if chain.base.drops { Act::Dropped } else { Act::Accepted };
    walk.steps.push(Step { chain: chain.name, rule: None, act, truth: Truth::Always });
    walk.steps
}

struct Walk<'a, 'p> {
    table: &'a Table,
    packet: &'p Packet<'p>,
    steps: Vec<Step<'a>>,
}

/// Whether any packet goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// To the next rule.
    On,
    /// All leave this chain.
    Left,
    /// Some leave this chain.
    SomeLeft,
    /// None goes on anywhere: this base chain is through with them.
    Ended,
}

impl<'a> Walk<'a, '_> {
    /// Passes a chain; `truth` says whether all packets come here. Returns `On` or `Ended`.
    fn chain(&mut self, name: &'a str, chain: &'a Chain, truth: Truth, depth: usize) -> Flow {
        let (mut truth, mut some_left) = (truth, false);
        for rule in &chain.rules {
            for parts in &rule.variants {
                match self.rule(name, rule, parts, truth, depth) {
                    Flow::On => {}
                    Flow::SomeLeft => (truth, some_left) = (Truth::Maybe, true),
                    Flow::Left => return Flow::On,
                    // Those that left before are still under way.
                    Flow::Ended => return if some_left { Flow::On } else { Flow::Ended },
                }
            }
        }
        Flow::On
    }

    fn rule(
        &mut self,
        chain: &'a str,
        rule: &'a Rule,
        parts: &'a [Part],
        reached: Truth,
        depth: usize,
    ) -> Flow {
        // Whether all packets that reach this rule come so far in it.
        let mut holds = Truth::Always;
        for part in parts {
            let statement = match part {
                Part::Match(condition) => {
                    holds = holds.min(self.packet.satisfies(condition));
                    if holds == Truth::Never {
                        return Flow::On;
                    }
                    continue;
                }
                Part::Do(statement) => statement,
            };
            let truth = reached.min(holds);
            let mut step = |act| self.steps.push(Step { chain, rule: Some(rule), act, truth });
            let flow = match statement {
                Statement::Harmless => Flow::On,
                Statement::Accept => {
                    step(Act::Accepted);
                    Flow::Ended
                }
                Statement::Drop => {
                    step(Act::Dropped);
                    Flow::Ended
                }
                Statement::Changes => {
                    step(Act::Changed);
                    Flow::On
                }
                Statement::Return => Flow::Left,
                Statement::Jump(target) | Statement::Goto(target) => {
                    match self.table.chains.get_key_value(target) {
                        Some((name, inner)) if depth < DEEPEST => {
                            match (self.chain(name, inner, truth, depth + 1), statement) {
                                (Flow::Ended, _) => Flow::Ended,
                                (_, Statement::Goto(_)) => Flow::Left,
                                _ => Flow::On,
                            }
                        }
                        // A target of iptables that is no chain, or a loop that no kernel would take.
                        _ => {
                            step(Act::Changed);
                            Flow::On
                        }
                    }
                }
            };
            match (flow, holds) {
                (Flow::On, _) => {}
                (flow, Truth::Always) => return flow,
                (Flow::Left | Flow::SomeLeft, _) => return Flow::SomeLeft,
                (Flow::Ended, _) => return Flow::On,
            }
        }
        Flow::On
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            iptables_save::parse,
            packet::{Interface, Version},
            ruleset::{Family, Source},
        },
        *,
    };

    /// The steps of a packet from wg0 to wg0 through FORWARD, each as `Dropped`, or `Dropped?` if only some are.
    fn steps(rules: &str) -> String {
        let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n{rules}COMMIT\n");
        let tables = parse(&text, Family::Ip, Source::IptablesLegacy);
        let ruleset = Ruleset { tables, ..Ruleset::default() };
        let packet = Packet {
            version: Version::V4,
            input: Interface::Named("wg0"),
            output: Interface::Named("wg0"),
            from: None,
            to: None,
            to_host: false,
            protocol: None,
            destination_port: None,
            state: None,
        };
        let chains = base_chains(&ruleset, &[Hook::Forward]);
        let word =
            |step: Step<'_>| format!("{:?}{}", step.act, if step.truth == Truth::Maybe { "?" } else { "" });
        walk(&chains[0], &packet).into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn verdicts_jumps_and_returns() {
        for (rules, expected) in [
            ("", "Accepted"),
            ("-A FORWARD -j DROP\n-A FORWARD -j ACCEPT\n", "Dropped"),
            ("-A FORWARD -i eth0 -j DROP\n", "Accepted"),
            ("-A FORWARD -p tcp -j DROP\n", "Dropped? Accepted"),
            ("-A FORWARD -i wg0 -j ACCEPT\n-A FORWARD -j DROP\n", "Accepted"),
            ("-A FORWARD -p tcp -j ACCEPT\n-A FORWARD -j DROP\n", "Accepted? Dropped"),
            ("-A FORWARD -j LOG\n-A FORWARD -j MARK --set-xmark 0x1/0xff\n", "Changed Accepted"),
            // Into a chain and back, for all and for some.
            ("-A FORWARD -j a\n-A a -j RETURN\n-A a -j DROP\n", "Accepted"),
            ("-A FORWARD -j a\n-A a -j DROP\n", "Dropped"),
            ("-A FORWARD -p tcp -j a\n-A a -j DROP\n", "Dropped? Accepted"),
            ("-A FORWARD -j a\n-A a -j b\n-A b -j RETURN\n-A a -j DROP\n", "Dropped"),
            // Some return: what follows in the chain is for the others, what follows behind it for all.
            (
                "-A FORWARD -j a\n-A FORWARD -j DROP\n-A a -p tcp -j RETURN\n-A a -j ACCEPT\n",
                "Accepted? Dropped",
            ),
            ("-A FORWARD -p tcp -j RETURN\n-A FORWARD -j DROP\n", "Dropped? Accepted"),
            // goto does not come back to its own chain.
            ("-A FORWARD -g a\n-A FORWARD -j DROP\n", "Accepted"),
            ("-A FORWARD -j a\n-A FORWARD -j MARK\n-A a -g b\n-A a -j DROP\n", "Changed Accepted"),
            ("-A FORWARD -p tcp -g a\n-A FORWARD -j DROP\n", "Dropped? Accepted"),
            // A loop, which no kernel takes, ends.
            ("-A FORWARD -j a\n-A a -j a\n", "Changed Accepted"),
        ] {
            assert_eq!(steps(rules), expected, "{rules}");
        }
    }
}
