//! `relay metrics`: what Prometheus would get.

use std::path::Path;

use crate::{adopt::Options, control::client};

/// Prints the hub's, or those of an adopted interface.
///
/// # Errors
/// No daemon runs, or it does not answer.
pub async fn run(socket: &Path, adopted: Option<&Options>) -> anyhow::Result<()> {
    let Some(adopted) = adopted else { return super::print(&client::metrics(socket).await?) };
    super::keeps(adopted).await?;
    let metrics = client::metrics(&adopted.socket).await;
    super::print(&metrics.map_err(|error| super::not_adopted(error, &adopted.place))?)
}
