//! The commands: what a person or a script types, and what they read back.
//!
//! Everything goes through `sdk` to an agent; job files are read here (`jobspec`), so that `-var` and functions that look
//! at files work. One table ([`table`]) lists every command with its flags: parsing, help, completion and the message for
//! a name that does not exist all come from it. Output that scripts read is Nomad's, to the column.
//!
//! Read [`run`] first, then [`command::Command`].

mod absent;
mod agent;
mod alloc;
mod cluster;
mod command;
mod complete;
mod console;
mod debug;
mod deployment;
mod eval;
mod flags;
mod fmt;
mod format;
mod go_api;
mod gossip;
mod help;
mod job;
mod jobfile;
mod join_token;
mod monitor;
mod namespace;
mod node;
mod operator;
mod resolve;
mod root_keys;
mod service;
mod snapshot;
mod state_hashes;
mod status;
mod table;
mod template;
mod terminal;
mod tls_files;
mod ui;

use command::{Context, Globals};
use console::Console;

/// Exit code of a command that does not exist.
const EXIT_UNKNOWN: i32 = 127;

/// Runs a command line, the program's name first, and returns the exit code.
///
/// The agent itself (`agent`, `dev`) is not among the commands.
pub async fn run(args: Vec<String>) -> i32 {
    let mut words = args.into_iter();
    let program = words.next().unwrap_or_default();
    let program = std::path::Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("wayfarer")
        .to_owned();
    let words: Vec<String> = words.collect();
    let console = Console::of_process(&words);
    if let Some(code) = without_command(&console, &program, &words) {
        return code;
    }
    let (command, used) = match table::find(&words) {
        table::Found::Command(command, used) => (command, used),
        table::Found::Group(group) => {
            let wrong = words.get(group.split(' ').count()).map(String::as_str);
            console.out(&help::group(&program, &group, wrong));
            return i32::from(!words.iter().any(|word| help::is_help_flag(word)));
        }
        table::Found::Nothing => {
            console.out(&help::unknown(&program, &words[0]));
            return EXIT_UNKNOWN;
        }
    };
    let rest = &words[used..];
    let mut flags = rest.iter().take_while(|word| word.starts_with('-') && *word != "--");
    if flags.any(|word| help::is_help_flag(word)) {
        console.out(&help::command(&program, command));
        return 0;
    }
    let parsed = match flags::parse(command.all_flags(), rest) {
        Ok(parsed) => parsed,
        Err(error) => return bad_flags(&console, &program, command, &error),
    };
    let globals = match Globals::read(&parsed.flags, |name| std::env::var(name).ok()) {
        Ok(globals) => globals,
        Err(error) => {
            console.err(&format!("Error initializing client: {error}"));
            return 1;
        }
    };
    if let Err(error) = globals.config.check_tls() {
        console.err(&format!("Error initializing client: {error}"));
        return 1;
    }
    let context = Context { program, command, flags: parsed.flags, args: parsed.args, console, globals };
    match (command.run)(&context).await {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                context.console.err(&failure.message);
            }
            if failure.hint {
                let name = command.help_name.unwrap_or(command.name);
                context.console.err(&format!("For additional help try '{} {name} -help'", context.program));
            }
            failure.code
        }
    }
}

/// Does what a call asks for that names no command; `None` when it names one.
fn without_command(console: &Console, program: &str, words: &[String]) -> Option<i32> {
    let Some(first) = words.first() else {
        console.out(&help::overview(program));
        return Some(EXIT_UNKNOWN);
    };
    match first.as_str() {
        "-h" | "-help" | "--help" | "help" => console.out(&help::overview(program)),
        "-v" | "-version" | "--version" => console.out(&agent::version_text(program)),
        "-autocomplete-install" | "--autocomplete-install" => {
            return Some(complete::install(console, program, true));
        }
        "-autocomplete-uninstall" | "--autocomplete-uninstall" => {
            return Some(complete::install(console, program, false));
        }
        _ => return None,
    }
    Some(0)
}

/// Explains a command whose flags were wrong, and returns the exit code.
fn bad_flags(console: &Console, program: &str, command: &command::Command, error: &flags::BadFlag) -> i32 {
    console.out(&help::command(program, command));
    console.err(&error.to_string());
    if let flags::BadFlag::Unknown(name) = error
        && let Some(near) = hcl::similar_name(name, command.all_flags().map(|flag| flag.name))
    {
        console.err(&format!("Did you mean -{near}?"));
    }
    1
}
