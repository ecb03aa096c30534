//! `relay import`: shows what becomes of somebody else's hub, and with `--apply` writes it. Never over what is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{print, print_json, surroundings};
use crate::{
    cli::{Files, ImportArgs},
    config::{file::Editing, host_and_port, secret},
    failure::Failure,
    import::{
        self,
        mapping::{self, Surroundings, map},
    },
};

/// Reads, decides, shows, and writes if told so.
///
/// # Errors
/// The source cannot be read or imported, or with `--apply` something of it exists already or cannot be written.
pub async fn run(files: &Files, args: &ImportArgs) -> Result<()> {
    if let Some(endpoint) = &args.endpoint {
        host_and_port(endpoint, 1).map_err(|error| Failure::refused(format!("--endpoint: {error}")))?;
    }
    if args.apply && files.config.symlink_metadata().is_ok() {
        return Err(exists(&files.config).into());
    }
    let found = import::read(&args.path)?;
    let networks = surroundings::networks().await?;
    let import = map(
        &found,
        &Surroundings {
            config: &files.config,
            networks: &networks,
            endpoint: args.endpoint.as_deref(),
            now: jiff::Timestamp::now(),
        },
    );
    drop(found);
    if args.json {
        print_json(&import.report)?;
    } else {
        print(&import::render(&import.report))?;
    }
    let Some(new) = &import.files else {
        let message = format!("{} cannot be imported; the reasons stand above", args.path.display());
        return Err(Failure::refused(message).into());
    };
    if args.apply {
        write(&files.config, new)?;
        eprintln!("wrote {}", files.config.display());
    } else {
        eprintln!("nothing was written; `--apply` writes it");
    }
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::refused(format!("{} exists already", path.display()))
        .hint("an existing configuration or key is never overwritten; `--config PATH` names another place")
}

/// Keys first, then the file that names them. If one cannot be written, those before it are taken back.
fn write(path: &Path, new: &mapping::Files) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    secret::create_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let editing = Editing::begin(path)?;
    if editing.exists() {
        return Err(exists(path).into());
    }
    let beside = |name: &str| editing.path().with_file_name(name);
    if let Some(there) =
        new.keys.iter().map(|key| beside(&key.name)).find(|path| path.symlink_metadata().is_ok())
    {
        return Err(exists(&there).into());
    }
    let mut written: Vec<PathBuf> = Vec::new();
    let outcome = (|| {
        for key in &new.keys {
            let path = beside(&key.name);
            secret::create(&path, &key.key)
                .with_context(|| format!("cannot write the key {}", path.display()))?;
            written.push(path);
        }
        editing.save(&new.text).map_err(anyhow::Error::from)
    })();
    if outcome.is_err() {
        for path in &written {
            if let Err(error) = std::fs::remove_file(path) {
                eprintln!("warning: cannot take {} back: {error}", path.display());
            }
        }
    }
    outcome
}
