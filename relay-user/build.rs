//! Embeds the eBPF object that `cargo xtask` built, or an empty one where there is none.
//!
//! An empty object keeps `cargo check`, clippy and the unit tests free of any eBPF toolchain; whoever then wants to load
//! it gets an error that names the remedy.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=RELAY_BPF_DIR");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("relay.bpf.o");
    let Some(folder) = env::var_os("RELAY_BPF_DIR").map(PathBuf::from) else {
        fs::write(out, []).expect("OUT_DIR is writable");
        return;
    };
    let object = folder.join(format!("{}.bpf.o", name()));
    match fs::read(&object) {
        Ok(bytes) => {
            println!("cargo::rerun-if-changed={}", object.display());
            fs::write(out, bytes).expect("OUT_DIR is writable");
        }
        Err(_) => {
            // A missing file would make cargo run this again on every build; its folder does so once, when it appears.
            fs::create_dir_all(&folder).expect("RELAY_BPF_DIR can be made");
            println!("cargo::rerun-if-changed={}", folder.display());
            fs::write(out, []).expect("OUT_DIR is writable");
        }
    }
}

/// Whose object it is: relay's, or that of a relay which tests upgrade to.
fn name() -> &'static str {
    let set = |feature| env::var_os(feature).is_some();
    match (set("CARGO_FEATURE_NEXT_LAYOUT"), set("CARGO_FEATURE_NEXT_PROGRAM")) {
        (true, _) => "next-layout",
        (_, true) => "next-program",
        _ => "relay",
    }
}
