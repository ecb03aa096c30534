//! Every program loads, and costs the verifier what it is known to cost on the kernels that are promised.
//!
//! The verifier gives up at a million instructions, and how many a program costs it differs between kernels; a change
//! that doubles them is one to think about before it meets a limit.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use aya::EbpfLoader;
use aya::programs::Program;
use relay_tests::guest::{self, fact, kernel_version, skip};
use relay_user::kernel::datapath::EMBEDDED;
use serde_json::json;

/// Instructions verified: kernel line, program, how many. Taken from the table that `cargo xtask test vm` prints; to be
/// written anew when a change of the program is meant to cost what it costs. 6.18 is a developer's kernel.
const KNOWN: [(&str, &str, u32); 6] = [
    ("6.1", "tunnel", 8162),
    ("6.1", "uplink", 7619),
    ("6.12", "tunnel", 3818),
    ("6.12", "uplink", 7327),
    ("6.18", "tunnel", 3810),
    ("6.18", "uplink", 7313),
];

/// A change by this factor, up or down, asks for a new number in [`KNOWN`].
const FACTOR: u32 = 2;

#[test]
fn every_program_loads_and_costs_what_is_known() -> Result<()> {
    let verified = verify()?;
    for (name, instructions) in &verified {
        fact(&json!({"program": name, "verified instructions": instructions}));
    }
    let (major, minor) = kernel_version();
    let line = format!("{major}.{minor}");
    let known: BTreeMap<_, _> =
        KNOWN.iter().filter(|(of, ..)| *of == line).map(|(_, name, n)| ((*name).to_owned(), *n)).collect();
    if known.is_empty() {
        ensure!(guest::line().is_none(), "no numbers are known for {line}, which is promised");
        skip(&format!("every program loads; no numbers are known for {line}"));
        return Ok(());
    }
    ensure!(known.keys().eq(verified.keys()), "known are {known:?}, verified were {verified:?}");
    for (name, &expected) in &known {
        let found = verified[name];
        ensure!(
            found < expected * FACTOR && found * FACTOR > expected,
            "{name} costs the verifier {found} instructions on {line}; {expected} are known"
        );
    }
    Ok(())
}

/// Loads every program of the embedded object; gives the instructions that the verifier looked at.
fn verify() -> Result<BTreeMap<String, u32>> {
    ensure!(!EMBEDDED.is_empty(), "this build has no eBPF object: `cargo xtask test` builds one");
    let mut ebpf = EbpfLoader::new().load(EMBEDDED).context("reading the object")?;
    let mut verified = BTreeMap::new();
    for (name, program) in ebpf.programs_mut() {
        let act = || format!("loading {name}");
        let info = match program {
            Program::SchedClassifier(program) => {
                program.load().with_context(act)?;
                program.info()
            }
            Program::Xdp(program) => {
                program.load().with_context(act)?;
                program.info()
            }
            _ => bail!("{name} is of a kind that this test does not know"),
        };
        let instructions = info.with_context(act)?.verified_instruction_count();
        verified
            .insert(name.to_owned(), instructions.context("the kernel does not tell (it came with 5.16)")?);
    }
    ensure!(!verified.is_empty(), "the object holds no program");
    Ok(verified)
}
