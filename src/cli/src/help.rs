//! Help texts, made from the table of commands.

use std::collections::BTreeMap;

use crate::{
    command::Command,
    flags::{Flag, Kind},
    table,
};

/// Tells whether a word asks for help.
pub fn is_help_flag(word: &str) -> bool {
    matches!(word, "-h" | "-help" | "--help")
}

/// Lists everything that there is.
pub fn overview(program: &str) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for command in table::commands() {
        let (first, rest) = command.name.split_once(' ').unwrap_or((command.name, ""));
        groups.entry(first).or_default().push(if rest.is_empty() { command.summary } else { rest });
    }
    let mut text = format!("Usage: {program} <command> [options] [arguments]\n\nCommands:\n");
    for (name, parts) in groups {
        text.push_str(&format!("    {name:<12} {}\n", parts.join(", ")));
    }
    text.push_str(&format!("\n'{program} <command> -help' says more about a command."));
    text
}

/// Lists the commands of a group; `wrong` is a word that is none of them.
pub fn group(program: &str, group: &str, wrong: Option<&str>) -> String {
    let mut text = format!("Usage: {program} {group} <subcommand> [options] [arguments]\n");
    if let Some(near) = wrong.and_then(|wrong| nearest(&format!("{group} {wrong}"))) {
        text.push_str(&format!("\nThere is no such subcommand. Did you mean '{program} {near}'?\n"));
    }
    text.push_str("\nSubcommands:\n");
    let width = table::of_group(group).map(|command| command.name.len() - group.len()).max().unwrap_or(0);
    for command in table::of_group(group) {
        text.push_str(&format!("    {:<width$} {}\n", &command.name[group.len() + 1..], command.summary));
    }
    text.trim_end().to_owned()
}

/// Says that there is no such command, and which one may have been meant.
pub fn unknown(program: &str, word: &str) -> String {
    let mut text =
        format!("Usage: {program} <command> [options] [arguments]\n\nThere is no command {word:?}.");
    if let Some(near) = nearest(word) {
        text.push_str(&format!(" Did you mean '{program} {near}'?"));
    }
    text.push_str(&format!("\n'{program} -help' lists them all."));
    text
}

fn nearest(wrong: &str) -> Option<&'static str> {
    let names = table::commands()
        .flat_map(|command| std::iter::once(command.name).chain(command.aliases.iter().copied()));
    hcl::similar_name(wrong, names)
}

/// Explains a command.
pub fn command(program: &str, command: &Command) -> String {
    let mut text =
        format!("Usage: {program} {} {}\n\n    {}\n", command.name, command.usage, command.summary);
    if !command.aliases.is_empty() {
        text.push_str(&format!("\n    Also: {}\n", command.aliases.join(", ")));
    }
    let mut list = |title: &str, flags: &[&Flag]| {
        if flags.is_empty() {
            return;
        }
        text.push_str(&format!("\n{title}:\n"));
        for flag in flags {
            let value = match flag.kind {
                Kind::Bool => "",
                Kind::Text | Kind::List => " <text>",
                Kind::Number => " <number>",
                Kind::Duration => " <time>",
            };
            text.push_str(&format!("    -{}{value}\n        {}\n", flag.name, flag.help));
        }
    };
    list("Options", &command.flags.iter().collect::<Vec<_>>());
    list("General options", &command.all_flags().skip(command.flags.len()).collect::<Vec<_>>());
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn help_begins_with_the_usage_of_the_name_that_was_called() {
        assert!(super::overview("nomad").starts_with("Usage: nomad "));
        assert!(super::group("wayfarer", "job", Some("rum")).starts_with("Usage: wayfarer job "));
        assert!(super::group("nomad", "job", Some("rum")).contains("'nomad job run'"));
        assert!(super::unknown("nomad", "jobb").contains("Usage: nomad"));
    }
}
