//! What Prometheus gets of a hub that runs: over the control socket, over TCP, and by `relay metrics`; and that dashboard
//! and alerts ask for nothing else.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{self, Relay},
    netns::{Netns, checked, wait_for},
};
use serde_json::Value;

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(20);

/// A name with all that a label has to escape.
const ODD: &str = r#"Zoë's "x" \ [y]"#;

const CURL: [&str; 4] = ["-sS", "--fail", "--max-time", "20"];

fn hub<'a>(machine: &'a Netns, listen: &str) -> Result<Relay<'a>> {
    let mut hub = Relay::init(machine, &relay::binary()?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.run(&["peer", "add", ODD])?;
    let text = machine.run("cat /run/lab/relay.toml")?;
    hub.write(&format!("{text}\n[metrics]\nlisten = \"{listen}\"\n"))?;
    hub.up()?;
    Ok(hub)
}

fn scrape(machine: &Netns, address: &str) -> Result<String> {
    checked(machine.command("curl").args(CURL).arg(format!("http://{address}/metrics")))
}

/// The families that a text of metrics has samples of.
fn families(metrics: &str) -> BTreeSet<String> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split('{').next()).map(str::to_owned).collect()
}

/// The value of the one sample that begins so.
fn value(metrics: &str, sample: &str) -> Result<f64> {
    let line =
        metrics.lines().find(|line| line.starts_with(sample)).with_context(|| format!("no {sample}"))?;
    Ok(line.rsplit(' ').next().context("no value")?.parse()?)
}

/// A file of dist/.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(name)
}

/// Every PromQL expression of the dashboard, and of the queries for its variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "expr" || key == "query" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// Names of metrics in an expression: what begins as all of relay's do.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("relay_") || word.starts_with("wireguard_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_socket_and_the_listener_say_the_same() -> Result<()> {
    let machine = Netns::new("metrics")?;
    let hub = hub(&machine, "9586")?;
    // The history says whether it works once it has tried, on a thread of its own.
    let metrics = wait_for("the first word of the history", DEADLINE, || {
        let metrics = scrape(&machine, "127.0.0.1:9586")?;
        ensure!(families(&metrics).contains("relay_history_working"), "{metrics}");
        Ok(metrics)
    })?;
    let socket = ["--unix-socket", "/run/relay/relay.sock", "-D", "/run/head"];
    let by_socket = checked(machine.command("curl").args(CURL).args(socket).arg("http://relay/metrics"))?;
    let head = machine.run("cat /run/head")?.to_ascii_lowercase();
    ensure!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for text in [&by_socket, &hub.run(&["metrics"])?] {
        ensure!(families(text) == families(&metrics), "{text}\n\nis not\n\n{metrics}");
    }
    ensure!(value(&metrics, "relay_peers{")? == 2.0, "{metrics}");
    ensure!(value(&metrics, "relay_build_info{")? == 1.0, "{metrics}");
    ensure!(value(&metrics, "relay_reconcile_changes_total{")? > 5.0, "{metrics}");
    ensure!(
        value(&metrics, "relay_packets_total{interface=\"wg0\",verdict=\"redirected\"}").is_ok(),
        "{metrics}"
    );
    let label = r#"allowed_ips="10.9.0.2/32,"#;
    ensure!(
        metrics.lines().any(|line| line.contains(label) && line.contains("192.168.40.0/24")),
        "{metrics}"
    );
    ensure!(metrics.contains(r#"friendly_name="Zoë's \"x\" \\ [y]""#), "{metrics}");
    ensure!(!metrics.contains(relay_tests::lab::world::VPS), "an address of somebody: {metrics}");
    let private = machine.run("cat /run/lab/wg0.key")?;
    ensure!(!metrics.contains(private.trim()), "the hub's private key");

    let runs = value(&metrics, "relay_reconcile_runs_total{")?;
    wait_for("another look", DEADLINE, || {
        ensure!(value(&scrape(&machine, "127.0.0.1:9586")?, "relay_reconcile_runs_total{")? > runs);
        Ok(())
    })?;
    let elsewhere = machine.command("curl").args(CURL).arg("http://127.0.0.1:9586/status").output()?;
    ensure!(!elsewhere.status.success(), "the listener answers more than it should");
    Ok(())
}

#[test]
fn the_listener_follows_the_file_and_one_that_cannot_be_had_is_a_problem() -> Result<()> {
    let machine = Netns::new("listens")?;
    let hub = hub(&machine, "127.0.0.1:9586")?;
    scrape(&machine, "127.0.0.1:9586")?;
    // The tunnel's own address: not loopback, so relay says what that means.
    hub.edit("listen = \"127.0.0.1:9586\"", "listen = \"10.9.0.1:9587\"")?;
    hub.run(&["reload"])?;
    scrape(&machine, "10.9.0.1:9587")?;
    ensure!(scrape(&machine, "127.0.0.1:9586").is_err(), "the old listener is still there");
    ensure!(hub.log().contains("whoever reaches this address"), "{}", hub.log());

    // An address that is not there; the hub goes on without.
    hub.edit("listen = \"10.9.0.1:9587\"", "listen = \"192.0.2.77:9588\"")?;
    let said = hub.run(&["reload"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("cannot listen for Prometheus on 192.0.2.77:9588"), "{said}");
    let status = hub.run(&["status", "--json"])?;
    ensure!(status.contains("192.0.2.77:9588"), "{status}");
    // Once it can be had, it is; `reload` tries at once.
    machine.run("ip address add 192.0.2.77/32 dev lo")?;
    hub.run(&["reload"])?;
    scrape(&machine, "192.0.2.77:9588")?;
    ensure!(!hub.run(&["status", "--json"])?.contains("cannot listen"), "a problem that is gone");
    Ok(())
}

#[test]
fn who_says_nothing_is_in_nobodys_way() -> Result<()> {
    let machine = Netns::new("silent")?;
    let hub = hub(&machine, "9586")?;
    // More than the listener talks to at a time.
    let silent = machine.inside(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9586));
        let connect = |_| TcpStream::connect_timeout(&address, DEADLINE).context("connecting");
        (0..24).map(connect).collect::<Result<Vec<_>>>()
    })?;
    hub.run(&["metrics"])?;
    hub.run(&["reload"])?;
    drop(silent);
    wait_for("the listener to be free again", DEADLINE, || scrape(&machine, "127.0.0.1:9586")).map(drop)
}

#[test]
fn dashboard_and_alerts_ask_for_what_there_is() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("dashboard and alerts say the same on any kernel");
        return Ok(());
    }
    let machine = Netns::new("dashboard")?;
    let hub = hub(&machine, "9586")?;
    let there = wait_for("the first word of the history", DEADLINE, || {
        let there = families(&hub.run(&["metrics"])?);
        ensure!(there.contains("relay_history_working"), "{there:?}");
        Ok(there)
    })?;
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(shipped("grafana-dashboard.json"))?)?;
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    let alerts = fs::read_to_string(shipped("alerts.yml"))?;
    // Labels of an alert and texts for people name no metric.
    let rules = alerts.lines().filter(|line| !line.trim_start().starts_with('#'));
    asked.extend(rules.map(str::to_owned));
    let names: BTreeSet<String> = asked.iter().flat_map(|expression| names(expression)).collect();
    ensure!(names.len() > 10, "too few to be true: {names:?}");
    let missing: Vec<_> = names.difference(&there).collect();
    ensure!(missing.is_empty(), "nobody exports {missing:?}; there are {there:?}");
    Ok(())
}

#[test]
fn promtool_is_content() -> Result<()> {
    let Some(promtool) = env::var_os("RELAY_PROMTOOL").map(PathBuf::from) else {
        guest::skip("promtool is not here; `cargo xtask test netns` unpacks it on the host");
        return Ok(());
    };
    let machine = Netns::new("promtool")?;
    let hub = hub(&machine, "9586")?;
    let judge = |metrics: &str| -> Result<String> {
        let mut child = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting promtool")?;
        child.stdin.take().context("promtool has no stdin")?.write_all(metrics.as_bytes())?;
        let output = child.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok(format!(
            "{}{}",
            String::from_utf8_lossy(&said),
            if output.status.success() { "" } else { "failed" }
        ))
    };
    let metrics = hub.run(&["metrics"])?;
    let said = judge(&metrics)?;
    ensure!(said.is_empty(), "{said}\n{metrics}");
    // It does see what is wrong.
    let wrong = metrics.replace("relay_reconcile_runs_total", "relay_reconcile_runs");
    ensure!(judge(&wrong)?.contains("relay_reconcile_runs"), "promtool takes everything");

    checked(Command::new(&promtool).args(["check", "rules"]).arg(shipped("alerts.yml")))?;
    // The dashboard's expressions as rules, with Grafana's variables filled in.
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(shipped("grafana-dashboard.json"))?)?;
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    asked.retain(|expression| expression != "prometheus" && !expression.starts_with("label_values("));
    let rules: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            let filled = expression
                .replace("$__rate_interval", "5m")
                .replace("$interface", ".*")
                .replace("$peer", ".*");
            format!("  - record: panel:{number}\n    expr: {}\n", Value::String(filled))
        })
        .collect();
    ensure!(rules.len() > 10, "{asked:?}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, format!("groups:\n- name: dashboard\n  rules:\n{}", rules.concat()))?;
    checked(Command::new(&promtool).args(["check", "rules"]).arg(&file)).map(drop)
}
