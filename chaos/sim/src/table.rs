//! What many runs came to.

use std::{collections::BTreeMap, fmt, time::Duration};

use chaos_sim::Verdict;
use runtime::Instant;

use crate::{command::Command, runs::hours};

/// Between these a page of results has the simulation's table.
const BEGINS: &str = "## In the simulation";
const ENDS: &str = "<!-- the simulation's table ends -->";

/// What many runs came to.
pub struct Table {
    profile: String,
    size: String,
    began: Instant,
    jobs: usize,
    runs: u64,
    simulated: Duration,
    messages: u64,
    injected: BTreeMap<String, u64>,
    checks: BTreeMap<String, u64>,
    operations: BTreeMap<String, u64>,
    healing: Vec<Duration>,
    failed: Vec<(u64, String)>,
    /// The trace of each seed that was run.
    traces: BTreeMap<u64, u64>,
    repeated: u64,
}

impl Table {
    /// Begins a table.
    pub fn begin(command: &Command) -> Self {
        Self {
            profile: command.profile.to_string(),
            size: format!("{} servers, {} clients", command.size.servers, command.size.clients),
            began: Instant::now(),
            jobs: command.jobs,
            runs: 0,
            simulated: Duration::ZERO,
            messages: 0,
            injected: BTreeMap::new(),
            checks: BTreeMap::new(),
            operations: BTreeMap::new(),
            healing: Vec::new(),
            failed: Vec::new(),
            traces: BTreeMap::new(),
            repeated: 0,
        }
    }

    /// Adds a run.
    pub fn add(&mut self, verdict: Verdict) {
        self.runs += 1;
        self.simulated += verdict.simulated;
        self.messages += verdict.messages;
        for (to, from) in [
            (&mut self.injected, verdict.injected),
            (&mut self.checks, verdict.checks),
            (&mut self.operations, verdict.operations),
        ] {
            for (name, count) in from {
                *to.entry(name).or_default() += count;
            }
        }
        self.healing.extend(verdict.healed_after);
        if let Some(finding) = verdict.findings.first() {
            self.failed.push((verdict.seed, finding.property.clone()));
        }
        match self.traces.insert(verdict.seed, verdict.trace_hash) {
            Some(before) if before != verdict.trace_hash => {
                self.failed.push((verdict.seed, "I19 runs repeat".to_owned()));
            }
            Some(_) => self.repeated += 1,
            None => {}
        }
    }

    /// Tells whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Puts the table in the place of the one that a page of results has, or at its end.
    pub fn put_into(&self, page: &str) -> String {
        let before = page.split_once(BEGINS).map_or(page, |(before, _)| before).trim_end();
        let after = page.split_once(ENDS).map_or("", |(_, after)| after).trim();
        let mut whole = format!("{before}\n\n{BEGINS}\n\n```\n{self}\n```\n\n{ENDS}\n");
        if !after.is_empty() {
            whole.push_str(&format!("\n{after}\n"));
        }
        whole
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.began.elapsed();
        let speed = self.simulated.as_secs_f64() / took.as_secs_f64().max(0.001);
        writeln!(f, "profile {}, {}", self.profile, self.size)?;
        writeln!(
            f,
            "{} runs, {} simulated in {} with {} processes: {speed:.0} times as fast as time; {} messages",
            self.runs,
            hours(self.simulated),
            hours(took),
            self.jobs,
            self.messages
        )?;
        writeln!(f, "{} seeds run a second time with the same trace", self.repeated)?;
        if let (Some(longest), false) = (self.healing.iter().max(), self.healing.is_empty()) {
            let mut all = self.healing.clone();
            all.sort_unstable();
            let median = all[all.len() / 2].as_secs_f64();
            writeln!(f, "healed after {median:.1} s (median), {:.1} s (longest)", longest.as_secs_f64())?;
        }
        for (title, rows) in
            [("injected", &self.injected), ("users' requests", &self.operations), ("checked", &self.checks)]
        {
            writeln!(f, "\n{title}")?;
            for (name, count) in rows {
                writeln!(f, "  {name:<36} {count:>10}")?;
            }
        }
        if self.failed.is_empty() {
            return write!(f, "\nnothing was found");
        }
        writeln!(f, "\nfound")?;
        for (seed, property) in &self.failed {
            writeln!(f, "  seed {seed}: {property}")?;
        }
        Ok(())
    }
}
