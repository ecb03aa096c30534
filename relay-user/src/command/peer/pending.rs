//! Invitations that nobody has answered yet: a file each, beside the configuration, which only its owner may read.
//!
//! Whoever changes them holds the lock of the configuration ([`crate::config::file::Editing`]).

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::{PeerWritten, secret},
    desired::PeerName,
    file_name,
    invitation::Token,
    key::{PrivateKey, PublicKey},
};

/// The folder beside the configuration.
const FOLDER: &str = "invitations";
/// What the names of the files end in.
const ENDING: &str = "toml";

/// What is kept for a home until it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    /// What it will be called.
    pub(super) name: PeerName,
    /// Its addresses, which nobody else gets.
    pub(super) addresses: Vec<IpAddr>,
    /// The networks behind it.
    pub(super) lans: Vec<IpNet>,
    /// RFC 3339; from then on it is void.
    pub(super) expires: String,
    /// What the answer must bring.
    pub(super) token: Token,
}

impl Pending {
    /// Whether its time is over. What nobody can read has none.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.parse::<Timestamp>().is_ok_and(|moment| moment <= now)
    }

    /// The `[[peer]]` that it becomes.
    pub(super) fn peer(&self, public_key: &PublicKey) -> PeerWritten {
        super::add::plain(self.name.as_str(), public_key, &self.addresses, &self.lans)
    }

    /// The same with a key that nobody has, to judge whether there is room for it.
    pub(super) fn placeholder(&self) -> Result<PeerWritten> {
        let key = PrivateKey::generate().context("cannot read /dev/urandom")?;
        Ok(self.peer(&key.public_key()))
    }
}

/// Those of one configuration.
pub(super) struct Invitations {
    folder: PathBuf,
    list: Vec<(PathBuf, Pending)>,
}

impl Invitations {
    /// Reads those beside the configuration at `config`.
    pub(super) fn read(config: &Path) -> Result<Self> {
        let folder = config.parent().unwrap_or(Path::new("")).join(FOLDER);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { folder, list: Vec::new() });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        let mut list = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the invitation {}", path.display()))?;
            let pending: Pending = toml::from_str(&text)
                .map_err(|error| anyhow::anyhow!("{}", error.message()))
                .with_context(|| format!("the invitation {} cannot be understood", path.display()))?;
            list.push((path, pending));
        }
        list.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        Ok(Self { folder, list })
    }

    /// Those that can still be answered.
    pub(super) fn open(&self, now: Timestamp) -> impl Iterator<Item = &Pending> {
        self.list.iter().map(|(_, pending)| pending).filter(move |pending| !pending.has_expired(now))
    }

    /// The one of that name, expired or not.
    pub(super) fn of(&self, name: &str) -> Option<&Pending> {
        self.list.iter().map(|(_, pending)| pending).find(|pending| pending.name.as_str() == name)
    }

    /// Keeps a new one.
    pub(super) fn add(&self, pending: &Pending) -> Result<()> {
        secret::create_folder(&self.folder)
            .with_context(|| format!("cannot make the folder {}", self.folder.display()))?;
        let path = |stem: &str| self.folder.join(stem).with_added_extension(ENDING);
        let stem = file_name::free(pending.name.as_str(), |stem| path(stem).symlink_metadata().is_ok());
        let path = path(&stem);
        let text = toml_edit::ser::to_string(pending).context("writing the invitation as TOML")?;
        secret::create(&path, text.trim_end())
            .with_context(|| format!("cannot write the invitation {}", path.display()))
    }

    /// Forgets the one of that name; says whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool> {
        self.remove_those(|pending| pending.name.as_str() == name)
    }

    /// Forgets those whose time is over.
    pub(super) fn remove_expired(&self, now: Timestamp) -> Result<()> {
        self.remove_those(|pending| pending.has_expired(now)).map(drop)
    }

    fn remove_those(&self, chosen: impl Fn(&Pending) -> bool) -> Result<bool> {
        let mut any = false;
        for (path, _) in self.list.iter().filter(|(_, pending)| chosen(pending)) {
            std::fs::remove_file(path)
                .with_context(|| format!("cannot remove the invitation {}", path.display()))?;
            any = true;
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn pending(name: &str, expires: &str) -> Pending {
        Pending {
            name: name.parse().expect("name"),
            addresses: vec!["10.9.0.2".parse().expect("ip")],
            lans: vec!["192.168.40.0/24".parse().expect("net")],
            expires: expires.to_owned(),
            token: Token::generate().expect("token"),
        }
    }

    #[test]
    fn kept_private_found_again_and_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let config = folder.path().join("relay.toml");
        let read = || Invitations::read(&config).expect("read");
        let (home, old) =
            (pending("home/1", "2026-02-01T00:00:00Z"), pending("home:1", "2026-01-01T00:00:00Z"));
        for one in [&home, &old] {
            read().add(one).expect("add");
        }
        for entry in folder.path().join(FOLDER).read_dir().expect("folder") {
            assert_eq!(entry.expect("entry").metadata().expect("metadata").mode() & 0o777, 0o600);
        }
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("moment");
        assert_eq!(read().open(now).collect::<Vec<_>>(), [&home], "expired from the very moment on");
        assert_eq!(read().of("home:1"), Some(&old));
        read().remove_expired(now).expect("remove");
        assert_eq!(read().of("home:1"), None);
        assert!(read().remove("home/1").expect("remove") && !read().remove("home/1").expect("nothing"));
    }

    #[test]
    fn one_that_is_broken_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join(FOLDER)).expect("folder");
        std::fs::write(folder.path().join(FOLDER).join("home.toml"), "name = 1").expect("write");
        let error = Invitations::read(&folder.path().join("relay.toml")).err().expect("refused");
        assert!(format!("{error:#}").contains("home.toml"), "{error:#}");
    }
}
