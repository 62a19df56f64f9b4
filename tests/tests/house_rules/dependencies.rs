//! What comes from others: which crates may be in the tree, how often, and under which licence.
//!
//! `deny.toml` is the one list; a continuous run also gives it to cargo-deny, which looks at more.

use std::{collections::BTreeMap, env, path::Path, process::Command};

use serde_json::Value;
use tests::{binary::checkout, files};

/// Crates that may be there once only: two of them are two sets of keys, of connections, or of threads.
const ONCE: [&str; 10] =
    ["rustls", "ring", "tokio", "hyper", "http", "axum", "quinn", "openraft", "fjall", "serde_json"];

#[test]
fn nothing_banned_is_in_the_tree() {
    let banned = list("deny = [");
    assert!(banned.iter().any(|name| name == "openssl-sys"), "deny.toml has a list of banned crates");
    let found: Vec<String> = locked().into_keys().filter(|name| banned.contains(name)).collect();
    assert!(found.is_empty(), "banned by deny.toml: {found:?}");
}

#[test]
fn what_holds_keys_and_connections_is_there_once() {
    let locked = locked();
    for name in ONCE {
        let versions =
            locked.get(name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock; take it off this list"));
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn every_licence_is_one_that_we_can_give_on() {
    let allowed = list("allow = [");
    assert!(allowed.iter().any(|name| name == "MIT"), "deny.toml has a list of licences");
    let mut wrong = Vec::new();
    for (name, licence) in licences() {
        if !permits(&licence, &allowed) {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(wrong.is_empty(), "not covered by deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn expressions_of_licences_are_read_right() {
    let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
    for fine in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT+"] {
        assert!(permits(fine, &allowed), "{fine}");
    }
    for wrong in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR Apache-2.0) AND MIT", ""] {
        assert!(!permits(wrong, &allowed), "{wrong}");
    }
}

/// A list of `deny.toml` by the line that opens it: the first string of each line.
fn list(opening: &str) -> Vec<String> {
    let text = files::text(Path::new("deny.toml"));
    let lines = text.lines().skip_while(|line| *line != opening).skip(1).take_while(|line| *line != "]");
    lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// Every crate of `Cargo.lock` with its versions.
fn locked() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = files::text(Path::new("Cargo.lock"));
    let mut name = String::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            value.trim_matches('"').clone_into(&mut name);
        } else if let Some(value) = line.strip_prefix("version = ")
            && !name.is_empty()
        {
            found.entry(name.clone()).or_default().push(value.trim_matches('"').to_owned());
        }
    }
    found
}

/// Licences of what is built for this machine.
fn licences() -> Vec<(String, String)> {
    let host = host();
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &host]);
    let output = command.current_dir(checkout()).output().expect("cargo runs where its tests run");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = value["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages.iter().map(|package| (text(&package["name"]), text(&package["license"]))).collect()
}

/// The kind of machine that this compiler builds for.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc is beside cargo");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc says what it builds for").to_owned()
}

/// Whether an SPDX expression can be met with these licences. `AND` binds closer than `OR`; an exception only adds
/// permissions.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at, allowed) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut fine = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        fine |= both(words, at, allowed);
    }
    fine
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut fine = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        fine &= one(words, at, allowed);
    }
    fine
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let fine = either(words, at, allowed);
        *at += 1;
        return fine;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
    }
    allowed.iter().any(|name| name == word.trim_end_matches('+'))
}
