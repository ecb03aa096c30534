//! What comes from the distribution, and what for.

/// A Debian package, the file that proves it is installed, and the reason we ask for it.
pub(super) struct Package {
    /// Debian's name.
    pub(super) name: &'static str,
    /// A program in `PATH`, or an absolute path.
    pub(super) proof: &'static str,
    /// What it is for.
    pub(super) why: &'static str,
}

const fn package(name: &'static str, proof: &'static str, why: &'static str) -> Package {
    Package { name, proof, why }
}

/// For the eBPF compiler from Debian. libLLVM comes along with it.
pub(super) const COMPILER: &[Package] = &[
    package("rustc-web", super::toolchain::DEBIAN_RUSTC, "compiles the eBPF programs"),
    package("rust-web-src", super::toolchain::DEBIAN_CORE, "the sources of core, which BPF builds from"),
];

/// For bpf-linker, which links with LLVM, a C++ library, and for libFuzzer, which is one.
pub(super) const LINKER: &[Package] = &[
    package("gcc", "cc", "links programs, and compiles the SQLite that relay brings along"),
    package("g++", "c++", "the C++ library that LLVM and libFuzzer need"),
];

/// For `check` with Debian's compiler.
pub(super) const CLIPPY: &[Package] =
    &[package("rust-web-clippy", "/usr/bin/clippy-driver", "lints the eBPF programs")];

/// For packing packages.
pub(super) const DIST: &[Package] = &[
    package("binutils", "readelf", "reads what a binary needs, and takes debug sections out of it"),
    package("dpkg", "dpkg-deb", "packs Debian packages"),
];

/// For building for arm64 elsewhere.
pub(super) const ARM64: &[Package] = &[
    package(
        "gcc-aarch64-linux-gnu",
        "aarch64-linux-gnu-gcc",
        "links relay for arm64, and compiles its SQLite",
    ),
    package("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/include/stdio.h", "the C library of arm64"),
];

/// For `relay up`.
pub(super) const RUN: &[Package] = &[package("nftables", "nft", "relay's own firewall table")];

/// For tests in network namespaces and the laboratory.
pub(super) const NETNS: &[Package] = &[
    package("iproute2", "ip", "namespaces, links and routes of the laboratory"),
    package("iptables", "iptables", "rules of other programs that the firewall tests put in the way"),
    package("ethtool", "ethtool", "offload switches of test devices"),
    package("procps", "sysctl", "wg-quick's PostUp switches forwarding on with it"),
    package("util-linux", "nsenter", "enters namespaces with bpffs in sight"),
    package("wireguard-tools", "wg-quick", "runs the configurations that relay prints"),
    package("wireguard-go", "wireguard-go", "a WireGuard that is not ours, for hosts whose kernel has none"),
    package("bpftool", "bpftool", "looks at pins and programs from outside relay"),
    package("conntrack", "conntrack", "reads and flushes what the laboratory's NATs remember"),
    package("curl", "curl", "the phone's browser"),
    package("busybox-static", "busybox", "all that is in the container of a Docker that publishes a port"),
    package(
        "dbus-daemon",
        "dbus-daemon",
        "the bus of firewalld, and of a NetworkManager that imports what relay prints",
    ),
    package("zbar-tools", "zbarimg", "reads QR codes as a phone does"),
    package("librsvg2-bin", "rsvg-convert", "draws QR codes that are SVG"),
    package(
        "systemd",
        "systemd-analyze",
        "judges the unit, and runs it as the PID 1 of a machine of the laboratory",
    ),
    package("strace", "strace", "kills relay at a system call of its own"),
    package("iputils-ping", "ping", "asks whether a machine answers"),
];

/// For guests: what goes into them on top of what the laboratory needs. The machine itself is fetched, not installed.
pub(super) const VM: &[Package] = &[
    package("kmod", "depmod", "lists and loads the modules of guests"),
    package("busybox-static", "busybox", "the small tools of guests, ping among them"),
    package("binutils", "strip", "takes debug sections out of what guests carry"),
    package("xz-utils", "xz", "unpacks the modules of guests"),
    package("conntrack", "conntrack", "shows and shortens what conntrack remembers"),
    package("iperf3", "iperf3", "transfers that must not stop"),
];

/// For guests that boot from a disk.
pub(super) const BOOT: &[Package] = &[
    package("debootstrap", "debootstrap", "installs the Debian that boots from a disk"),
    package(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "the keys that Debian signs its packages with",
    ),
    package("e2fsprogs", "mke2fs", "makes a disk of files"),
];
