//! Completion in shells: scripts made from the table of commands.

use std::{collections::BTreeSet, path::PathBuf};

use crate::{
    command::{Command, Context, Failure, Outcome, command},
    console::Console,
    table,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[command!(
    "completion",
    "bash|zsh|fish",
    "Print a script that completes commands in a shell.",
    &[],
    completion
)];

async fn completion(context: &Context) -> Outcome {
    let script = match context.one_arg("bash, zsh or fish")? {
        "bash" => bash(&context.program),
        "zsh" => format!("autoload -U +X bashcompinit && bashcompinit\n{}", bash(&context.program)),
        "fish" => fish(&context.program),
        other => {
            return Err(Failure::usage(format!(
                "no completion for {other:?}: there is one for bash, zsh and fish"
            )));
        }
    };
    context.console.out(&script);
    Ok(0)
}

/// Every beginning of a command's name, with the words that may follow it.
fn following() -> Vec<(String, BTreeSet<String>)> {
    let mut places: std::collections::BTreeMap<String, BTreeSet<String>> = std::collections::BTreeMap::new();
    for command in table::commands() {
        for name in std::iter::once(&command.name).chain(command.aliases) {
            let words: Vec<&str> = name.split(' ').collect();
            for at in 0..words.len() {
                places.entry(words[..at].join(" ")).or_default().insert(words[at].to_owned());
            }
            let flags = command.all_flags().map(|flag| format!("-{}", flag.name));
            places.entry((*name).to_owned()).or_default().extend(flags);
        }
    }
    places.into_iter().collect()
}

fn bash(program: &str) -> String {
    let function = program.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut cases = String::new();
    for (place, words) in following() {
        let words: Vec<String> = words.into_iter().collect();
        cases.push_str(&format!("        \"{place}\") words=\"{}\" ;;\n", words.join(" ")));
    }
    format!(
        "_{function}_complete() {{\n    local place=\"\" word words=\"\"\n    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         case \"$word\" in -*) ;; *) place=\"${{place:+$place }}$word\" ;; esac\n    done\n    case \"$place\" in\n{cases}    esac\n    \
         COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n    \
         [ ${{#COMPREPLY[@]}} -eq 0 ] && COMPREPLY=($(compgen -f -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -F _{function}_complete {program}"
    )
}

fn fish(program: &str) -> String {
    let mut text = String::new();
    for command in table::commands() {
        let condition = format!(
            "__fish_seen_subcommand_from {}",
            command.name.split(' ').next_back().unwrap_or(command.name)
        );
        let summary = command.summary.replace('\'', "");
        let (parents, last) = command.name.rsplit_once(' ').unwrap_or(("", command.name));
        let place = if parents.is_empty() {
            "__fish_use_subcommand".to_owned()
        } else {
            format!("__fish_seen_subcommand_from {}", parents.split(' ').next_back().unwrap_or(parents))
        };
        text.push_str(&format!("complete -c {program} -n '{place}' -a {last} -d '{summary}'\n"));
        for flag in command.flags {
            text.push_str(&format!(
                "complete -c {program} -n '{condition}' -o {} -d '{}'\n",
                flag.name,
                flag.help.replace('\'', "")
            ));
        }
    }
    text.trim_end().to_owned()
}

/// Writes completion into the start files of the user's shells, or takes it out again.
pub fn install(console: &Console, program: &str, wanted: bool) -> i32 {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        console.err("HOME is not set: there is no place to install completion to");
        return 1;
    };
    let mut touched = 0;
    for (file, shell) in [(".bashrc", "bash"), (".zshrc", "zsh")] {
        let path = home.join(file);
        let Ok(before) = std::fs::read_to_string(&path) else { continue };
        let line = format!("source <({program} completion {shell})");
        let kept: Vec<&str> = before.lines().filter(|old| *old != line).collect();
        let mut after = kept.join("\n");
        after.push('\n');
        if wanted {
            after.push_str(&line);
            after.push('\n');
        }
        if let Err(error) = std::fs::write(&path, after) {
            console.err(&format!("could not write {}: {error}", path.display()));
            return 1;
        }
        touched += 1;
    }
    if touched == 0 {
        console.err("found neither ~/.bashrc nor ~/.zshrc");
        return 1;
    }
    0
}
