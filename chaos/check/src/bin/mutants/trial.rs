//! Runs tests with one mutant on.

use std::{
    fs::File,
    io::Read,
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
