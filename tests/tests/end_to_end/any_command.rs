//! Whatever words a command line has, the exit code fits and the words that come back help.

use std::{collections::BTreeSet, process::Command};

use tests::{Ended, binary};

/// Nobody answers there, so every command that asks an agent fails in the same way.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Exit codes that commands have: fine, failed, no placement, unhealthy, no such command, what a plan gives when it
/// fails.
const CODES: [i32; 6] = [0, 1, 2, 3, 127, 255];

fn run(words: &[&str]) -> Ended {
    let mut command = Command::new(binary::path());
    command.args(words).env("NOMAD_ADDR", NOWHERE).env_remove("WAYFARER_ADDR");
    command.current_dir(std::env::temp_dir()).stdin(std::process::Stdio::null());
    Ended::of(&command.output().expect("the program starts"))
}

/// Every command that the help names: groups are asked for theirs.
fn commands() -> Vec<String> {
    let overview = run(&["help"]).said();
    let lines = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    let firsts: Vec<String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    let mut found = Vec::new();
    for first in firsts {
        let text = run(&[&first, "-help"]).said();
        let subs: Vec<&str> = text
            .lines()
            .skip_while(|line| *line != "Subcommands:")
            .skip(1)
            .filter_map(|line| line.strip_prefix("    "))
            .collect();
        if subs.is_empty() {
            found.push(first);
            continue;
        }
        for line in subs {
            // The name ends where two blanks begin, or with the one blank before the summary's capital letter.
            let name: Vec<&str> = line
                .split_whitespace()
                .take_while(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'))
                .collect();
            found.push(format!("{first} {}", name.join(" ")));
        }
    }
    found
}

/// These run until they are stopped, or change the machine.
fn is_lasting(name: &str) -> bool {
    ["agent", "dev", "ui", "monitor", "fmt", "job init", "init", "complete"].contains(&name)
        || name.starts_with("autocomplete")
}

#[test]
fn every_command_answers_whatever_follows_it() {
    let commands: Vec<String> = commands().into_iter().filter(|name| !is_lasting(name)).collect();
    assert!(commands.len() > 80, "{commands:?}");
    let endings: [&[&str]; 5] =
        [&[], &["-nope"], &["nope", "nope", "nope", "nope"], &["-address=nonsense://"], &["-help"]];
    let mut wrong = Vec::new();
    for (number, name) in commands.iter().enumerate() {
        for (turn, ending) in endings.iter().enumerate() {
            // Two of the five for each: all are met, and the whole takes seconds.
            if (number + turn) % 5 > 1 {
                continue;
            }
            let words: Vec<&str> = name.split(' ').chain(ending.iter().copied()).collect();
            let ended = run(&words);
            let said = ended.said();
            if !CODES.contains(&ended.code) {
                wrong.push(format!("{words:?}: exit code {}", ended.code));
            }
            if said.trim().is_empty() {
                wrong.push(format!("{words:?}: not a word"));
            }
            if said.contains("panicked") || said.contains("RUST_BACKTRACE") {
                wrong.push(format!("{words:?}: {said}"));
            }
            if ending == &["-help"] && ended.code != 0 {
                wrong.push(format!("{words:?}: help ends with {}", ended.code));
            }
            if ending == &["-nope"] && ended.code == 0 {
                wrong.push(format!("{words:?}: a flag that there is not was taken"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_hundred_beginnings_of_commands_lead_somewhere() {
    let commands = commands();
    let mut beginnings = BTreeSet::new();
    // Cut in the middle of words, at their ends, and with a letter too many: the same ones in every run.
    for (number, name) in commands.iter().enumerate() {
        let letters: Vec<char> = name.chars().collect();
        let cut = 1 + (number * 7 + 3) % letters.len();
        beginnings.insert(letters[..cut].iter().collect::<String>());
        if number % 3 == 0 {
            beginnings.insert(format!("{name}z"));
        }
    }
    let mut wrong = Vec::new();
    for beginning in beginnings.iter().take(100) {
        let words: Vec<&str> = beginning.split(' ').filter(|word| !word.is_empty()).collect();
        if words.is_empty() || is_lasting(beginning) || is_lasting(words[0]) {
            continue;
        }
        let ended = run(&words);
        let said = ended.said();
        if !CODES.contains(&ended.code) || said.trim().is_empty() || said.contains("panicked") {
            wrong.push(format!("{words:?}: {} {said}", ended.code));
        }
        let is_whole = commands.iter().any(|name| name == beginning);
        if !is_whole && ended.code == 0 {
            wrong.push(format!("{words:?} is no command and ends well"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
