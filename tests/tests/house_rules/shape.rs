//! Sizes of files and functions, and what every crate opens with.

use std::{collections::BTreeMap, path::Path};

use tests::files;

/// Past this a file holds two ideas.
const FILE_LINES_MAX: usize = 1_000;

/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer, with their lines. The list only shrinks: a line that is not true any more has to go, and
/// none may grow.
const LONGER: &str = include_str!("longer_functions.txt");

#[test]
fn files_hold_one_idea() {
    let long: Vec<String> = files::with_extension("rs")
        .iter()
        .map(|path| (path, files::text(path).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split these; {FILE_LINES_MAX} lines is the most:\n{}", long.join("\n"));
}

#[test]
fn functions_fit_a_screen() {
    let excused: BTreeMap<&str, usize> = LONGER
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').expect("a name and a number"))
        .map(|(name, lines)| (name, lines.parse().expect("a number of lines")))
        .collect();
    let mut found = BTreeMap::new();
    for path in files::with_extension("rs") {
        for (name, lines) in functions(&files::text(&path)) {
            if lines > FUNCTION_LINES_MAX {
                found.insert(format!("{}::{name}", path.display()), lines);
            }
        }
    }
    let mut wrong = Vec::new();
    for (name, lines) in &found {
        match excused.get(name.as_str()) {
            None => wrong
                .push(format!("{name} has {lines} lines: find its parts ({FUNCTION_LINES_MAX} is the most)")),
            Some(before) if before < lines => {
                wrong.push(format!("{name} grew from {before} to {lines} lines"))
            }
            Some(before) if before > lines => {
                wrong.push(format!("{name} shrank to {lines} lines: write so in the list"))
            }
            Some(_) => {}
        }
    }
    let stale = excused.keys().filter(|name| !found.contains_key(**name));
    wrong.extend(stale.map(|name| format!("{name} is short enough: take it off the list")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_measure_of_functions_measures() {
    let text = "fn short() {}\n\nimpl X {\n    pub(crate) async fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n}\n";
    assert_eq!(functions(text), [("short".to_owned(), 1), ("long".to_owned(), 5)]);
}

#[test]
fn crates_say_what_they_are_for() {
    let mut silent = Vec::new();
    for path in files::with_extension("rs") {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if is_root && !files::text(&path).starts_with("//! ") {
            silent.push(path.display().to_string());
        }
    }
    assert!(silent.is_empty(), "these open without a word on what they are for: {silent:?}");
}

#[test]
fn the_map_names_every_crate() {
    let map = files::text(Path::new("docs/architecture.md"));
    let missing: Vec<String> = files::with_extension("toml")
        .iter()
        .filter(|path| path.ends_with("Cargo.toml"))
        .filter_map(|path| path.parent())
        .filter(|dir| !dir.as_os_str().is_empty() && !map.contains(&format!("`{}`", dir.display())))
        .map(|dir| dir.display().to_string())
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md does not say what these are: {missing:?}");
}

/// Name and length of each function of a file that `rustfmt` laid out: its end is the first brace at its own depth.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let depth = line.len() - line.trim_start().len();
        let head_end = lines[start..]
            .iter()
            .position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        let Some(head_end) = head_end.map(|offset| start + offset) else { continue };
        let length = if lines[head_end].ends_with('{') {
            let closing = format!("{}}}", " ".repeat(depth));
            let end = lines[head_end + 1..].iter().position(|line| *line == closing);
            end.map_or(0, |offset| head_end + 1 + offset + 1 - start)
        } else {
            head_end + 1 - start
        };
        found.push((name.to_owned(), length));
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub") {
        rest = after
            .strip_prefix('(')
            .map_or(after, |after| after.split_once(')').map_or("", |(_, after)| after))
            .trim_start();
    }
    for word in ["const ", "async ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}
