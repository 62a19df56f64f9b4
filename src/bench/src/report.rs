//! What was measured, as a table and as JSON.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::process::Cost;

/// The figures of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// What it was run with.
    pub setting: Map<String, Value>,
    /// What was measured, in the order in which it is shown.
    pub figures: Vec<Figure>,
    /// What each process took.
    pub processes: Vec<Cost>,
    /// The machine's load before and after, and the part of its processors in use meanwhile.
    pub load_before: f64,
    /// See [`Report::load_before`].
    pub load_after: f64,
    /// See [`Report::load_before`].
    pub machine_busy: f64,
    /// How far the work was at which time.
    pub curve: Vec<Point>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
}

/// How far the work was.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Seconds since the beginning.
    pub at: f64,
    /// Allocations that are there.
    pub placed: usize,
    /// Those of them that run.
    pub running: usize,
}

impl Report {
    /// Begins a report.
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), ..Self::default() }
    }

    /// Notes what the scenario was run with.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.setting.insert(name.to_owned(), value.into());
    }

    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// Adds a time in seconds.
    pub fn time(&mut self, name: impl Into<String>, time: Duration) {
        self.add(name, time.as_secs_f64(), "s");
    }

    /// Adds how many of something there were in a second.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&mut self, name: impl Into<String>, count: usize, time: Duration) {
        self.add(name, count as f64 / time.as_secs_f64().max(1e-9), "/s");
    }

    /// Adds the middle, the 99th percentile and the largest of some times.
    pub fn spread(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (part, of_hundred) in [("p50", 50), ("p99", 99), ("max", 100)] {
            if let Some(time) = percentile(&times, of_hundred) {
                self.add(format!("{name} {part}"), time.as_secs_f64() * 1e3, "ms");
            }
        }
    }

    /// Writes the table.
    pub fn table(&self) -> String {
        let mut text = format!("scenario {}", self.scenario);
        for (name, value) in &self.setting {
            let _ = write!(text, "  {name} {value}");
        }
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        text.push('\n');
        for Figure { name, value, unit } in &self.figures {
            let _ = writeln!(text, "  {name:<width$}  {value:>12.3} {unit}");
        }
        for Cost { name, cpu_seconds, resident_mib, peak_mib } in &self.processes {
            let _ = writeln!(
                text,
                "  {name:<12} cpu {cpu_seconds:>8.2} s  resident {resident_mib:>7.0} MiB  peak {peak_mib:>7.0} MiB"
            );
        }
        let (before, after, busy) = (self.load_before, self.load_after, self.machine_busy * 100.0);
        let _ =
            writeln!(text, "  load {before:.2} before, {after:.2} after; machine {busy:.0} % busy meanwhile");
        text
    }

    /// Writes everything to a file.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&json!(self))?;
        fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
    }
}

/// The value below which so many of a hundred lie, of sorted values.
pub fn percentile(sorted: &[Duration], of_hundred: usize) -> Option<Duration> {
    let at = (sorted.len() * of_hundred).div_ceil(100);
    sorted.get(at.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&times, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&times, 100), Some(Duration::from_millis(200)));
        assert_eq!(percentile(&times[..1], 50), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn the_table_names_every_figure_and_process() {
        let mut report = Report::new("burst");
        report.set("nodes", 500);
        report.time("running", Duration::from_millis(1_500));
        let before = crate::process::Usage::default();
        report.processes.push(Cost::between("server 1".to_owned(), before, before));
        let table = report.table();
        assert!(table.starts_with("scenario burst  nodes 500\n"), "{table}");
        assert!(
            table.contains("running") && table.contains("1.500 s") && table.contains("server 1"),
            "{table}"
        );
    }
}
