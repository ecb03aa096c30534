//! Any bytes as a wg-easy.db.

#![no_main]

#[path = "../../relay-user/tests/import/invariants.rs"]
mod invariants;

use std::io::Write as _;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(bytes).expect("write");
    if let Ok(found) = relay_user::import::wg_easy15::read(file.path(), None) {
        invariants::holds(&found, "");
    }
});
