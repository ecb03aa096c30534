//! Preshared keys that relay makes: a file each beside the configuration, gone with its peer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    config::{Written, secret},
    file_name,
    key::PresharedKey,
};

/// What the names of their files end in.
const ENDING: &str = "psk";

/// A new one, whose file goes again unless it is kept.
pub(super) struct NewPreshared {
    path: PathBuf,
    name: String,
    kept: bool,
}

impl NewPreshared {
    /// In the folder of `config`, under a name after the peer's that no file has.
    pub(super) fn create(config: &Path, peer: &str) -> Result<Self> {
        let folder = config.parent().unwrap_or(Path::new(""));
        let path = |stem: &str| folder.join(stem).with_added_extension(ENDING);
        let name = file_name::free(peer, |stem| path(stem).symlink_metadata().is_ok());
        let path = path(&name);
        let key = PresharedKey::generate().context("cannot read /dev/urandom")?;
        secret::create(&path, &key.expose_base64())
            .with_context(|| format!("cannot write the preshared key {}", path.display()))?;
        Ok(Self { path, name: format!("{name}.{ENDING}"), kept: false })
    }

    /// As it stands in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// It is in use.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewPreshared {
    fn drop(&mut self) {
        if !self.kept {
            // Whatever went wrong before is what is told; a key that nobody uses harms nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the files of preshared keys that `old` names and `new` does not: those that stand beside the configuration and
/// are named as relay names them.
pub(super) fn forget_unused(config: &Path, old: &Written, new: &Written) {
    let names = |written: &Written| -> Vec<String> {
        let files = written.peers.iter().filter_map(|peer| peer.get_ref().preshared_key_file.as_ref());
        files.map(|file| file.get_ref().clone()).collect()
    };
    let in_use = names(new);
    for name in names(old).iter().filter(|name| !in_use.contains(name)) {
        let path = Path::new(name);
        let is_ours = path.file_name() == Some(path.as_os_str())
            && path.extension().is_some_and(|ending| ending == ENDING);
        if !is_ours {
            continue;
        }
        let path = config.with_file_name(name);
        match std::fs::remove_file(&path) {
            Ok(()) => eprintln!("removed the preshared key {}", path.display()),
            Err(error) => {
                eprintln!("warning: cannot remove {}, which is of no use any more: {error}", path.display());
            }
        }
    }
}
