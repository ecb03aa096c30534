//! A configuration that is shown once: to stdout, as a QR code, into files.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use super::{private_file::PrivateFile, view::PeerView};
use crate::{
    cli::HandOutArgs,
    desired::Peer,
    failure::Failure,
    key::PublicKey,
    qr::{Code, Image},
};

/// One that is ready to go: what may fail before the peer exists has not.
pub(super) struct HandOut {
    stdout: Zeroizing<String>,
    files: Vec<PrivateFile>,
}

impl HandOut {
    /// Draws the codes, and writes the files under names of no meaning.
    pub(super) fn prepare(
        args: &HandOutArgs,
        peer: (&PublicKey, &Peer, bool),
        text: Zeroizing<String>,
    ) -> Result<Self> {
        let mut files = Vec::new();
        if let Some(path) = &args.output {
            files.push(PrivateFile::stage(path, text.as_bytes(), args.overwrite)?);
        }
        let code = (args.qr || args.qr_file.is_some()).then(|| Code::new(&text)).transpose();
        let code = code.map_err(|error| {
            Failure::new(error.to_string())
                .hint("a home server takes it as a file; leave --qr and --qr-file out")
        })?;
        if let Some((path, code)) = args.qr_file.as_ref().zip(code.as_ref()) {
            let kind = Image::of(path).context("the name of an image ends in .png or .svg")?;
            files.push(PrivateFile::stage(path, &code.image(kind), args.overwrite)?);
        }
        let stdout = if args.json {
            let mut view = PeerView::new(peer);
            view.configuration = Some(text);
            Zeroizing::new(serde_json::to_string_pretty(&view)? + "\n")
        } else if let Some(code) = code.as_ref().filter(|_| args.qr) {
            fits_terminal(code);
            code.terminal()
        } else if files.is_empty() {
            text
        } else {
            Zeroizing::new(String::new())
        };
        Ok(Self { stdout, files })
    }

    /// Prints it and gives the files their names. A file that got its name before another could not loses it again.
    pub(super) fn deliver(self) -> Result<()> {
        let mut published = Vec::new();
        let deliver = || -> Result<()> {
            for file in self.files {
                published.push(file.publish()?);
            }
            let mut stdout = io::stdout();
            stdout.write_all(self.stdout.as_bytes()).and_then(|()| stdout.flush()).context("cannot print it")
        };
        let delivered = deliver();
        for path in &published {
            match &delivered {
                Ok(()) => eprintln!("wrote {}", path.display()),
                // What --overwrite replaced cannot be had back, but these keys are void.
                Err(_) => drop(std::fs::remove_file(path)),
            }
        }
        delivered
    }
}

/// A code whose lines are broken is none.
fn fits_terminal(code: &Code) {
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    if let Some(width) = width.filter(|width| io::stdout().is_terminal() && *width < code.columns()) {
        eprintln!(
            "warning: the code is {} columns wide and this terminal {width}; make it wider, or use --qr-file and \
             `relay peer rotate`",
            code.columns()
        );
    }
}
