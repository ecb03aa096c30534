//! `relay peer export`: configurations without their secrets, for one's own records or to fill in at the other end.

use anyhow::{Context as _, Result};

use super::{no_such_peer, private_file::PrivateFile, view::PeerView};
use crate::{
    cli::PeerExportArgs,
    command::{print, print_json},
    config::Config,
    file_name,
    peer_config::wg_quick,
};

pub(super) fn run(config: &Config, endpoint: Option<&str>, args: &PeerExportArgs) -> Result<()> {
    let Some(folder) = &args.folder else {
        let name = args.name.as_deref().unwrap_or_default();
        let found = config.peer(name).ok_or_else(|| no_such_peer(name))?;
        let text = wg_quick(&config.desired, endpoint, found.0, found.1, None);
        if args.json {
            let mut view = PeerView::new(found);
            view.configuration = Some(text);
            return print_json(&view);
        }
        return print(&text);
    };
    crate::config::secret::create_folder(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let names: Vec<&str> = config.names().collect();
    // All are written before the first gets its name, so that a full disk or a file in the way leaves none.
    let mut files = Vec::with_capacity(names.len());
    for (name, file) in names.iter().zip(file_name::unique(names.iter().copied())) {
        let (key, peer, _) = config.peer(name).ok_or_else(|| no_such_peer(name))?;
        let text = wg_quick(&config.desired, endpoint, key, peer, None);
        files.push(PrivateFile::stage(&folder.join(file + ".conf"), text.as_bytes(), args.overwrite)?);
    }
    let count = files.len();
    for (file, name) in files.into_iter().zip(names) {
        eprintln!("wrote {} for peer \"{name}\"", file.publish()?.display());
    }
    if count == 0 {
        eprintln!("no peers yet; `relay peer add NAME` adds one");
    }
    Ok(())
}
