//! Runs tests with one mutant on.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use mutants::{Mutant, VARIABLE};

use crate::build::TestBinary;

/// The longest that the tests of one program may take. A mutant that makes them wait for ever is caught by this.
const TRIAL_MAX: Duration = Duration::from_secs(120);
/// How often a program is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The simulation's profiles that break something, the one with everything first.
const PROFILES: [&str; 4] = ["storm", "reconnect", "disk", "gossip"];

/// What came of a mutant.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found.
    pub found: Found,
    /// How long that took.
    pub took: Duration,
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// Every test passed.
    Nothing,
    /// Some did not.
    Caught {
        /// The tests that failed, or what else became of the program.
        by: Vec<String>,
    },
}

/// Runs the tests of the crates that should notice a mutant, until one program does.
pub fn hunt(mutant: &Mutant, binaries: &[TestBinary]) -> Result<Outcome, String> {
    let mut took = Duration::ZERO;
    for name in mutant.crates {
        for binary in binaries.iter().filter(|binary| binary.of == *name) {
            let outcome = run(binary, mutant.name)?;
            took += outcome.took;
            if outcome.found != Found::Nothing {
                return Ok(Outcome { took, ..outcome });
            }
        }
    }
    Ok(Outcome { found: Found::Nothing, took })
}

/// Lets the simulation look for a mutant, a few seeds of each profile, until one fails.
pub fn simulate(mutant: &Mutant, simulation: &Path, seeds: u64) -> Result<Outcome, String> {
    let started = Instant::now();
    for profile in PROFILES {
        let output = Command::new(simulation)
            .args(["--seeds", &seeds.to_string(), "--first", "--profile", profile, "--seconds", "40"])
            .env(VARIABLE, mutant.name)
            .output()
            .map_err(|error| format!("{}: {error}", simulation.display()))?;
        if output.status.success() {
            continue;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let finding = text.lines().find(|line| line.starts_with("seed "));
        // A run that ended without a verdict says so in the other stream.
        let said = String::from_utf8_lossy(&output.stderr);
        let what = finding.or(said.lines().last()).unwrap_or("it ended badly");
        let what = what.split_once(" at ").map_or(what, |(what, _)| what);
        return Ok(Outcome {
            found: Found::Caught { by: vec![format!("{profile}, {what}")] },
            took: started.elapsed(),
        });
    }
    Ok(Outcome { found: Found::Nothing, took: started.elapsed() })
}

/// Runs the tests of one program.
pub fn run(binary: &TestBinary, mutant: &str) -> Result<Outcome, String> {
    let broken = |error: std::io::Error| format!("{}: {error}", binary.path.display());
    // What the tests say goes to a file: a pipe that nobody empties would hold them up.
    let log = std::env::temp_dir().join(format!("wayfarer-mutants-{}.log", std::process::id()));
    let out = File::create(&log).map_err(broken)?;
    let started = Instant::now();
    let mut child = Command::new(&binary.path)
        .current_dir(&binary.dir)
        .env(VARIABLE, mutant)
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(broken)?)
        .stderr(out)
        .spawn()
        .map_err(broken)?;
    let code = wait(&mut child, started).map_err(broken)?;
    let took = started.elapsed();
    let mut text = String::new();
    File::open(&log).and_then(|mut file| file.read_to_string(&mut text)).map_err(broken)?;
    std::fs::remove_file(&log).map_err(broken)?;
    let found = match code {
        Some(Ok(())) => Found::Nothing,
        Some(Err(how)) => Found::Caught { by: failed(binary, &text, &how) },
        None => Found::Caught { by: vec![format!("{} does not end", binary.name)] },
    };
    Ok(Outcome { found, took })
}

/// Waits for the end; none when the time is over, `Err` with how it ended when not well.
fn wait(child: &mut Child, started: Instant) -> std::io::Result<Option<Result<(), String>>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(if status.success() { Ok(()) } else { Err(status.to_string()) }));
        }
        if started.elapsed() > TRIAL_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Lists the tests that the harness says failed.
fn failed(binary: &TestBinary, text: &str, how: &str) -> Vec<String> {
    let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let tests: Vec<String> = failed.map(|test| format!("{} {test}", binary.name)).collect();
    if tests.is_empty() { vec![format!("{} ended with {how}", binary.name)] } else { tests }
}
