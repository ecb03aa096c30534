//! Any text as wg0.json; what follows a NUL is the wg0.conf beside it.

#![no_main]

#[path = "../../relay-user/tests/import/invariants.rs"]
mod invariants;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (json, conf) = match text.split_once('\0') {
        Some((json, conf)) => (json, Some((Path::new("wg0.conf"), conf))),
        None => (text, None),
    };
    invariants::holds(&relay_user::import::wg_easy14::parse(Path::new("wg0.json"), json, conf), text);
});
