//! The laboratory.

pub mod tunnel;
