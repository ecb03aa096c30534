//! `relay doctor`: looks at everything, and says what is wrong.

use std::{io::IsTerminal as _, process::ExitCode};

use crate::{
    cli::{DoctorArgs, Files},
    doctor::{self, facts::Facts, finding::Level, look},
    failure::Failure,
};

/// The exit code of mere warnings; 2 is that of a wrong command line.
const WARNINGS: u8 = 3;

/// Prints the findings; the exit code is that of the worst.
///
/// # Errors
/// The kernel cannot be asked at all; the file has no such peer.
pub async fn run(files: &Files, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let peer = args.peer.as_ref().map(|name| name.as_str());
    // What takes seconds is told to whoever waits for it.
    let waited_for = std::io::stderr().is_terminal();
    let say = |what: &str| {
        if waited_for {
            eprintln!("{what} …");
        }
    };
    let facts = look::look(files, peer, say).await?;
    if facts.config.as_ref().is_ok_and(|config| config.desired.home().is_some()) {
        let failure =
            Failure::refused(format!("{} is a home's, and the doctor looks at hubs", facts.path.display()));
        let hint = "`relay status` says how this end is; `relay doctor` with this home's name, on the hub, follows the way";
        return Err(failure.hint(hint).into());
    }
    let report = match peer {
        None => doctor::examine(&facts),
        Some(name) => {
            known(&facts, name)?;
            doctor::follow(&facts, name)
        }
    };
    if args.json {
        super::print_json(&report)?
    } else {
        super::print(&report.to_string())?
    }
    Ok(match report.worst {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warning => ExitCode::from(WARNINGS),
        Level::Fault => ExitCode::FAILURE,
    })
}

/// A name that the file does not have is a slip; where there is no file to ask, that is the finding.
fn known(facts: &Facts, name: &str) -> Result<(), Failure> {
    let Ok(config) = &facts.config else { return Ok(()) };
    if config.peer(name).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = config.names().collect();
    let hint =
        if names.is_empty() { "it has none yet".to_owned() } else { format!("it has {}", names.join(", ")) };
    Err(Failure::refused(format!("{} has no peer \"{name}\"", facts.path.display())).hint(hint))
}
