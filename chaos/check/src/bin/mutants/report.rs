//! Writes down which mutants were caught.

use std::{fs, io, path::Path};

use mutants::Mutant;

use crate::trial::{Found, Outcome};

/// Between these lines the report belongs to this program.
const BEGIN: &str = "<!-- mutants: written by `cargo run -p chaos-check --bin mutants -- --report` -->";
const END: &str = "<!-- mutants: end -->";

/// Tests that are named; the others are counted.
const NAMED_MAX: usize = 2;

/// One mutant in one line.
pub fn line(mutant: &Mutant, outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs_f64();
    match &outcome.found {
        Found::Nothing => format!("{:36} NOT CAUGHT in {seconds:.1} s", mutant.name),
        Found::Caught { by } => format!("{:36} {seconds:6.1} s  {}", mutant.name, named(by)),
    }
}

/// Puts the table in its place in a document; at the end when it has none yet.
pub fn write(path: &Path, outcomes: &[(&Mutant, Outcome)]) -> io::Result<()> {
    let before = if path.exists() { fs::read_to_string(path)? } else { "# What the runs found\n".to_owned() };
    let caught = outcomes.iter().filter(|(_, outcome)| outcome.found != Found::Nothing).count();
    let mut table = format!(
        "## Mutants\n\n{caught} of {} were caught. The time is that of the test programs that ran until one failed, in a debug \
         build.\n\n| Mutant | What it does wrong | Caught by | Seconds |\n| --- | --- | --- | ---: |\n",
        outcomes.len()
    );
    for (mutant, outcome) in outcomes {
        let by = match &outcome.found {
            Found::Nothing => "**nothing**".to_owned(),
            Found::Caught { by } => format!("`{}`", named(by)),
        };
        let seconds = outcome.took.as_secs_f64();
        table.push_str(&format!("| `{}` | {} | {by} | {seconds:.1} |\n", mutant.name, mutant.what));
    }
    fs::write(path, replaced(&before, &table))
}

fn replaced(document: &str, table: &str) -> String {
    let section = format!("{BEGIN}\n{table}{END}\n");
    let ends = document.find(BEGIN).zip(document.find(END));
    match ends {
        Some((from, to)) => {
            let after = document[to + END.len()..].trim_start_matches('\n');
            let gap = if after.is_empty() { "" } else { "\n" };
            format!("{}{section}{gap}{after}", &document[..from])
        }
        None => format!("{}\n\n{section}", document.trim_end()),
    }
}

fn named(by: &[String]) -> String {
    let first = by.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match by.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_what_others_wrote() {
        let once = replaced("# What the runs found\n\n## Other\n", "old\n");
        assert!(once.starts_with("# What the runs found\n\n## Other\n\n"));
        let more = format!("{once}\n## After\n");
        let twice = replaced(&more, "new\n");
        assert!(twice.contains("new\n") && !twice.contains("old\n"));
        assert!(twice.ends_with("\n\n## After\n"), "{twice}");
    }
}
