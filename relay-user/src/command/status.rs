//! `relay status`: is it up, who carries it, is the fast path on, and if not, why.

use std::path::Path;

use crate::{adopt::Options, control::client, report::Status, table};

/// Prints the daemon's status.
///
/// # Errors
/// No daemon runs, or it does not answer.
pub async fn run(socket: &Path, json: bool) -> anyhow::Result<()> {
    show(&client::status(socket).await?, json)
}

/// Prints how an adopted interface is.
///
/// # Errors
/// Nobody keeps it adopted, or does not answer.
pub async fn of_adopted(options: &Options, json: bool) -> anyhow::Result<()> {
    let status = client::status(&options.socket).await;
    let status = status.map_err(|error| super::not_adopted(error, &options.place))?;
    super::is_of(&status, options)?;
    show(&status, json)
}

fn show(status: &Status, json: bool) -> anyhow::Result<()> {
    if json { super::print_json(status) } else { super::print(&table::status(status, super::now())) }
}
