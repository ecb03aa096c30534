//! The first configuration of a machine and the key that it names, for `relay init` and `relay join`.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::refused;
use crate::{
    config::{self, Config, HostNetwork, file::Editing, secret},
    desired::InterfaceName,
    failure::Failure,
    key::PrivateKey,
};

/// What is written, and where.
pub(super) struct First<'a> {
    /// relay.toml.
    pub(super) path: &'a Path,
    /// Whose key it is.
    pub(super) interface: &'a InterfaceName,
    /// The networks of this machine.
    pub(super) networks: &'a [HostNetwork],
    /// What the file says.
    pub(super) text: &'a str,
    /// What is told where that would be refused.
    pub(super) act: &'a str,
}

impl First<'_> {
    /// Writes both, unless a file is there: that is `taken`. Key first, then the file that names it: a power cut between
    /// leaves a key that the next attempt takes.
    ///
    /// # Errors
    /// There is a file; the text would be refused; a file cannot be written.
    pub(super) fn write(&self, taken: impl FnOnce() -> Failure) -> Result<Config> {
        let Self { path, interface, networks, text, act } = *self;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        secret::create_folder(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let editing = Editing::begin(path)?;
        if editing.exists() {
            return Err(taken().into());
        }
        let key_path = folder.join(format!("{interface}.key"));
        let refused = |errors| refused(act, &errors);
        let config = if key_path.symlink_metadata().is_ok() {
            eprintln!("taking the private key that is there, {}", key_path.display());
            config::parse(path, text, networks).map_err(refused)?
        } else {
            let key = PrivateKey::generate().context("cannot read /dev/urandom")?;
            let read = |_: &Path| Ok(secret::Secret { text: key.expose_base64(), mode: 0o600 });
            let config = config::parse_with(path, text, networks, &read).map_err(refused)?;
            secret::create(&key_path, &key.expose_base64())
                .with_context(|| format!("cannot write the private key {}", key_path.display()))?;
            eprintln!("made a private key, {}", key_path.display());
            config
        };
        editing.save(text)?;
        eprintln!("wrote {}", path.display());
        Ok(config)
    }
}
