//! The report for people.

use std::fmt::Write as _;

use super::report::{Peer, Report};
use crate::table::columns;

/// The report as text for a terminal.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let sources: Vec<String> = report.sources.iter().map(|path| path.display().to_string()).collect();
    let _ = writeln!(text, "{} in {}", report.format, sources.join(" and "));
    if !report.obstacles.is_empty() {
        section(
            &mut text,
            "Cannot be imported",
            report.obstacles.iter().map(|note| format!("{}: {}", note.place, note.message)),
        );
        let _ = writeln!(text, "\nNothing was written.");
    } else {
        let hub = &report.hub;
        let addresses: Vec<String> = hub.addresses.iter().map(ToString::to_string).collect();
        let endpoint = hub.endpoint.as_deref().unwrap_or("an endpoint the source does not tell");
        let _ = writeln!(
            text,
            "\nHub: {}, {}, UDP port {}, dialled at {endpoint}\n",
            hub.interface,
            addresses.join(" and "),
            hub.listen_port
        );
        text.push_str(&table(&report.peers));
    }
    section(
        &mut text,
        "Left out",
        report.left_out.iter().map(|each| format!("{}: {}: {}", each.place, each.what, each.why)),
    );
    section(
        &mut text,
        "To know",
        report.notes.iter().map(|note| format!("{}: {}", note.place, note.message)),
    );
    section(&mut text, "Hooks, none of which is run", hooks(report).into_iter());
    for peer in report.peers.iter().filter(|peer| !peer.own_file.is_empty()) {
        let title = format!("In the file that {} uses itself (it connects without, too)", peer.name);
        section(&mut text, &title, peer.own_file.iter().cloned());
    }
    if report.obstacles.is_empty() {
        section(&mut text, "Files", report.files.iter().map(|path| path.display().to_string()));
        section(&mut text, "Then", report.then.iter().cloned());
    }
    text
}

/// Each meaning once, under the commands that have it.
fn hooks(report: &Report) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for hook in &report.hooks {
        let command = format!("{} `{}`", hook.when, hook.command);
        match groups.iter_mut().find(|(meaning, _)| *meaning == hook.meaning) {
            Some((_, commands)) => commands.push(command),
            None => groups.push((hook.meaning, vec![command])),
        }
    }
    groups
        .into_iter()
        .map(|(meaning, commands)| format!("{}\n    {meaning}", commands.join("\n  ")))
        .collect()
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n{title}:");
        lines.for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
}

fn table(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers\n".to_owned();
    }
    let header = ["PEER", "FOUND AS", "ADDRESSES", "LANS", "TAKES PART", "FULL TUNNEL", "PRESHARED KEY"];
    let rows = peers.iter().map(|peer| {
        let lans: Vec<String> = peer.lans.iter().map(ToString::to_string).collect();
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
        let part = match (&peer.expires, peer.enabled) {
            (Some(expires), true) => format!("until {expires}"),
            (Some(expires), false) => format!("no (expires {expires})"),
            (None, enabled) => yes(enabled),
        };
        vec![
            peer.name.clone(),
            peer.found_as.as_ref().map_or_else(|| "-".to_owned(), |name| format!("\"{name}\"")),
            peer.addresses.join(","),
            or_dash(lans.join(",")),
            part,
            yes(peer.full_tunnel),
            yes(peer.preshared_key),
        ]
    });
    columns(&std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>(), &[])
}
