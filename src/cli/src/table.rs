//! Every command, and how a call finds its own.

use crate::command::Command;

/// Lists all commands by family.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    let families: [&'static [Command]; 25] = [
        crate::job::COMMANDS,
        crate::job::CHANGING,
        crate::node::COMMANDS,
        crate::alloc::COMMANDS,
        crate::eval::COMMANDS,
        crate::deployment::COMMANDS,
        crate::namespace::COMMANDS,
        crate::node::pool::COMMANDS,
        crate::cluster::COMMANDS,
        crate::join_token::COMMANDS,
        crate::operator::COMMANDS,
        crate::state_hashes::COMMANDS,
        crate::snapshot::COMMANDS,
        crate::debug::COMMANDS,
        crate::gossip::COMMANDS,
        crate::root_keys::COMMANDS,
        crate::service::COMMANDS,
        crate::agent::COMMANDS,
        crate::status::COMMANDS,
        crate::tls_files::COMMANDS,
        crate::fmt::COMMANDS,
        crate::ui::COMMANDS,
        crate::complete::COMMANDS,
        crate::operator::SETTINGS,
        crate::absent::COMMANDS,
    ];
    families.into_iter().flatten()
}

/// What the words of a call mean.
pub enum Found {
    /// A command, and how many words its name took.
    Command(&'static Command, usize),
    /// Only the beginning of commands' names.
    Group(String),
    /// Nothing at all.
    Nothing,
}

/// Finds the command with the longest name that the words begin with.
pub fn find(words: &[String]) -> Found {
    let plain = words.iter().take_while(|word| !word.starts_with('-')).count();
    for length in (1..=plain.min(4)).rev() {
        let name = words[..length].join(" ");
        if let Some(command) =
            commands().find(|command| command.name == name || command.aliases.contains(&name.as_str()))
        {
            return Found::Command(command, length);
        }
        if is_group(&name) {
            return Found::Group(name);
        }
    }
    Found::Nothing
}

fn is_group(name: &str) -> bool {
    commands().any(|command| command.name.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))
}

/// Lists the commands of a group.
pub fn of_group<'a>(group: &'a str) -> impl Iterator<Item = &'static Command> + 'a {
    commands()
        .filter(move |command| command.name.strip_prefix(group).is_some_and(|rest| rest.starts_with(' ')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_unique_and_flags_are_too() {
        let mut names = BTreeSet::new();
        for command in commands() {
            for name in std::iter::once(&command.name).chain(command.aliases) {
                assert!(names.insert(*name), "{name} is there twice");
            }
            let mut flags = BTreeSet::new();
            for flag in command.all_flags() {
                assert!(flags.insert(flag.name), "{} has -{} twice", command.name, flag.name);
            }
        }
        assert!(names.len() > 90, "{}", names.len());
    }

    #[test]
    fn commands_have_the_flags_that_scripts_use() {
        for (name, wanted) in [
            (
                "job run",
                "check-index consul-namespace detach eval-priority output preserve-counts ui var vault-namespace",
            ),
            ("job plan", "diff json-output t var vault-namespace verbose"),
            ("job status", "all-allocs evals json short t ui"),
            ("job action", "alloc allocation group i job t task"),
            ("alloc status", "json short stats t ui verbose"),
        ] {
            let Found::Command(command, _) = find(&words(name)) else { panic!("{name} is not there") };
            for flag in wanted.split(' ') {
                assert!(command.all_flags().any(|known| known.name == flag), "{name} lacks -{flag}");
            }
        }
    }

    #[test]
    fn the_longest_name_wins() {
        let name = |text: &str| match find(&words(text)) {
            Found::Command(command, used) => format!("{} {used}", command.name),
            Found::Group(group) => format!("group {group}"),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(name("run x.hcl"), "job run 1");
        assert_eq!(name("job run x.hcl"), "job run 2");
        assert_eq!(name("node pool list"), "node pool list 3");
        assert_eq!(name("node status pool"), "node status 2");
        assert_eq!(name("operator scheduler get-config -json"), "operator scheduler get-config 3");
        assert_eq!(name("job"), "group job");
        assert_eq!(name("job nope"), "group job");
        assert_eq!(name("nope"), "nothing");
        assert_eq!(name("alloc-status x"), "alloc status 1");
    }
}
