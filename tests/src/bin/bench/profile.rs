//! Where a kernel spends its instructions: samples by function, and functions by what they are for.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What functions are for, by how their names begin; the first that fits.
const PURPOSES: [(&str, &[&str]); 9] = [
    (
        "crypto",
        &["chacha", "poly1305", "hchacha", "crypto_xor", "crypto_", "scatterwalk", "blake2", "curve25519"],
    ),
    (
        "WireGuard",
        &["wg_", "decrypt_packet", "encrypt_packet", "counter_", "keep_key", "prev_queue", "packet_"],
    ),
    (
        "work queues, scheduling",
        &[
            "queue_work",
            "__queue_work",
            "insert_work",
            "process_",
            "worker",
            "kick_pool",
            "schedule",
            "__schedule",
            "pick_",
            "put_prev",
            "set_next",
            "enqueue_",
            "dequeue_",
            "update_",
            "try_to_wake",
            "ttwu",
            "wake_up",
            "__wake",
            "finish_task",
            "__switch",
            "place_",
            "check_preempt",
            "wakeup_",
            "sched_",
            "native_sched",
            "reweight",
            "avg_",
            "__update",
            "prepare_task",
            "resched",
            "wq_",
            "pwq_",
            "set_work",
            "select_task",
            "activate_",
            "available_idle",
            "psi_",
            "dl_",
            "rcu_note",
            "__cond_resched",
            "kthread",
            "entity_",
        ],
    ),
    (
        "netfilter, conntrack",
        &[
            "nf_",
            "nft_",
            "__nf_",
            "ipv4_conntrack",
            "ipv6_conntrack",
            "tcp_in_window",
            "hash_conntrack",
            "resolve_",
            "get_l4proto",
            "udp_error",
            "__local_bh_enable_ip_nf",
            "ipt_",
            "ip6t_",
            "xt_",
            "conntrack",
            "iptable_",
        ],
    ),
    (
        "relay's program",
        &[
            "bpf_prog_",
            "tcf_",
            "tcx_",
            "cls_bpf",
            "tc_",
            "bpf_redirect",
            "skb_do_redirect",
            "__bpf_redirect",
            "htab_",
            "__htab",
            "array_map",
            "percpu_array",
            "trie_",
            "bpf_skb_check_mtu",
            "bpf_check_mtu",
            "lookup_nulls",
            "lookup_elem_raw",
            "sch_handle",
            "bpf_skb",
        ],
    ),
    (
        "IP, UDP, routing",
        &[
            "ip_",
            "__ip_",
            "ipv4_",
            "ip6_",
            "ipv6_",
            "udp",
            "__udp",
            "fib_",
            "inet_",
            "iptunnel",
            "rt_",
            "dst_",
            "__mkroute",
            "neigh",
            "__neigh",
            "tcp4_",
            "tcp_gro",
            "tcp_gso",
            "find_exception",
            "arp_",
            "icmp",
            "raw_",
            "sk_",
            "__fib",
            "nexthop",
        ],
    ),
    (
        "memory, buffers",
        &[
            "skb_",
            "__skb",
            "kmem_",
            "kfree",
            "kmalloc",
            "__kmalloc",
            "___slab",
            "__slab",
            "slab_",
            "alloc_",
            "__alloc",
            "page_",
            "__page",
            "free_",
            "__free",
            "mem",
            "__mem",
            "consume_skb",
            "napi_skb",
            "__napi_alloc",
            "build_skb",
            "__build_skb",
            "pskb_",
            "get_page",
            "rmqueue",
            "__rmqueue",
            "should_fail",
            "cache_",
            "refill",
            "clear_page",
            "put_page",
            "___cache",
            "__get_page",
            "copy_",
        ],
    ),
    (
        "the source and the cable",
        &["veth", "xdp_", "__xdp", "bpf_test", "bpf_xdp", "eth_type", "dev_map", "bq_"],
    ),
    (
        "devices, softirq, timers",
        &[
            "netif_",
            "__netif",
            "dev_",
            "__dev",
            "net_",
            "__net",
            "napi_",
            "gro_",
            "process_backlog",
            "handle_softirqs",
            "__do_softirq",
            "do_softirq",
            "__local_bh",
            "enqueue_to_backlog",
            "inet_gro",
            "validate_xmit",
            "noop_",
            "ktime",
            "mod_timer",
            "__mod_timer",
            "timer",
            "hrtimer",
            "tick_",
            "lock_timer",
            "_raw_spin",
            "__raw_spin",
            "native_queued",
            "raise_softirq",
            "__raise",
        ],
    ),
];

/// For functions of no known purpose, and for programs.
const OTHERS: &str = "everything else";

/// Where a processor has nothing to do: before the first packet and after the last one.
const IDLE: [&str; 5] = ["pv_native_safe_halt", "native_safe_halt", "default_idle", "cpuidle", "do_idle"];

/// Shares by purpose, and the functions that take most.
pub(crate) fn read(samples: &[(u64, u64)]) -> Result<Value> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?;
    let symbols = Symbols::parse(&symbols);
    let busy = |(at, _): &&(u64, u64)| !IDLE.iter().any(|idle| symbols.name(*at).starts_with(idle));
    let samples: Vec<(u64, u64)> = samples.iter().filter(busy).copied().collect();
    let all: u64 = samples.iter().map(|(_, times)| times).sum();
    let (mut purposes, mut functions) = (BTreeMap::new(), BTreeMap::new());
    for (at, times) in &samples {
        let name = symbols.name(*at);
        *purposes.entry(purpose(name)).or_insert(0) += times;
        *functions.entry(name).or_insert(0) += times;
    }
    let share = |times: u64| (times as f64 / all.max(1) as f64 * 10_000.0).round() / 10_000.0;
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    functions.truncate(40);
    Ok(json!({
        "samples": all,
        "purposes": purposes.into_iter().map(|(name, times)| json!({ "name": name, "share": share(times) })).collect::<Vec<_>>(),
        "functions": functions.into_iter()
            .map(|(name, times)| json!({ "name": name, "purpose": purpose(name), "share": share(times) }))
            .collect::<Vec<_>>(),
    }))
}

fn purpose(function: &str) -> &'static str {
    let fits = |beginnings: &[&str]| beginnings.iter().any(|beginning| function.starts_with(beginning));
    PURPOSES.iter().find(|(_, beginnings)| fits(beginnings)).map_or(OTHERS, |(name, _)| name)
}

/// The kernel's functions by where they begin.
struct Symbols<'a>(BTreeMap<u64, &'a str>);

impl<'a> Symbols<'a> {
    fn parse(text: &'a str) -> Self {
        let line = |line: &'a str| {
            let mut words = line.split_whitespace();
            let at = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().filter(|kind| kind.eq_ignore_ascii_case("t"))?;
            Some((at, words.next()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn name(&self, at: u64) -> &'a str {
        // What is not in the upper half is no kernel.
        if at >> 63 == 0 {
            return "(a program)";
        }
        self.0.range(..=at).next_back().map_or("(unknown)", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_goes_to_the_next_one() {
        let text = "ffffffff81000000 T wg_xmit\nffffffff81000100 t chacha20_simd\t[chacha]\nffffffff81000080 D data\n";
        let symbols = Symbols::parse(text);
        assert_eq!(symbols.name(0xffff_ffff_8100_00ff), "wg_xmit");
        assert_eq!(symbols.name(0xffff_ffff_8100_0100), "chacha20_simd");
        assert_eq!(symbols.name(0x40_0000), "(a program)");
        assert_eq!(
            [purpose("wg_xmit"), purpose("chacha20_simd"), purpose("foo")],
            ["WireGuard", "crypto", OTHERS]
        );
    }
}
