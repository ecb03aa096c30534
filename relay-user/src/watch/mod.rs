//! `relay stats --watch`: the counters as they move. What is known ([`model`]), and how it looks ([`view`]).

pub mod model;
pub mod view;
