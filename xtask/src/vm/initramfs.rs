//! The guest's file system, in three parts one behind the other: tools, the kernel's modules, and what is ours.
//!
//! The first two change when Debian's packages do and are kept; only the last is packed on every run.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Options;
use super::cpio::{Entry, Tree};
use super::files;
use super::kernel::Kernel;
use super::programs::{Programs, Speaks};
use crate::env::Env;
use crate::process::capture;

/// To be raised when what the kept parts hold changes; in their names.
const PARTS: u32 = 5;

/// What one test program may take in the guest, in seconds. PID 1 ends it then and goes on with the next.
const PROGRAM_SECONDS: u64 = 25 * 60;

/// libtest says what it does as JSON only to those who ask for what is unstable. One test at a time: they share a kernel.
pub(super) const LIBTEST: [&str; 5] =
    ["-Zunstable-options", "--format=json", "--report-time", "--show-output", "--test-threads=1"];

/// What goes into guests.
pub(crate) struct Guest<'a> {
    pub(crate) env: &'a Env,
    pub(crate) options: &'a Options,
    pub(crate) programs: &'a Programs,
    /// target/vm
    pub(crate) cache: &'a Path,
}

impl Guest<'_> {
    /// The parts that are the same for all kernels: tools, then what is ours.
    pub(crate) fn common_parts(&self) -> Result<[PathBuf; 2]> {
        let tools = self.kept(&format!("tools-{:016x}", host_packages()?), files::tools)?;
        let folder = self.cache.join("run");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let ours = folder.join("ours.cpio");
        write(&self.ours()?, &ours)?;
        Ok([tools, ours])
    }

    /// The whole of it for one kernel, in a file.
    pub(crate) fn initrd(&self, kernel: &Kernel, [tools, ours]: &[PathBuf; 2]) -> Result<PathBuf> {
        let staging = self.cache.join("cache").join(format!("modules-{}", kernel.line));
        let modules = self.kept(&format!("modules-{}", kernel.release), || {
            if staging.exists() {
                fs::remove_dir_all(&staging).with_context(|| format!("removing {}", staging.display()))?;
            }
            files::modules(kernel, &files::MODULES, &staging)
        })?;
        let marker = {
            let mut tree = Tree::default();
            tree.put("/etc/relay-vm-guest", Entry::Text(format!("{}\n", kernel.line)));
            let path = self.cache.join("run").join(format!("{}-marker.cpio", kernel.line));
            write(&tree, &path)?;
            path
        };
        let initrd = self.cache.join("run").join(format!("{}.cpio", kernel.line));
        let act = || format!("writing {}", initrd.display());
        let mut out = File::create(&initrd).with_context(act)?;
        for part in [tools, &modules, ours, &marker] {
            let mut part = File::open(part).with_context(|| format!("opening {}", part.display()))?;
            std::io::copy(&mut part, &mut out).with_context(act)?;
        }
        Ok(initrd)
    }

    /// A part under its name in the cache, made if it is not there.
    fn kept(&self, name: &str, make: impl FnOnce() -> Result<Tree>) -> Result<PathBuf> {
        let folder = self.cache.join("cache");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join(format!("{name}-{PARTS}.cpio"));
        if !path.is_file() {
            let partial = path.with_extension("partial");
            write(&make()?, &partial)?;
            fs::rename(&partial, &path).with_context(|| format!("renaming {}", partial.display()))?;
        }
        Ok(path)
    }

    /// PID 1, the tests and what they start, each at the path it has on the host, so that whatever a test was
    /// compiled to look for stands there.
    fn ours(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        let jobs = self.programs.jobs.iter().map(|job| &job.path);
        for path in jobs.chain(&self.programs.along) {
            self.add_stripped(&mut tree, path, path)?;
        }
        self.add_stripped(&mut tree, &self.programs.init, Path::new("/init"))?;
        for path in &self.programs.along {
            let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
            tree.put(Path::new("/usr/bin").join(name), Entry::Link(path.clone()));
        }
        // Cases and snapshots that tests read, and the objects they load.
        for folder in [&self.env.root.join("tests"), &self.env.bpf] {
            add_data(&mut tree, folder)?;
        }
        tree.put("/etc/relay-vm/plan.json", Entry::Text(self.plan().to_string()));
        self.forget_stripped(&tree)?;
        Ok(tree)
    }

    /// A program without its debug sections, and its libraries.
    fn add_stripped(&self, tree: &mut Tree, program: &Path, at: &Path) -> Result<()> {
        let stripped = stripped(self.cache, program)?;
        for library in files::needs(&stripped)? {
            files::add(tree, &library)?;
        }
        tree.put(at, Entry::Copy(stripped));
        Ok(())
    }

    /// Removes stripped copies that are not in `tree`: each build of a test has a name of its own.
    fn forget_stripped(&self, tree: &Tree) -> Result<()> {
        let folder = self.cache.join("stripped");
        let act = || format!("tidying {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(act)? {
            let path = entry.with_context(act)?.path();
            if !tree.copies(&path) {
                fs::remove_file(&path).with_context(act)?;
            }
        }
        Ok(())
    }

    /// What PID 1 reads: programs, arguments, environment.
    fn plan(&self) -> serde_json::Value {
        let mut libtest = LIBTEST.to_vec();
        libtest.extend(self.options.filter.as_deref());
        let folder = self.env.root.join("tests");
        let programs = self.programs.jobs.iter().map(|job| {
            let (speaks, arguments) = match &job.speaks {
                Speaks::Libtest => ("libtest", json!(libtest)),
                Speaks::Plain(arguments) => ("plain", json!(arguments)),
            };
            json!({
                "name": job.name,
                "path": job.path,
                "speaks": speaks,
                "arguments": arguments,
                "folder": folder,
                "seconds": PROGRAM_SECONDS,
            })
        });
        let programs: Vec<_> = programs.collect();
        let mut plan = json!({
            "programs": programs,
            // A filter may leave a program nothing to do; without one that is a mistake.
            "empty_is_failure": self.options.filter.is_none(),
            "environment": {
                "CARGO_MANIFEST_DIR": folder,
                "GOTATUN_BIN": self.env.gotatun(),
                "HOME": "/root",
                "INSTA_UPDATE": "no",
                "INSTA_WORKSPACE_ROOT": self.env.root,
                "PATH": "/usr/sbin:/usr/bin",
                "RELAY_BIN": super::RELAY,
                "RELAY_BPF_DIR": self.env.bpf,
                "RUSTC_BOOTSTRAP": "1",
                "RUST_BACKTRACE": "1",
                "TMPDIR": "/tmp",
            },
        });
        if self.options.counting {
            plan["environment"]["RELAY_ICOUNT"] = json!("1");
        }
        // Whoever searches with another seed does so in guests, too.
        if let Ok(seed) = std::env::var("RELAY_SEED") {
            plan["environment"]["RELAY_SEED"] = json!(seed);
        }
        plan
    }
}

/// The files of a folder, without what a compiler left there and without the seeded faults, which no guest runs.
fn add_data(tree: &mut Tree, folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["build", "check", "mutants", "target"].contains(&name) {
            add_data(tree, &path)?;
        } else if path.is_file() {
            tree.put(&path, Entry::Copy(path.clone()));
        }
    }
    Ok(())
}

/// A number that changes whenever a package of the host does.
fn host_packages() -> Result<u64> {
    let status = "/var/lib/dpkg/status";
    let data = fs::metadata(status).with_context(|| format!("looking at {status} (is this Debian?)"))?;
    let mut hasher = DefaultHasher::new();
    (data.len(), data.modified()?).hash(&mut hasher);
    // cargo's and the admin's own folders come before Debian's.
    std::env::var_os("PATH").hash(&mut hasher);
    Ok(hasher.finish())
}

/// A copy of a program without its debug sections, which would be half of the guest's memory.
pub(super) fn stripped(cache: &Path, program: &Path) -> Result<PathBuf> {
    let folder = cache.join("stripped");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let name = program.file_name().with_context(|| format!("{} is no file", program.display()))?;
    let stripped = folder.join(name);
    let written = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let source = written(program).with_context(|| format!("looking at {}", program.display()))?;
    if written(&stripped).map_or(true, |copy| copy < source) {
        capture(Command::new("strip").args(["--strip-debug", "-o"]).arg(&stripped).arg(program))?;
    }
    Ok(stripped)
}

/// Writes an archive as a file.
pub(super) fn write(tree: &Tree, path: &Path) -> Result<()> {
    let act = || format!("writing {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(act)?);
    tree.write(&mut out).with_context(act)?;
    out.flush().with_context(act)
}
