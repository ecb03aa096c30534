//! Any text as a wg-quick file.

#![no_main]

#[path = "../../relay-user/tests/import/invariants.rs"]
mod invariants;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    invariants::holds(&relay_user::import::wg_quick::parse(Path::new("wg0.conf"), text, "wg0"), text);
});
