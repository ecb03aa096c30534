//! Any text as a relay.toml: refused with a line, or accepted and the same when written again.

#![no_main]

use std::path::Path;

use relay_user::{
    config::{Written, parse_with, secret::Secret},
    key::PrivateKey,
};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let path = Path::new("relay.toml");
    let read = |_: &Path| Ok(Secret { text: PrivateKey::new([7; 32]).expose_base64(), mode: 0o600 });
    match parse_with(path, text, &[], &read) {
        Ok(config) => {
            let again = config.written.to_toml().expect("it has a text");
            assert_eq!(Written::parse(path, &again).expect("its own text is understood"), config.written);
        }
        Err(errors) => {
            let lines = text.matches('\n').count() + 1;
            assert!(errors.as_slice().iter().all(|error| (1..=lines).contains(&error.line)), "{errors}");
        }
    }
});
