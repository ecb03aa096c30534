//! QR codes as a phone meets them: read back by zbarimg, byte for byte what the configuration's file says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{guest, lab::relay::binary, netns::checked};

/// Black and white of xterm's cube, which no theme changes, and back.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// Pixels of a module of the picture that is taken of a terminal, and modules of terminal around it.
const SCALE: usize = 6;
const AROUND: usize = 5;

const PHONES: [(&str, &[&str]); 3] = [
    ("phone", &[]),
    (
        "Zoë's 日本 phone",
        &["--full-tunnel", "--dns", "9.9.9.9", "--dns", "2620:fe::fe", "--psk", "--keepalive", "25"],
    ),
    // As long as a configuration of a phone may become: larger codes are read from further away.
    ("long", &["--dns", LONG, "--dns", LONG, "--dns", LONG]),
];

/// A search domain of 251 letters.
const LONG: &str = concat!(
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh.",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh.",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh.",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh.home.arpa"
);

fn relay(folder: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(binary()?);
    command.args(args).current_dir(folder).env_remove("RELAY_SOCKET");
    checked(command.env("RELAY_CONFIG", folder.join("relay.toml")).args(["--socket", "none"]))
}

/// What zbarimg reads, bytes as they are.
fn read(image: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new("zbarimg");
    let output = command.args(["--quiet", "--raw", "--oneshot", "-Sbinary"]).arg(image).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "zbarimg finds no code in {}: {stderr}", image.display());
    Ok(output.stdout)
}

/// A picture of a terminal with that on it, whose own background is dark or light.
fn photograph(screen: &str, dark: bool, path: PathBuf) -> Result<PathBuf> {
    let mut modules: Vec<Vec<bool>> = Vec::new();
    for line in screen.lines() {
        let cells = line.strip_prefix(BLACK_ON_WHITE).and_then(|line| line.strip_suffix(RESET));
        let cells =
            cells.with_context(|| format!("{line:?} does not set both colours and take them back"))?;
        let (mut upper, mut lower) = (Vec::new(), Vec::new());
        for cell in cells.chars() {
            let (above, below) = match cell {
                ' ' => (false, false),
                '▀' => (true, false),
                '▄' => (false, true),
                '█' => (true, true),
                other => anyhow::bail!("{other:?} is no half block"),
            };
            upper.push(above);
            lower.push(below);
        }
        modules.extend([upper, lower]);
    }
    let (height, width) = (modules.len() + 2 * AROUND, modules[0].len() + 2 * AROUND);
    let module = |x: usize, y: usize| {
        let inside = y.checked_sub(AROUND).and_then(|y| modules.get(y)?.get(x.checked_sub(AROUND)?).copied());
        inside.unwrap_or(dark)
    };
    let mut image = format!("P5 {} {} 255\n", width * SCALE, height * SCALE).into_bytes();
    for y in 0..height * SCALE {
        image.extend((0..width * SCALE).map(|x| if module(x / SCALE, y / SCALE) { 0 } else { 255 }));
    }
    fs::write(&path, image)?;
    Ok(path)
}

#[test]
fn every_form_says_what_the_file_says() -> Result<()> {
    if Command::new("zbarimg").arg("--version").output().is_err() {
        guest::skip("zbarimg is not installed");
        return Ok(());
    }
    let draws_svg = Command::new("rsvg-convert").arg("--version").output().is_ok();
    if !draws_svg {
        guest::skip("SVG codes: rsvg-convert is not installed");
    }
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let subnet = ["--subnet", "10.231.77.0/24", "--subnet6", "fd52:1a9:beef::/64"];
    let init = ["init", "--interface", "relaytest0", "--endpoint", "vps.example.net"];
    relay(folder, &[&init[..], &subnet].concat())?;
    for (name, options) in PHONES {
        let files = ["--qr", "--qr-file", "code.png", "--output", "phone.conf", "--overwrite"];
        let screen = relay(folder, &[&["peer", "add", name], options, &files].concat())?;
        let text = fs::read(folder.join("phone.conf"))?;
        let private = String::from_utf8(text.clone())?;
        ensure!(private.contains("\nPrivateKey = "), "{name}: the file is not complete");
        let mut pictures = vec![
            folder.join("code.png"),
            photograph(&screen, true, folder.join("dark.pgm"))?,
            photograph(&screen, false, folder.join("light.pgm"))?,
        ];
        for picture in pictures.drain(..) {
            ensure!(read(&picture)? == text, "{name}: {} says something else", picture.display());
        }
        if draws_svg {
            // The same peer once more: a code is shown for the keys of the moment.
            let files = ["--qr-file", "code.svg", "--output", "phone.conf", "--overwrite"];
            ensure!(relay(folder, &[&["peer", "rotate", name][..], &files].concat())?.is_empty());
            let drawn = folder.join("drawn.png");
            checked(Command::new("rsvg-convert").arg("-o").arg(&drawn).arg(folder.join("code.svg")))?;
            ensure!(
                read(&drawn)? == fs::read(folder.join("phone.conf"))?,
                "{name}: the SVG says something else"
            );
        }
    }
    Ok(())
}
