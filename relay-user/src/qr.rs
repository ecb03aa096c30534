//! QR codes of configurations: on a terminal, as PNG and as SVG.
//!
//! A code is as secret as the text in it. What is drawn here is wiped when dropped; what the encoder keeps meanwhile is
//! not, and goes with the process.

use std::{fmt::Write as _, path::Path};

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around a code (ISO/IEC 18004 9.1 asks for four).
const QUIET: usize = 4;

/// The same on a terminal, where four would make many codes wider than 80 columns; scanners do with two.
const QUIET_ON_TERMINAL: usize = 2;

/// Pixels that a module of an image is wide.
const SCALE: usize = 8;

/// Sets black on white, and back to what the terminal has. Both colours are given, whatever `NO_COLOR` says: this is a
/// picture and no coloured text, and it must come out the same on dark and light terminals. They are the cube's own
/// black and white (xterm's 16 and 231), which themes leave alone, unlike the sixteen named colours.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// The text is longer than any code can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {0} bytes, more than a QR code holds (2,953)")]
pub struct TooLong(usize);

/// The kinds of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Portable Network Graphics.
    Png,
    /// Scalable Vector Graphics.
    Svg,
}

impl Image {
    /// By the ending of a file's name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        match ending.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "svg" => Some(Self::Svg),
            _ => None,
        }
    }
}

/// A code.
pub struct Code(QrCode);

impl Code {
    /// Of a text, with the least redundancy: a screen has no scratches, and a smaller code fits more of them.
    ///
    /// # Errors
    /// The text is too long.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        QrCode::with_error_correction_level(text, EcLevel::L).map(Self).map_err(|_| TooLong(text.len()))
    }

    /// Columns that it takes on a terminal.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.0.width() + 2 * QUIET_ON_TERMINAL
    }

    /// In half blocks, two modules above one another in each character.
    #[must_use]
    pub fn terminal(&self) -> Zeroizing<String> {
        let (side, quiet) = (self.columns(), QUIET_ON_TERMINAL);
        // Three bytes a character at most.
        let line = 3 * side + BLACK_ON_WHITE.len() + RESET.len() + 1;
        let mut text = Zeroizing::new(String::with_capacity(side.div_ceil(2) * line));
        for y in (0..side).step_by(2) {
            text.push_str(BLACK_ON_WHITE);
            for x in 0..side {
                text.push(match (self.is_dark(x, y, quiet), self.is_dark(x, y + 1, quiet)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push_str(RESET);
            text.push('\n');
        }
        text
    }

    /// As a file of that kind.
    #[must_use]
    pub fn image(&self, kind: Image) -> Zeroizing<Vec<u8>> {
        match kind {
            Image::Png => self.png(),
            Image::Svg => self.svg(),
        }
    }

    fn png(&self) -> Zeroizing<Vec<u8>> {
        let side = self.0.width() + 2 * QUIET;
        let row = |y| (0..side * SCALE).map(move |x| if self.is_dark(x / SCALE, y, QUIET) { 0 } else { 255 });
        let pixels: Zeroizing<Vec<u8>> =
            Zeroizing::new((0..side * SCALE).flat_map(|y| row(y / SCALE)).collect());
        let pixels_wide = u32::try_from(side * SCALE).expect("the largest code has 177 modules");
        let mut file = Zeroizing::new(Vec::with_capacity(pixels.len()));
        let mut encoder = png::Encoder::new(&mut *file, pixels_wide, pixels_wide);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().expect("a vector takes everything");
        writer.write_image_data(&pixels).expect("as many pixels as the header says");
        writer.finish().expect("a vector takes everything");
        file
    }

    fn svg(&self) -> Zeroizing<Vec<u8>> {
        let side = self.0.width() + 2 * QUIET;
        let mut text = Zeroizing::new(String::with_capacity(16 * side * side));
        let pixels = side * SCALE;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" \
             viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\""
        );
        for y in 0..side {
            for x in (0..side).filter(|&x| self.is_dark(x, y, QUIET)) {
                let _ = write!(text, "M{x} {y}h1v1h-1z");
            }
        }
        text.push_str("\"/></svg>\n");
        Zeroizing::new(text.as_bytes().to_vec())
    }

    /// Whether a module is dark; beyond the code all are light.
    fn is_dark(&self, x: usize, y: usize, quiet: usize) -> bool {
        let code = quiet..quiet + self.0.width();
        code.contains(&x) && code.contains(&y) && self.0[(x - quiet, y - quiet)] == Color::Dark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_what_it_is() {
        for (name, kind) in
            [("a.png", Some(Image::Png)), ("a.b.SVG", Some(Image::Svg)), ("a.jpg", None), ("png", None)]
        {
            assert_eq!(Image::of(Path::new(name)), kind, "{name}");
        }
    }

    #[test]
    fn a_text_that_fits_in_no_code_is_refused() {
        assert!(Code::new(&"x".repeat(2953)).is_ok());
        assert_eq!(Code::new(&"x".repeat(2954)).map(|_| ()), Err(TooLong(2954)));
    }

    #[test]
    fn each_line_of_a_terminal_is_as_wide_and_ends_as_it_began() {
        let code = Code::new("a configuration").expect("a code");
        let text = code.terminal();
        assert_eq!(text.lines().count(), code.columns().div_ceil(2));
        for line in text.lines() {
            let line = line.strip_prefix(BLACK_ON_WHITE).and_then(|line| line.strip_suffix(RESET));
            assert_eq!(line.map(|line| line.chars().count()), Some(code.columns()));
        }
    }
}
