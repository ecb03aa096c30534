//! Bad luck while relay.toml is changed: the old file stays whole, private and alone in its folder.
//!
//! A script in mount and network namespaces of its own; its file system is gone with them.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use relay_tests::{guest::patience, lab::relay::binary};

const SCRIPT: &str = r#"
set -euo pipefail
mount -t tmpfs -o size=64k,nr_inodes=64 tmpfs /run
config=/run/relay/relay.toml
unset RELAY_CONFIG RELAY_SOCKET
relay() { "$RELAY" "$@" --config "$config" > /dev/null 2> "$ERRORS"; }
fail() { echo "FAILED: $*" >&2; cat "$ERRORS" >&2; exit 1; }
refused() {
    code=0
    relay peer add second || code=$?
    [ $code = 1 ] || fail "exit code $code: $1"
    grep -q "$2" "$ERRORS" || fail "$1 is not named"
    [ "$(cat "$config")" = "$before" ] || fail "$1 changed the file"
    [ "$(stat -c %a "$config")" = 600 ] || fail "$1 changed the mode"
    [ "$(ls -A /run/relay)" = "$files" ] || fail "$1 left something behind"
}

relay init --endpoint vps.example.net || fail init
relay peer add first || fail "the first peer"
before=$(cat "$config")
files=$(ls -A /run/relay)

cat /dev/zero > /run/full 2> /dev/null || true
refused "a full disk" "No space left on device"
rm /run/full
mkdir /run/many
for number in $(seq 64); do : > "/run/many/$number" || break; done 2> /dev/null
refused "a disk without inodes" "No space left on device"
rm -r /run/many
mount -o remount,ro /run
refused "a read-only disk" "Read-only file system"
mount -o remount,rw /run

relay peer add second || fail "room again"
[ "$(grep -c '^name = "second"' "$config")" = 1 ] || fail "the second peer is not there"
"#;

#[test]
fn a_full_or_read_only_disk_or_one_without_inodes_leaves_the_old_file() {
    let errors = tempfile::NamedTempFile::new().expect("file");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["timeout", &patience(Duration::from_secs(60)).as_secs().to_string(), "bash", "-c", SCRIPT])
        .env("RELAY", binary().expect("relay"))
        .env("ERRORS", errors.path())
        .stdin(Stdio::null())
        .output()
        .expect("unshare");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
