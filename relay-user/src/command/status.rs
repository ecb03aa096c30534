//! `relay status`: is it up, who carries it, is the fast path on, and if not, why.

use std::path::Path;

use crate::{control::client, table};

/// Prints the daemon's status.
///
/// # Errors
/// No daemon runs, or it does not answer.
pub async fn run(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status = client::status(socket).await?;
    if json { super::print_json(&status) } else { super::print(&table::status(&status, super::now())) }
}
