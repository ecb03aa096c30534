//! The archive a kernel unpacks as its first file system: cpio in the "newc" format, uncompressed.
//!
//! Format: <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>. Archives may stand one behind
//! the other, each padded to four bytes; a later file replaces an earlier one of the same name. Compression is
//! left out on purpose: an emulated machine unpacks slower than the host reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// What stands at a path of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory, mode 0755.
    Directory,
    /// A symbolic link and where it points.
    Link(PathBuf),
    /// A copy of a file of the host, mode kept.
    Copy(PathBuf),
    /// A file with this text, mode 0644.
    Text(String),
    /// A character device: major, minor; mode 0600.
    Device(u32, u32),
}

/// A file tree by absolute path. Parents of an entry come into being by themselves.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Puts `entry` at the absolute `path`, in the place of what stood there, and makes its parents.
    pub(crate) fn put(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        let path = path.into();
        for parent in path.ancestors().skip(1).filter(|p| p.components().count() > 1) {
            self.0.entry(parent.to_owned()).or_insert(Entry::Directory);
        }
        self.0.insert(path, entry);
    }

    /// Whether something stands at `path`.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Whether some entry is a copy of this file of the host.
    pub(crate) fn copies(&self, file: &Path) -> bool {
        self.0.values().any(|entry| matches!(entry, Entry::Copy(from) if from == file))
    }

    /// Writes the tree as one archive, padded so that another may follow.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<()> {
        // Parents sort before their children, and the kernel wants them in this order.
        for (number, (path, entry)) in self.0.iter().enumerate() {
            let name = relative(path)?;
            let number = u32::try_from(number + 1).context("an archive with more than 2^32 entries")?;
            match entry {
                Entry::Directory => record(out, number, 0o040_755, (0, 0), &name, &[])?,
                Entry::Link(to) => {
                    record(out, number, 0o120_777, (0, 0), &name, to.as_os_str().as_encoded_bytes())?;
                }
                Entry::Text(text) => record(out, number, 0o100_644, (0, 0), &name, text.as_bytes())?,
                Entry::Device(major, minor) => record(out, number, 0o020_600, (*major, *minor), &name, &[])?,
                Entry::Copy(from) => {
                    let act = || format!("reading {} for the guest", from.display());
                    let content = fs::read(from).with_context(act)?;
                    let mode = fs::metadata(from).with_context(act)?.permissions().mode() & 0o7777;
                    record(out, number, 0o100_000 | mode, (0, 0), &name, &content)?;
                }
            }
        }
        record(out, 0, 0, (0, 0), "TRAILER!!!", &[])
    }
}

/// The name a path has in the archive: without the leading slash, and nothing that climbs out.
fn relative(path: &Path) -> Result<String> {
    let clean = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    ensure!(path.is_absolute() && clean, "{} is no plain absolute path", path.display());
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.trim_start_matches('/').to_owned())
}

/// One header, its name and its content, each padded to four bytes.
fn record(
    out: &mut impl Write,
    inode: u32,
    mode: u32,
    (major, minor): (u32, u32),
    name: &str,
    content: &[u8],
) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{name} is larger than 4 GiB"))?;
    let name_size = name.len() + 1;
    // magic, inode, mode, uid, gid, links, mtime, size, device, device of the node, name with NUL, check sum
    write!(
        out,
        "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}\
         {name_size:08x}{:08x}{name}\0",
        0, 0, 1, 0, 0, 0, 0
    )?;
    out.write_all(padding(110 + name_size))?;
    out.write_all(content)?;
    out.write_all(padding(content.len()))?;
    Ok(())
}

/// The zeros between `length` and the next multiple of four.
fn padding(length: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; 3];
    &ZEROS[..length.wrapping_neg() % 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_parents_before_children_and_ends_with_its_trailer() {
        let mut tree = Tree::default();
        tree.put("/etc/relay/plan", Entry::Text("abcde".into()));
        tree.put("/dev/console", Entry::Device(5, 1));
        tree.put("/bin", Entry::Link("usr/bin".into()));
        let mut archive = Vec::new();
        tree.write(&mut archive).unwrap();
        assert_eq!(
            names(&archive),
            ["bin", "dev", "dev/console", "etc", "etc/relay", "etc/relay/plan", "TRAILER!!!"]
        );
        assert_eq!(archive.len() % 4, 0, "another archive may follow only at a multiple of four");
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        let mut tree = Tree::default();
        tree.put("/a/../../etc/passwd", Entry::Text(String::new()));
        assert!(tree.write(&mut Vec::new()).is_err());
    }

    /// Reads an archive back by its headers alone, as the kernel does.
    fn names(mut archive: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&archive[6 + 8 * n..14 + 8 * n]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap());
            archive = &archive[(110 + name_size).next_multiple_of(4) + size.next_multiple_of(4)..];
        }
        names
    }
}
