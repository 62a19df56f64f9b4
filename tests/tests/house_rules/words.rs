//! Names that say nothing, things that must not be in a checkout, and links that lead nowhere.

use std::path::{Path, PathBuf};

use tests::{binary::checkout, files};

/// A module with one of these names holds whatever found no place.
const HOLLOW_MODULES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "misc", "stuff", "manager"];

/// Ends of type names that say nothing about the type.
const HOLLOW_TYPES: [&str; 4] = ["Manager", "Helper", "Util", "Utils"];

/// What is never left in code: half-done work, and tests that do not count.
const UNFINISHED: [&str; 6] = ["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "#[ignore"];

/// Files that may go around the rule that time, chance and threads come from `runtime`. The reason stands in the file.
const OWN_CLOCK: [&str; 13] = [
    "src/runtime/src/",
    // It starts other processes and measures how long they take.
    "chaos/check/src/bin/",
    // It measures a whole sweep.
    "chaos/storage/src/bin/",
    "src/driver/src/conformance/",
    // A shim is a process of its own, without a runtime.
    "src/driver/src/shim/",
    "src/wayfarer/src/log.rs",
    "transport/src/host.rs",
    "gossip/driver/src/host.rs",
    "tests/src/wait.rs",
    // The processes that it breaks live in real time.
    "chaos/cluster/src/clock.rs",
    // What measures or tests real processes, disks and sockets does so in real time.
    "/benches/",
    "/examples/",
    "/tests/",
];

#[test]
fn names_of_modules_say_what_is_inside() {
    let hollow: Vec<PathBuf> = files::with_extension("rs")
        .into_iter()
        .filter(|path| {
            path.with_extension("")
                .components()
                .any(|part| HOLLOW_MODULES.iter().any(|word| part.as_os_str() == *word))
        })
        .collect();
    assert!(hollow.is_empty(), "name these after what they hold: {hollow:?}");
}

#[test]
fn names_of_types_and_functions_follow_the_house() {
    let mut wrong = Vec::new();
    each_line(|path, number, line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_hollow = matches!(kind, "struct" | "enum" | "trait" | "type")
            && HOLLOW_TYPES.iter().any(|end| name.ends_with(end));
        if is_hollow || (kind == "fn" && name.starts_with("get_") && !path.starts_with("src/sdk")) {
            wrong.push(format!("{}:{number}: {name}", path.display()));
        }
    });
    assert!(wrong.is_empty(), "no Manager, Helper or get_:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_half_done() {
    let mut wrong = Vec::new();
    each_line(|path, number, line| {
        if path != Path::new("tests/tests/house_rules/words.rs")
            && UNFINISHED.iter().any(|word| line.contains(word))
        {
            wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
        }
    });
    assert!(wrong.is_empty(), "finish or file these:\n{}", wrong.join("\n"));
}

#[test]
fn time_and_threads_come_from_the_runtime() {
    let mut wrong = Vec::new();
    each_line(|path, number, line| {
        let excuses =
            line.contains("clippy::disallowed_methods") && !path.starts_with("tests/tests/house_rules");
        if excuses && !OWN_CLOCK.iter().any(|place| path.to_str().is_some_and(|path| path.contains(place))) {
            wrong.push(format!("{}:{number}", path.display()));
        }
    });
    assert!(wrong.is_empty(), "these are invisible to the simulation; go through `runtime`: {wrong:?}");
}

#[test]
fn no_machine_s_paths_are_in_the_checkout() {
    // Put together here, so that this file does not hold them.
    let homes: Vec<String> = ["root", "home", "work", "Users"].iter().map(|dir| format!("/{dir}/")).collect();
    let mut wrong = Vec::new();
    for extension in ["rs", "md", "toml", "sh", "py", "hcl", "json", "txt"] {
        for path in files::with_extension(extension) {
            for (number, line) in files::text(&path).lines().enumerate() {
                // A path begins where no word goes on: `https://x/home/` and `${dir}/root/` are others' names.
                let holds = homes.iter().any(|home| {
                    line.match_indices(home.as_str()).any(|(at, _)| {
                        let before = line[..at].chars().next_back();
                        before.is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '=' | '('))
                    })
                });
                if holds && !is_someone_elses(&path) {
                    wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "paths of one machine:\n{}", wrong.join("\n"));
}

/// Recorded answers and the job texts beside them hold what a real agent said of its own tasks.
fn is_someone_elses(path: &Path) -> bool {
    path.starts_with("tests/recorded")
        || path.to_str().is_some_and(|path| path.contains("/tests/") || path.contains("recorded"))
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in files::with_extension("md").iter().filter(|path| !path.starts_with("tests/recorded")) {
        let dir = path.parent().expect("a file lies in a directory");
        for target in links(&files::text(path)) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !checkout().join(dir).join(file).exists() {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

fn links(text: &str) -> Vec<String> {
    let parts = text.split("](").skip(1);
    parts.filter_map(|part| part.split_once(')').map(|(target, _)| target.to_owned())).collect()
}

fn each_line(mut look: impl FnMut(&Path, usize, &str)) {
    for path in files::with_extension("rs") {
        for (number, line) in files::text(&path).lines().enumerate() {
            look(&path, number + 1, line);
        }
    }
}
