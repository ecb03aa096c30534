//! What a binary needs of the system it is installed on, by what stands in it: the libraries, and the oldest glibc that
//! has every symbol it asks for. `readelf` reads any architecture's; dpkg-shlibdeps would want its libraries installed.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::capture;

/// The packages, as `Depends` has them.
pub(super) fn packages(binary: &Path) -> Result<Vec<String>> {
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--dynamic", "--version-info"]).arg(binary).env("LC_ALL", "C");
    depends(&capture(&mut readelf)?).with_context(|| format!("libraries of {}", binary.display()))
}

/// What `readelf` printed, as packages.
fn depends(text: &str) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for library in libraries(text) {
        let package = match library {
            // Threads, mathematics and the loader are glibc's.
            "libc.so.6" | "libm.so.6" | "ld-linux-x86-64.so.2" | "ld-linux-aarch64.so.1" => continue,
            "libgcc_s.so.1" => "libgcc-s1",
            other => bail!("no package is known for {other}"),
        };
        packages.push(package.to_owned());
    }
    let (major, minor) = glibc(text).context("it asks for no version of glibc")?;
    packages.push(format!("libc6 (>= {major}.{minor})"));
    packages.sort();
    Ok(packages)
}

/// The names in ` … (NEEDED)  Shared library: [libc.so.6]`.
fn libraries(text: &str) -> impl Iterator<Item = &str> {
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| line.split_once('[')?.1.split_once(']')).map(|(name, _)| name)
}

/// The newest of the `Name: GLIBC_2.34`.
fn glibc(text: &str) -> Option<(u32, u32)> {
    let names = text.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    names.filter_map(version).max()
}

fn version(name: &str) -> Option<(u32, u32)> {
    // Relative relocations in short, which a linker may choose; they came with glibc 2.36.
    if name == "ABI_DT_RELR" {
        return Some((2, 36));
    }
    let mut parts = name.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = " 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 12
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 11
  0x0030:   Name: GCC_3.0  Flags: none  Version: 3
  0x0040:   Name: GLIBC_2.2.5  Flags: none  Version: 2
";

    #[test]
    fn the_newest_symbol_decides() {
        assert_eq!(depends(SAID).expect("packages"), ["libc6 (>= 2.34)", "libgcc-s1"]);
        let relr = format!("{SAID} Name: GLIBC_ABI_DT_RELR  Flags: none");
        assert_eq!(depends(&relr).expect("packages")[0], "libc6 (>= 2.36)");
    }

    #[test]
    fn a_library_without_a_package_is_an_error() {
        let other = format!("{SAID} 0x1 (NEEDED)  Shared library: [libssl.so.3]\n");
        assert!(depends(&other).unwrap_err().to_string().contains("libssl.so.3"));
        assert!(depends("").is_err());
    }
}
