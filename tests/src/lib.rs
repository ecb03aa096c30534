//! The laboratory: machines made of namespaces, and what tests do with them.

pub mod netns;
pub mod tunnel;
