//! Does what is asked: starts a process for each run, and puts together what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    process::{Command as Process, ExitCode, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use chaos_sim::Verdict;
use runtime::Instant;
use tracing_subscriber::{EnvFilter, fmt::format::Writer, fmt::time::FormatTime};

use crate::{
    command::{Command, Task, listed},
    table::Table,
};

/// Names the seed to the process's own source of entropy (`entropy.c`).
const SEED_VARIABLE: &str = "WAYFARER_SIM_SEED";

/// What begins the line that a run ends with.
const VERDICT_LINE: &str = "verdict: ";

/// Does what is asked.
///
/// # Errors
///
/// When a process could not be started, or said nothing.
pub fn perform(command: Command) -> Result<ExitCode, String> {
    match command.task {
        Task::Seeds { count, from, twice, first } => many(&command, from..from + count, twice, first),
        Task::Minimise(seed) => minimise(&command, seed),
        Task::Seed(seed) | Task::Quietly(seed) => {
            // Entropy follows the seed only in a process that was started with it.
            if std::env::var(SEED_VARIABLE).is_ok_and(|set| set == seed.to_string()) {
                return Ok(here(&command, seed));
            }
            let status = Process::new(own_path()?)
                .args(std::env::args().skip(1))
                .env(SEED_VARIABLE, seed.to_string())
                .status()
                .map_err(|error| error.to_string())?;
            Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)))
        }
    }
}

fn own_path() -> Result<std::path::PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("this program does not know its own path: {error}"))
}

/// Runs one seed in this process.
fn here(command: &Command, seed: u64) -> ExitCode {
    let shown = matches!(command.task, Task::Seed(_));
    let plan = command.plan(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs nothing");
    let verdict = runtime.block_on(async {
        if let Some(filter) = &command.logs {
            let logs = tracing_subscriber::fmt().with_timer(Simulated(Instant::now()));
            logs.with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr).with_ansi(false).init();
        }
        chaos_sim::run(&plan, shown).await
    });
    // What is left of the agents is not waited for.
    runtime.shutdown_background();
    println!("{VERDICT_LINE}{}", serde_json::to_string(&verdict).expect("a verdict is plain data"));
    if verdict.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows simulated time in log lines.
struct Simulated(Instant);

impl FormatTime for Simulated {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:>12.6}", self.0.elapsed().as_secs_f64())
    }
}

/// Runs that may be over before the one whose turn it is to be told of: a slow run does not leave processors idle, and
/// what waits is bounded.
const AHEAD_MAX: usize = 64;

/// Runs of other processes, a few at a time, which are told of in the order in which they were started.
struct Runs<'a> {
    command: &'a Command,
    started: usize,
    told_of: usize,
    running: usize,
    over: BTreeMap<usize, (u64, io::Result<Output>)>,
    tell: mpsc::Sender<(usize, u64, io::Result<Output>)>,
    told: mpsc::Receiver<(usize, u64, io::Result<Output>)>,
}

impl<'a> Runs<'a> {
    fn of(command: &'a Command) -> Self {
        let (tell, told) = mpsc::channel();
        Self { command, started: 0, told_of: 0, running: 0, over: BTreeMap::new(), tell, told }
    }

    /// Tells whether another one may be started.
    fn has_room(&self) -> bool {
        self.running < self.command.jobs && self.started - self.told_of < self.command.jobs + AHEAD_MAX
    }

    fn start(&mut self, seed: u64, without: &BTreeSet<usize>) -> Result<(), String> {
        let child = Process::new(own_path()?)
            .args(self.command.for_one(seed, without))
            .env(SEED_VARIABLE, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (number, tell) = (self.started, self.tell.clone());
        // It ends with its process.
        let waiter = thread::Builder::new().name("chaos-sim-run".to_owned()).spawn(move || {
            // Nobody to tell means that another run could not be started.
            let _ = tell.send((number, seed, child.wait_with_output()));
        });
        waiter.map_err(|error| error.to_string())?;
        self.started += 1;
        self.running += 1;
        Ok(())
    }

    /// Waits until the run whose turn it is has ended or there is room for another one. None when no run is left, or the
    /// next one is not over yet.
    fn next(&mut self) -> Result<Option<Verdict>, String> {
        while !self.over.contains_key(&self.told_of) {
            if self.running == 0 {
                return Ok(None);
            }
            let (number, seed, output) = self.told.recv().map_err(|error| error.to_string())?;
            self.running -= 1;
            self.over.insert(number, (seed, output));
            if number != self.told_of {
                return Ok(None);
            }
        }
        let Some((seed, output)) = self.over.remove(&self.told_of) else { return Ok(None) };
        self.told_of += 1;
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let verdict = text.lines().find_map(|line| line.strip_prefix(VERDICT_LINE));
        let verdict = verdict.and_then(|verdict| serde_json::from_str(verdict).ok());
        verdict
            .map(Some)
            .ok_or_else(|| format!("the run of seed {seed} ended without a verdict: {}", output.status))
    }

    /// Tells whether every run was told of.
    fn is_done(&self) -> bool {
        self.told_of == self.started
    }
}

fn many(
    command: &Command,
    seeds: std::ops::Range<u64>,
    twice: bool,
    first: bool,
) -> Result<ExitCode, String> {
    // All once before any again: when time runs out, that costs comparisons and no seeds.
    let mut left = seeds.clone().chain(seeds.filter(|_| twice));
    let mut runs = Runs::of(command);
    let (began, mut table) = (Instant::now(), Table::begin(command));
    loop {
        let late = command.most.is_some_and(|most| began.elapsed() >= most);
        let enough = late || first && !table.is_clean();
        while !enough
            && runs.has_room()
            && let Some(seed) = left.next()
        {
            runs.start(seed, &command.without)?;
        }
        let Some(verdict) = runs.next()? else {
            if runs.is_done() {
                break;
            }
            continue;
        };
        for finding in &verdict.findings {
            let at = finding.at.as_secs_f64();
            println!("seed {}: {} at {at:.1} s: {}", verdict.seed, finding.property, finding.what);
        }
        table.add(verdict);
    }
    println!("{table}");
    if let Some(path) = &command.results {
        // A page that is not there begins with this table.
        let page = std::fs::read_to_string(path).unwrap_or_default();
        std::fs::write(path, table.put_into(&page))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if table.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Leaves out faults, many at a time and then fewer, for as long as the seed still fails.
fn minimise(command: &Command, seed: u64) -> Result<ExitCode, String> {
    let plan = command.plan(seed);
    let fails = |without: &BTreeSet<usize>| -> Result<Option<Verdict>, String> {
        let mut runs = Runs::of(command);
        runs.start(seed, without)?;
        Ok(runs.next()?.filter(|verdict| !verdict.findings.is_empty()))
    };
    let mut without = command.without.clone();
    let Some(mut last) = fails(&without)? else {
        println!("seed {seed} does not fail");
        return Ok(ExitCode::SUCCESS);
    };
    // Places count in the whole plan, of which nothing is left out yet.
    let all: Vec<usize> = (0..plan.happenings.len() + without.len()).collect();
    let mut chunk = all.len().div_ceil(2).max(1);
    loop {
        let mut shrank = false;
        for places in all.chunks(chunk) {
            let wanted: BTreeSet<usize> = without.iter().chain(places).copied().collect();
            if wanted.len() == without.len() {
                continue;
            }
            if let Some(verdict) = fails(&wanted)? {
                println!("still fails without {} of {} faults", wanted.len(), all.len());
                (without, last, shrank) = (wanted, verdict, true);
            }
        }
        if chunk == 1 && !shrank {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    let whole = Command { without: BTreeSet::new(), ..command.clone() }.plan(seed);
    println!("\nseed {seed} fails with these faults:");
    for (place, happening) in
        whole.happenings.iter().enumerate().filter(|(place, _)| !without.contains(place))
    {
        let (at, lasts) = (happening.at.as_secs_f64(), happening.lasts.as_secs_f64());
        println!("  #{place} at {at:.3} s for {lasts:.3} s: {}", happening.fault);
    }
    for finding in &last.findings {
        println!("  {}: {}", finding.property, finding.what);
    }
    println!("\nto see it: --seed {seed} --profile {} --without {}", command.profile, listed(&without));
    Ok(ExitCode::FAILURE)
}

/// A duration for people.
pub fn hours(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
