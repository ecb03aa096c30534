//! `relay metrics`: what Prometheus would get.

use std::path::Path;

use crate::control::client;

/// Prints it.
///
/// # Errors
/// No daemon runs, or it does not answer.
pub async fn run(socket: &Path) -> anyhow::Result<()> {
    super::print(&client::metrics(socket).await?)
}
