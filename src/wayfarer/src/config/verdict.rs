//! `config validate`.

use std::path::Path;

use super::{
    check::{self, Mode},
    files::Loaded,
};

/// What `config validate` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// The exit code.
    pub exit: i32,
}

/// Runs `config validate`: prints what there is to say, and returns the exit code.
pub fn validate(args: &[String]) -> i32 {
    let paths: Vec<String> = args.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
    if args.iter().any(|arg| matches!(arg.trim_start_matches('-'), "h" | "help") && arg.starts_with('-')) {
        println!(
            "Usage: wayfarer config validate <path> [<path>...]\n\n  Checks configuration files and directories as the \
             agent would read them\n  together, in this order. Nothing is started or changed."
        );
        return 0;
    }
    let verdict = validate_command(&paths);
    print!("{}", verdict.stdout);
    eprint!("{}", verdict.stderr);
    verdict.exit
}

/// Reads files and directories as an agent would, and says whether one could run with them.
pub fn validate_command(paths: &[String]) -> Verdict {
    if paths.is_empty() {
        return refused("Must specify at least one config file or directory\n".to_owned());
    }
    let mut loaded = Loaded::default();
    let mut errors = Vec::new();
    for path in paths {
        if let Err(error) = loaded.add(Path::new(path)) {
            errors.push(error.to_string());
        }
    }
    if !errors.is_empty() {
        let count = if errors.len() == 1 { "1 error".to_owned() } else { format!("{} errors", errors.len()) };
        let list: String = errors.iter().map(|error| format!("\t* {error}\n")).collect();
        return refused(format!("{count} occurred:\n{list}\n\n"));
    }
    let mut warnings = loaded.warnings;
    let result = check::check(&loaded.raw, Mode { dev: false }, &mut warnings);
    if result.is_ok() {
        warnings.extend(super::notes(&loaded.raw, &super::Flags::default()));
    }
    let mut stderr: String = warnings.iter().map(|warning| format!("WARNING: {warning}\n")).collect();
    match result {
        Ok(()) => Verdict { stdout: "Configuration is valid!\n".to_owned(), stderr, exit: 0 },
        Err(fault) => {
            stderr.push_str(&format!("{fault}\nConfiguration is invalid\n"));
            refused(stderr)
        }
    }
}

fn refused(stderr: String) -> Verdict {
    Verdict { stdout: String::new(), stderr, exit: 1 }
}
