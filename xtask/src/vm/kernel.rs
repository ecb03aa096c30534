//! Debian's kernels: which package, fetched by apt, unpacked and kept under target/vm/kernels.
//!
//! Nothing is installed. What was fetched once serves offline; when the mirror has a newer build of the same
//! line and can be reached, that one is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{capture, find_program, say};

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The line that was asked for, as "6.1".
    pub(crate) line: String,
    /// What `uname -r` says in the guest.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// lib/modules/RELEASE of the unpacked package, with the lists of depmod.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The newest build of `line` that apt offers; else the newest that is here already.
    pub(crate) fn fetch(line: &str, cache: &Path) -> Result<Self> {
        ensure!(
            !line.is_empty() && line.split('.').all(|n| n.parse::<u16>().is_ok()),
            "{line:?} is no kernel line such as 6.1 or 6.12"
        );
        let folder = cache.join(line);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let offered = offered(line).and_then(|package| download(&package, &folder));
        if let Err(why) = &offered {
            say(format_args!("    kernel {line} not fetched ({why:#}); looking for one fetched before"));
        }
        let archive = match offered {
            Ok(archive) => archive,
            Err(why) => newest(&folder)?.ok_or(why).with_context(|| {
                format!(
                    "no kernel {line}: apt offers none and {} holds none (try `apt-get update`, or put a \
                     linux-image-…-cloud-amd64 package of Debian there)",
                    folder.display()
                )
            })?,
        };
        unpack(line, &archive)
    }
}

/// The real package behind the meta package of a line: "linux-image-6.1.0-…-cloud-amd64".
fn offered(line: &str) -> Result<String> {
    let mut reasons = Vec::new();
    // A release's own kernel has a meta package without a number, a backported one has the line in its name.
    for meta in [format!("linux-image-{line}-cloud-amd64"), "linux-image-cloud-amd64".to_owned()] {
        match capture(Command::new("apt-cache").args(["depends", &meta])) {
            Ok(text) => match real_package(&text, line) {
                Some(package) => return Ok(package),
                None => reasons.push(format!("{meta} is of another line")),
            },
            Err(why) => reasons.push(format!("{why:#}")),
        }
    }
    bail!("{}", reasons.join("; "))
}

/// Reads the dependency on an image of `line` from what `apt-cache depends` printed.
fn real_package(text: &str, line: &str) -> Option<String> {
    let package = text.lines().filter_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
    package
        .filter(|version| version.strip_prefix(line).is_some_and(|rest| rest.starts_with(['.', '-', '+'])))
        .map(|version| format!("linux-image-{version}"))
        .next()
}

/// Brings the package's archive into `folder`, unless the same version is there.
fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let uris = capture(Command::new("apt-get").args(["download", "--print-uris", package]))?;
    // 'http://…' NAME SIZE HASH, the name as apt will call the file.
    let name = uris
        .lines()
        .find_map(|line| line.split_whitespace().nth(1).filter(|name| name.ends_with(".deb")))
        .with_context(|| format!("apt-get names no archive for {package}"))?;
    let archive = folder.join(name);
    if !archive.is_file() {
        say(format_args!("    downloading {package}"));
        // Into a folder of its own first: a download that broke off must not pass for a whole one.
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
        capture(Command::new("apt-get").args(["download", "-qq", package]).current_dir(&partial))?;
        let fetched = newest(&partial)?.with_context(|| format!("apt-get left no archive of {package}"))?;
        fs::rename(&fetched, &archive).with_context(|| format!("moving {}", fetched.display()))?;
    }
    Ok(archive)
}

/// The archive in `folder` that was written last.
fn newest(folder: &Path) -> Result<Option<PathBuf>> {
    let act = || format!("looking into {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(act)? {
        let path = entry.with_context(act)?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found.push((fs::metadata(&path).with_context(act)?.modified()?, path));
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

/// Unpacks an archive beside itself, once, and lists the modules' dependencies.
fn unpack(line: &str, archive: &Path) -> Result<Kernel> {
    let root = archive.with_extension("root");
    if !root.is_dir() {
        let partial = archive.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
        }
        capture(Command::new("dpkg-deb").arg("--extract").args([archive, &partial]))?;
        let release = release_of(&partial)?;
        let depmod = find_program("depmod").context("no depmod here; Debian has it in kmod")?;
        capture(Command::new(depmod).arg("-b").arg(&partial).arg(&release))?;
        fs::rename(&partial, &root).with_context(|| format!("renaming {}", partial.display()))?;
    }
    let release = release_of(&root)?;
    Ok(Kernel {
        line: line.to_owned(),
        image: root.join("boot").join(format!("vmlinuz-{release}")),
        modules: root.join("lib/modules").join(&release),
        release,
    })
}

/// The release of the one kernel in an unpacked package.
fn release_of(root: &Path) -> Result<String> {
    let boot = root.join("boot");
    let act = || format!("looking for a kernel in {}", boot.display());
    for entry in fs::read_dir(&boot).with_context(act)? {
        let name = entry.with_context(act)?.file_name();
        if let Some(release) = name.to_str().and_then(|n| n.strip_prefix("vmlinuz-")) {
            return Ok(release.to_owned());
        }
    }
    bail!("{} holds no vmlinuz", boot.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_matched_as_a_whole_number() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.117+deb12-cloud-amd64\n";
        assert_eq!(real_package(text, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(real_package(text, "6.1"), None);
        assert_eq!(real_package("  Depends: linux-image-6.1.0-56-cloud-amd64", "6.12"), None);
    }
}
