//! Where things are: the paths that every verb is given, so that none of them looks around on its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// Paths of this checkout, and how to call cargo in it.
pub(crate) struct Env {
    /// The workspace's root.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Where eBPF objects go: `RELAY_BPF_DIR` of `.cargo/config.toml`, which relay-user's build script reads too.
    pub(crate) bpf: PathBuf,
    /// Tools that `setup` builds for itself.
    pub(crate) tools: PathBuf,
}

/// The two ways cargo builds the host's crates here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Dev,
    /// For tests of another architecture.
    Foreign,
    /// For users.
    Release,
}

impl Profile {
    /// cargo's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Foreign => "foreign",
            Self::Release => "release",
        }
    }

    /// The folder under the target folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Foreign | Self::Release => self.name(),
        }
    }
}

impl Env {
    /// Finds the checkout this xtask was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask stands in no workspace")?
            .to_path_buf();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let bpf = env::var_os("RELAY_BPF_DIR").map_or_else(|| root.join("target/bpf"), |dir| root.join(dir));
        let tools = target.join("tools");
        Ok(Self { root, target, bpf, tools })
    }

    /// A cargo command in the workspace's root, for the host, free of what the cargo that started us set for us.
    pub(crate) fn cargo(&self) -> Command {
        self.cargo_at(&env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from))
    }

    /// The same with a cargo of choice.
    pub(crate) fn cargo_at(&self, cargo: &Path) -> Command {
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text == "LD_LIBRARY_PATH"
            {
                command.env_remove(&name);
            }
        }
        command.env("RELAY_BPF_DIR", &self.bpf);
        command
    }

    /// The gotatun that `setup` builds for tests.
    pub(crate) fn gotatun(&self) -> PathBuf {
        self.tools.join("bin/gotatun")
    }

    /// A program that cargo built for the host.
    pub(crate) fn built(&self, profile: Profile, name: &str) -> PathBuf {
        self.target.join(profile.folder()).join(name)
    }
}
