//! Moving in from wg-quick, wg-easy 14 and wg-easy 15.
//!
//! Three stages. Each format has a parser of its own that reads what is [`found`], with the place of everything it
//! could not read. [`mapping`] makes of that a relay.toml, the keys to store beside it and a [`report`], and does no
//! I/O. Who writes them is [`crate::command::import`]. [`source`] alone reads files; nothing in a source is executed,
//! and the private keys of clients are not even read.

mod amnezia;
mod comments;
pub mod found;
mod hooks;
mod json_field;
mod lines;
pub mod mapping;
pub mod report;
mod sentence;
pub mod source;
mod sqlite;
mod text;
pub mod wg_easy14;
pub mod wg_easy15;
pub mod wg_quick;

pub use self::{
    found::{At, Found, Place},
    source::{ReadError, read},
    text::render,
};
