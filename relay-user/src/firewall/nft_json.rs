//! Reads what `nft -j list ruleset` and `nft -s -a list ruleset` print.
//!
//! The JSON (libnftables-json(5)) says what a rule does; the text is what people know it by, and is joined to it by
//! the rule's handle. nft 1.0.6 leaves the device of a netdev chain out of the JSON, so that too is taken from the
//! text. JSON that is valid and unknown becomes [`Test::Unknown`] or [`Statement::Changes`].

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::ruleset::{Base, Chain, Family, Hook, Match, Part, Rule, Ruleset, Source, Statement, Table, Test};

mod values;

/// Why nft's output could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("nft's JSON is not what libnftables-json(5) describes: {0}")]
pub struct BadJson(String);

/// The ruleset; tables of the families `arp` and `bridge` are left out, since IP packets between tunnels meet neither.
///
/// # Errors
///
/// Text that is not JSON, or JSON without the array `nftables`.
pub fn parse(json: &str, text: &str) -> Result<Ruleset, BadJson> {
    let root: Value = serde_json::from_str(json).map_err(|error| BadJson(error.to_string()))?;
    let objects = root["nftables"].as_array().ok_or_else(|| BadJson("no array `nftables`".to_owned()))?;
    let texts = Texts::read(text);
    let mut tables: Vec<Table> = Vec::new();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            let Some(table) = table_of(&mut tables, chain) else { continue };
            let name = string(chain, "name");
            let base = base(chain, texts.devices.get(&texts.key(chain, &name)));
            table.chains.entry(name).or_default().base = base;
        } else if let Some(rule) = object.get("rule") {
            let Some(table) = table_of(&mut tables, rule) else { continue };
            let handle = rule["handle"].as_u64();
            let text = texts.rules.get(&texts.key(rule, &handle.unwrap_or_default().to_string())).cloned();
            let chain: &mut Chain = table.chains.entry(string(rule, "chain")).or_default();
            chain.rules.push(Rule {
                text: text.unwrap_or_else(|| rule["expr"].to_string()),
                handle,
                comment: rule["comment"].as_str().map(str::to_owned),
                opaque: has_extension(&rule["expr"]),
                variants: variants(&rule["expr"]),
            });
        } else if let Some(table) = object.get("table") {
            let _ = table_of(
                &mut tables,
                &serde_json::json!({ "family": table["family"], "table": table["name"] }),
            );
        }
    }
    Ok(Ruleset { tables, ..Ruleset::default() })
}

/// The table that a chain or rule belongs to, made if it is new; `None` for families that do not matter.
fn table_of<'a>(tables: &'a mut Vec<Table>, object: &Value) -> Option<&'a mut Table> {
    let family = match object["family"].as_str()? {
        "ip" => Family::Ip,
        "ip6" => Family::Ip6,
        "inet" => Family::Inet,
        "netdev" => Family::Netdev,
        _ => return None,
    };
    let name = string(object, "table");
    let at = tables.iter().position(|t| t.family == family && t.name == name).unwrap_or_else(|| {
        tables.push(Table { source: Source::Nft, family, name, chains: BTreeMap::new() });
        tables.len() - 1
    });
    tables.get_mut(at)
}

fn base(chain: &Value, devices: Option<&Vec<String>>) -> Option<Base> {
    let hook = Hook::named(chain["hook"].as_str()?)?;
    let named = match &chain["dev"] {
        Value::String(device) => vec![device.clone()],
        Value::Array(devices) => devices.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => devices.cloned().unwrap_or_default(),
    };
    Some(Base {
        hook,
        priority: chain["prio"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
        drops: chain["policy"].as_str() == Some("drop"),
        devices: named,
    })
}

fn string(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn has_extension(expressions: &Value) -> bool {
    expressions.as_array().is_some_and(|list| list.iter().any(|expression| expression.get("xt").is_some()))
}

/// The rule's parts, once for each way through its verdict maps.
fn variants(expressions: &Value) -> Vec<Vec<Part>> {
    let mut variants: Vec<Vec<Part>> = vec![Vec::new()];
    for expression in expressions.as_array().into_iter().flatten() {
        let ways = ways(expression);
        variants = variants
            .into_iter()
            .flat_map(|before| ways.iter().map(move |way| [before.as_slice(), way.as_slice()].concat()))
            .collect();
    }
    variants
}

/// What one expression comes to: one list of parts, or one for each element of a verdict map.
fn ways(expression: &Value) -> Vec<Vec<Part>> {
    let Some((name, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
        return vec![vec![Part::Do(Statement::Changes)]];
    };
    match name.as_str() {
        "match" => vec![values::matches(body).into_iter().map(Part::Match).collect()],
        "vmap" => verdict_map(body),
        "xt" => vec![extension(body)],
        // Conditions on rates and amounts.
        "limit" | "quota" | "ct count" | "meter" => vec![vec![unknown()]],
        _ => vec![vec![Part::Do(statement(name, body))]],
    }
}

fn unknown() -> Part {
    Part::Match(Match { negated: false, test: Test::Unknown })
}

fn statement(name: &str, body: &Value) -> Statement {
    let target = || body["target"].as_str().unwrap_or_default().to_owned();
    match name {
        "accept" => Statement::Accept,
        "drop" | "reject" => Statement::Drop,
        "jump" => Statement::Jump(target()),
        "goto" => Statement::Goto(target()),
        "return" => Statement::Return,
        "continue" | "counter" | "log" | "last" => Statement::Harmless,
        "mangle" if clamps_mss(body) => Statement::Harmless,
        _ => Statement::Changes,
    }
}

/// `tcp option maxseg size set rt mtu`.
fn clamps_mss(mangle: &Value) -> bool {
    let option = &mangle["key"]["tcp option"];
    option["name"] == "maxseg" && option["field"] == "size" && mangle["value"]["rt"]["key"] == "mtu"
}

/// A verdict map as a list of "if it is this, then that"; the catch-all is "if it is none of the others".
fn verdict_map(body: &Value) -> Vec<Vec<Part>> {
    let Some(elements) = body["data"]["set"].as_array() else {
        // A named map, whose elements come and go.
        return vec![vec![Part::Do(Statement::Changes)]];
    };
    let keys: Vec<Value> = elements.iter().map(|pair| pair[0].clone()).filter(|key| key != "*").collect();
    let mut ways: Vec<Vec<Part>> = Vec::new();
    for pair in elements {
        let (op, right) =
            if pair[0] == "*" { ("!=", Value::Array(keys.clone())) } else { ("==", pair[0].clone()) };
        let condition = serde_json::json!({ "op": op, "left": body["key"], "right": right });
        let mut way: Vec<Part> = values::matches(&condition).into_iter().map(Part::Match).collect();
        way.extend(ways_of_verdict(&pair[1]));
        ways.push(way);
    }
    ways
}

fn ways_of_verdict(verdict: &Value) -> Vec<Part> {
    match verdict.as_object().and_then(|object| object.iter().next()) {
        Some((name, body)) => vec![Part::Do(statement(name, body))],
        None => vec![Part::Do(Statement::Changes)],
    }
}

/// An extension of iptables, of which nft tells the name.
fn extension(body: &Value) -> Vec<Part> {
    match (body["type"].as_str(), body["name"].as_str()) {
        (Some("match"), Some("comment")) => Vec::new(),
        (Some("match"), _) => vec![unknown()],
        (Some("target"), Some("LOG" | "NFLOG")) => vec![Part::Do(Statement::Harmless)],
        (Some("target"), Some("REJECT")) => vec![Part::Do(Statement::Drop)],
        _ => vec![Part::Do(Statement::Changes)],
    }
}

/// What the text knows: rules by handle, devices by chain.
struct Texts {
    rules: HashMap<(String, String, String), String>,
    devices: HashMap<(String, String, String), Vec<String>>,
}

impl Texts {
    /// The key of a rule (by handle) or a chain (by name).
    fn key(&self, object: &Value, which: &str) -> (String, String, String) {
        (string(object, "family"), string(object, "table"), which.to_owned())
    }

    fn read(text: &str) -> Self {
        let mut found = Self { rules: HashMap::new(), devices: HashMap::new() };
        let (mut family, mut table, mut chain) = (String::new(), String::new(), String::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", of, name, "{", ..] => (family, table) = ((*of).to_owned(), (*name).to_owned()),
                ["chain", name, "{", ..] => chain = (*name).to_owned(),
                ["type", _, "hook", _, rest @ ..] => {
                    found.devices.insert((family.clone(), table.clone(), chain.clone()), devices(rest));
                }
                _ => {
                    let Some((rule, handle)) = line.rsplit_once(" # handle ") else { continue };
                    let key = (family.clone(), table.clone(), handle.trim().to_owned());
                    found.rules.insert(key, rule.trim().to_owned());
                }
            }
        }
        found
    }
}

/// `device "lo" priority …` or `devices = { "lo", eth0 } priority …`, up to the priority.
fn devices(words: &[&str]) -> Vec<String> {
    words
        .iter()
        .take_while(|&&word| word != "priority")
        .map(|word| word.trim_matches(|c| "{},=\"".contains(c)))
        .filter(|word| !word.is_empty() && *word != "device" && *word != "devices")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
