//! Writes the corpora that fuzzing begins with: deployments as the tools write them.

#[path = "../tests/import/wg_easy.rs"]
mod wg_easy;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use wg_easy::{SCHEMAS, client_file_14, client_file_15, five_clients, write_14, write_15};

fn main() -> io::Result<()> {
    let corpora = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("corpus"), PathBuf::from);
    let folder = |target: &str| {
        let folder = corpora.join(target);
        fs::create_dir_all(&folder).map(|()| folder)
    };
    let deployment = five_clients("vps.example.net", &["1.1.1.1"]);
    let made = tempfile::tempdir()?;
    write_14(made.path(), &deployment);
    let (json, conf) = (made.path().join("wg0.json"), made.path().join("wg0.conf"));

    let quick = folder("wg_quick")?;
    fs::copy(&conf, quick.join("wg-easy-14"))?;
    for client in &deployment.clients {
        fs::write(quick.join(format!("client-14-{}", client.number)), client_file_14(&deployment, client))?;
        fs::write(quick.join(format!("client-15-{}", client.number)), client_file_15(&deployment, client))?;
    }
    fs::write(quick.join("by-hand"), by_hand(&fs::read_to_string(&conf)?))?;

    let easy14 = folder("wg_easy14")?;
    fs::copy(&json, easy14.join("json"))?;
    fs::write(
        easy14.join("both"),
        format!("{}\0{}", fs::read_to_string(&json)?, fs::read_to_string(&conf)?),
    )?;

    let (easy15, toml) = (folder("wg_easy15")?, folder("relay_toml")?);
    for schema in SCHEMAS {
        let path = made.path().join(format!("{schema:?}.db"));
        drop(write_15(&path, schema, &deployment));
        fs::copy(&path, easy15.join(format!("{schema:?}")))?;
        fs::write(toml.join(format!("{schema:?}")), imported(&path))?;
    }
    fs::write(toml.join("wg-easy-14"), imported(&json))?;
    Ok(())
}

/// Other cases and line ends, comments, several lines of one key, signs.
fn by_hand(conf: &str) -> String {
    let extra = "# friendly_name = x\nAllowedIPs = +192.168.9.0/24, -192.168.9.0/24\nEndpoint = [2001:db8::1]:51820\n\
                 PersistentKeepalive = 25\n";
    format!("\u{feff}{}{extra}", conf.replace("AllowedIPs", "allowedips").replace('\n', "\r\n"))
}

fn imported(source: &Path) -> String {
    let found = relay_user::import::read(source).expect("readable");
    let surroundings = relay_user::import::mapping::Surroundings {
        config: Path::new("/etc/relay/relay.toml"),
        networks: &[],
        endpoint: None,
        now: "2026-11-25T12:00:00Z".parse().expect("a moment"),
    };
    relay_user::import::mapping::map(&found, &surroundings).files.expect("importable").text
}
