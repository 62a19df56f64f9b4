//! Tries every mutant: builds the tests once with all of them compiled in, then runs the tests of the crates that should
//! notice with one mutant on at a time, and tells which test did and how soon.
//!
//! `cargo run -p chaos-check --bin mutants -- [--list] [--only NAME[,NAME]] [--sim SEEDS] [--report FILE]`
//!
//! With `--sim` the simulation looks for them instead, in so many seeds of each of its profiles.
//!
//! The build shares all foreign crates with other builds: cargo is told to compile only crates of the workspace through
//! a wrapper, which is this program again.
#![expect(clippy::disallowed_methods, reason = "what is measured here are other processes, in real time")]

mod build;
mod report;
mod trial;

use std::{collections::BTreeSet, env, path::PathBuf, process::ExitCode};

use mutants::Mutant;

use self::trial::{Found, Outcome};

/// What to do.
struct Wanted {
    list: bool,
    mutants: Vec<&'static Mutant>,
    report: Option<PathBuf>,
    /// Seeds of each profile, when the simulation is to look.
    sim: Option<u64>,
}

fn main() -> ExitCode {
    if env::var_os(build::WRAPPING).is_some() {
        return build::compile();
    }
    let wanted = match arguments(env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(what) => {
            eprintln!("{what}\nusage: mutants [--list] [--only NAME[,NAME]] [--sim SEEDS] [--report FILE]");
            return ExitCode::from(2);
        }
    };
    if wanted.list {
        wanted.mutants.iter().for_each(|mutant| println!("{:36} {}", mutant.name, mutant.what));
        return ExitCode::SUCCESS;
    }
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

/// Tries what is wanted; true when every mutant was noticed.
fn run(wanted: &Wanted) -> Result<bool, String> {
    let outcomes = match wanted.sim {
        Some(seeds) => with_simulation(wanted, seeds)?,
        None => with_tests(wanted)?,
    };
    let caught = outcomes.iter().filter(|(_, outcome)| outcome.found != Found::Nothing).count();
    println!("{caught} of {} caught", outcomes.len());
    if let Some(path) = &wanted.report {
        report::write(path, &outcomes).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(caught == outcomes.len())
}

type Outcomes = Vec<(&'static Mutant, Outcome)>;

fn with_simulation(wanted: &Wanted, seeds: u64) -> Result<Outcomes, String> {
    let simulation = build::simulation()?;
    let mut outcomes = Vec::new();
    for mutant in &wanted.mutants {
        let outcome = trial::simulate(mutant, &simulation, seeds)?;
        println!("{}", report::line(mutant, &outcome));
        outcomes.push((*mutant, outcome));
    }
    Ok(outcomes)
}

fn with_tests(wanted: &Wanted) -> Result<Outcomes, String> {
    let crates: BTreeSet<&str> = wanted.mutants.iter().flat_map(|mutant| mutant.crates).copied().collect();
    let binaries = build::tests_of(&crates)?;
    println!("{} test binaries of {} crates; first without any mutant", binaries.len(), crates.len());
    for binary in &binaries {
        let outcome = trial::run(binary, "")?;
        if let Found::Caught { by, .. } = outcome.found {
            return Err(format!("{} fails without any mutant: {}", binary.name, by.join(", ")));
        }
    }
    let mut outcomes = Vec::new();
    for mutant in &wanted.mutants {
        let outcome = trial::hunt(mutant, &binaries)?;
        println!("{}", report::line(mutant, &outcome));
        outcomes.push((*mutant, outcome));
    }
    Ok(outcomes)
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted { list: false, mutants: mutants::ALL.iter().collect(), report: None, sim: None };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--list" => wanted.list = true,
            "--only" => {
                let names = given.next().ok_or("--only needs names")?;
                wanted.mutants = names.split(',').map(by_name).collect::<Result<_, _>>()?;
            }
            "--sim" => {
                let seeds = given.next().ok_or("--sim needs a number of seeds")?;
                wanted.sim = Some(seeds.parse().map_err(|_| format!("{seeds} is not a number"))?);
            }
            "--report" => wanted.report = Some(given.next().ok_or("--report needs a file")?.into()),
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(wanted)
}

fn by_name(name: &str) -> Result<&'static Mutant, String> {
    let found = mutants::ALL.iter().find(|mutant| mutant.name == name);
    found.ok_or_else(|| format!("there is no mutant {name}; --list shows them"))
}
