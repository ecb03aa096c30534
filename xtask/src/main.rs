//! Verbs for people who work on relay.
fn main() {}
