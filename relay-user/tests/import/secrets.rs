//! No key is shown, logged or kept where it does not belong, whatever the format.

use std::path::Path;

use relay_user::key::PrivateKey;

use crate::{
    Terminal,
    wg_easy::{Deployment, Schema, five_clients, write_14, write_15},
};

fn secrets(deployment: &Deployment) -> Vec<String> {
    let clients = deployment
        .clients
        .iter()
        .flat_map(|client| [client.private_key().expose_base64(), client.preshared_key().expose_base64()]);
    clients.chain([deployment.hub.expose_base64()]).map(|secret| secret.as_str().to_owned()).collect()
}

fn everything_under(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in folder.read_dir().expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(&path).expect("text")));
    }
    files
}

#[test]
fn no_key_is_told_or_kept_beyond_its_file() {
    let deployment = five_clients("vps.example.net", &[]);
    for version in [14, 15] {
        let terminal = Terminal::new();
        let source = terminal.path("source");
        std::fs::create_dir(&source).expect("folder");
        match version {
            14 => write_14(&source, &deployment),
            _ => drop(write_15(&source.join("wg-easy.db"), Schema::V15_4, &deployment)),
        }
        for args in
            [&["import", "source"][..], &["import", "source", "--json"], &["import", "source", "--apply"]]
        {
            let output = terminal.run(args);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for bytes in [output.stdout, output.stderr] {
                let text = String::from_utf8(bytes).expect("UTF-8");
                assert!(secrets(&deployment).iter().all(|secret| !text.contains(secret)), "{args:?}: {text}");
            }
        }
        let files = everything_under(terminal.config().parent().expect("folder"));
        assert_eq!(files.len(), 7, "relay.toml, the hub's key, five preshared keys");
        for client in &deployment.clients {
            let private = client.private_key().expose_base64();
            assert!(
                files.iter().all(|(_, text)| !text.contains(private.as_str())),
                "{} is kept",
                client.name
            );
        }
        let hub = files.iter().find(|(name, _)| name == "wg0.key").expect("the hub's key");
        assert_eq!(hub.1.trim().parse::<PrivateKey>().expect("a key"), deployment.hub);
    }
}
