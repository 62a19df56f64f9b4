//! Which crate may see which, and which one knows each outside thing.

use std::{collections::BTreeMap, env, process::Command};

use serde_json::Value;
use tests::binary::checkout;

/// What each crate of ours may depend on. Arrows point one way only; a line here is a decision, so a wish for another
/// edge is first a look at whether the shared part belongs lower.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("mutants", &[]),
    ("runtime", &[]),
    ("model", &[]),
    ("hcl", &[]),
    ("jobspec", &["hcl", "model"]),
    ("protocol", &["model"]),
    ("state", &["model", "protocol"]),
    ("scheduler", &["model", "protocol", "state"]),
    ("control", &["model", "protocol", "state", "scheduler"]),
    ("raft", &["runtime", "protocol", "state"]),
    ("transport", &[]),
    ("join", &["runtime", "model", "transport"]),
    ("gossip-core", &[]),
    ("gossip-driver", &["gossip-core"]),
    (
        "server",
        &[
            "runtime",
            "model",
            "protocol",
            "state",
            "scheduler",
            "control",
            "jobspec",
            "raft",
            "transport",
            "join",
            "gossip-core",
            "gossip-driver",
        ],
    ),
    ("driver", &["runtime", "model", "protocol"]),
    ("driver-docker", &["runtime", "model", "driver"]),
    ("driver-mock", &["runtime", "model", "driver"]),
    ("driver-raw-exec", &["runtime", "model", "driver"]),
    ("client", &["runtime", "model", "protocol", "driver", "transport"]),
    ("api-types", &["model"]),
    (
        "api",
        &[
            "runtime",
            "model",
            "protocol",
            "state",
            "scheduler",
            "jobspec",
            "hcl",
            "raft",
            "transport",
            "join",
            "server",
            "client",
            "api-types",
            "tls",
        ],
    ),
    ("tls", &[]),
    ("sdk", &["api-types", "tls"]),
    ("cli", &["sdk", "tls", "api-types", "jobspec", "hcl"]),
    ("bench", &["runtime", "model", "protocol", "transport", "driver", "client", "sdk", "api-types"]),
    ("ui", &[]),
    ("chaos-check", &["model", "state"]),
    ("tests", &[]),
    ("wayfarer", EVERYTHING),
    ("chaos-sim", EVERYTHING),
    ("chaos-storage", EVERYTHING),
    ("chaos-cluster", &["chaos-check", "model"]),
];

/// A crate that is nothing in the product: every other one may see it.
const SEEN_BY_ALL: &str = "mutants";

/// The binary alone wires things together, and the simulation is a second binary of the same parts.
const EVERYTHING: &[&str] = &["*"];

/// Each outside thing and the one crate that knows it. Elsewhere we use our own words, so that a change of theirs is a
/// change in one place.
const KNOWN_BY_ONE: [(&str, &[&str]); 15] = [
    ("foca", &["gossip-core"]),
    ("quinn", &["transport"]),
    ("quinn-proto", &["transport"]),
    // Agents among themselves, and callers of the API: two things with nothing in common but the library.
    ("rustls", &["transport", "tls"]),
    ("rcgen", &["transport", "tls"]),
    ("tokio-rustls", &["tls"]),
    ("openraft", &["raft"]),
    ("fjall", &["raft"]),
    ("bollard", &["driver-docker"]),
    ("axum", &["api"]),
    ("tokio-tungstenite", &["sdk"]),
    ("imbl", &["state"]),
    ("yaml-rust2", &["hcl"]),
    ("hcl-edit", &["hcl"]),
    ("prometheus-client", &["api"]),
];

/// Crates that decide and do nothing: without a runtime in their manifest they can not do otherwise.
const PURE: [&str; 10] = [
    "model",
    "hcl",
    "jobspec",
    "protocol",
    "state",
    "scheduler",
    "control",
    "gossip-core",
    "api-types",
    "chaos-check",
];

/// What would give a pure crate time, threads, sockets or chance.
const IMPURE: [&str; 8] = ["tokio", "tokio-util", "hyper", "socket2", "nix", "rustix", "rand", "runtime"];

/// What a pure crate may have all the same. foca draws from a generator that it is handed; `gossip-core` makes it from a
/// seed that it is given, and `clippy.toml` denies the generators that nobody seeds.
const EXCUSED: [(&str, &str); 1] = [("gossip-core", "rand")];

struct Crate {
    name: String,
    /// What the product is built from.
    normal: Vec<String>,
    /// Those and what its tests use.
    all: Vec<String>,
}

#[test]
fn arrows_between_crates_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_SEE.iter().copied().collect();
    let ours: Vec<Crate> = crates();
    let mut wrong = Vec::new();
    for each in &ours {
        let Some(may_see) = allowed.get(each.name.as_str()) else {
            wrong.push(format!("{} is not in MAY_SEE: say what it may see", each.name));
            continue;
        };
        let seen = each.normal.iter().filter(|name| **name != SEEN_BY_ALL);
        let seen = seen.filter(|name| ours.iter().any(|other| other.name == **name));
        let bad = seen.filter(|name| *may_see != EVERYTHING && !may_see.contains(&name.as_str()));
        wrong.extend(bad.map(|name| format!("{} sees {name}", each.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_arrows_has_no_circle() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_SEE.iter().copied().collect();
    let mut settled: Vec<&str> = Vec::new();
    while settled.len() < allowed.len() {
        let next: Vec<&str> = allowed
            .iter()
            .filter(|(name, sees)| {
                !settled.contains(name) && sees.iter().all(|seen| *seen == "*" || settled.contains(seen))
            })
            .map(|(name, _)| *name)
            .collect();
        assert!(!next.is_empty(), "these see each other in a circle: {:?}", {
            let left = allowed.keys().filter(|name| !settled.contains(name));
            left.collect::<Vec<_>>()
        });
        settled.extend(next);
    }
}

#[test]
fn one_crate_knows_each_outside_thing() {
    let wrong: Vec<String> = crates()
        .iter()
        .flat_map(|each| {
            let knows = KNOWN_BY_ONE.iter().filter(|(thing, keepers)| {
                !keepers.contains(&each.name.as_str()) && each.all.iter().any(|name| name == thing)
            });
            knows
                .map(|(thing, keepers)| format!("{} knows {thing}, which is of {keepers:?}", each.name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_that_decide_can_do_nothing() {
    let wrong: Vec<String> = crates()
        .iter()
        .filter(|each| PURE.contains(&each.name.as_str()))
        .flat_map(|each| {
            let excused = |name: &str| EXCUSED.contains(&(each.name.as_str(), name));
            let bad = each.all.iter().filter(|name| IMPURE.contains(&name.as_str()) && !excused(name));
            bad.map(|name| format!("{} has {name} in its manifest", each.name)).collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn versions_and_features_stand_in_one_list() {
    let mut wrong = Vec::new();
    for manifest in tests::files::with_extension("toml").iter().filter(|path| path.ends_with("Cargo.toml")) {
        if manifest.components().count() == 1 {
            continue;
        }
        let text = tests::files::text(manifest);
        for line in text.lines() {
            if line.contains("version = \"") || line.contains("features = [") || line.contains("git = ") {
                wrong.push(format!("{}: {line}", manifest.display()));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{}: does not take the workspace's lints", manifest.display()));
        }
    }
    assert!(wrong.is_empty(), "these belong in the list of the top manifest:\n{}", wrong.join("\n"));
}

/// The crates of the workspace, as cargo reads them.
fn crates() -> Vec<Crate> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
        .current_dir(checkout());
    let output = command.output().expect("cargo runs where its tests run");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().expect("packages have names").to_owned();
    let packages = list(&value["packages"]);
    assert!(packages.len() > 20, "cargo reads the whole workspace");
    packages
        .iter()
        .map(|package| {
            let dependencies = list(&package["dependencies"]);
            let normal = dependencies.iter().filter(|one| one["kind"].is_null());
            Crate {
                name: name(package),
                normal: normal.map(name).collect(),
                all: dependencies.iter().map(name).collect(),
            }
        })
        .collect()
}
