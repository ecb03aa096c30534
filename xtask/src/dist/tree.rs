//! The files of a package, where Debian has them, with the rights that Debian gives them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::Product;
use crate::{
    env::Env,
    process::{capture, run},
};

/// Files of the checkout, and where they go.
const FILES: [(&str, &str); 6] = [
    ("README.md", "usr/share/doc/relay/README.md"),
    ("CHANGELOG.md", "usr/share/doc/relay/changelog"),
    ("dist/debian/copyright", "usr/share/doc/relay/copyright"),
    ("relay-user/examples/relay.toml", "usr/share/doc/relay/examples/relay.toml"),
    ("dist/alerts.yml", "usr/share/relay/alerts.yml"),
    ("dist/grafana-dashboard.json", "usr/share/relay/grafana-dashboard.json"),
];

/// What Debian wants compressed.
const COMPRESSED: [&str; 2] = ["usr/share/man/man1", "usr/share/doc/relay/changelog"];

/// Lays everything out below `folder`, which is made anew; gives the root.
pub(super) fn stage(env: &Env, product: &Product<'_>, folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let root = folder.join("root");
    let binary = root.join("usr/bin/relay");
    copy(&product.binary, &binary)?;
    // Users' builds have no debug sections; those of tests have.
    capture(Command::new(product.arch.strip()?).arg("--strip-debug").arg(&binary))?;
    for (from, to) in FILES {
        copy(&env.root.join(from), &root.join(to))?;
    }
    let mut generate = env.cargo();
    generate.args(["run", "--quiet", "--package", "relay-user", "--example", "packaged", "--"]).arg(&root);
    run("making man pages, completions and the unit", &mut generate)?;
    for path in COMPRESSED.map(|path| root.join(path)) {
        capture(Command::new("gzip").args(["-9n", "--recursive"]).arg(path))?;
    }
    rights(&root)?;
    Ok(root)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().with_context(|| format!("{} is in no folder", to.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::copy(from, to).map(drop).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Folders and programs 0755, all others 0644, whatever the umask of who builds.
fn rights(path: &Path) -> Result<()> {
    let act = || format!("setting the mode of {}", path.display());
    let program = path.parent().is_some_and(|folder| folder.ends_with("usr/bin"));
    let mode = if path.is_dir() || program { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(act)?;
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(act)? {
            rights(&entry.with_context(act)?.path())?;
        }
    }
    Ok(())
}
