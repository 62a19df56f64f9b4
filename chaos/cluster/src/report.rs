//! What a run leaves behind: a page for people and the same for programs.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use serde::Serialize;

use crate::{
    cluster::Ended,
    fault::Kind,
    injector::Done,
    layout::Layout,
    measure::{Change, Measured},
    plan::Extent,
    relay::Passed,
};

/// Something that does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// When it was seen.
    pub at_ms: u64,
    /// What should hold.
    pub property: String,
    /// What was seen.
    pub what: String,
}

/// Something that had to come back.
#[derive(Clone, Debug, Serialize)]
pub struct Healed {
    /// What.
    pub what: String,
    /// How long it took; none when it did not in time.
    pub after_ms: Option<u64>,
    /// How long it may take.
    pub limit_ms: u64,
}

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where chance began.
    pub seed: u64,
    /// Who was there.
    pub layout: Layout,
    /// The program under test.
    pub binary: String,
    /// How long faults were to go on.
    pub extent: Extent,
    /// How long the schedule was.
    pub lasted_ms: u64,
    /// Processes that were killed with -9.
    pub kills: usize,
    /// Which faults were asked for; empty: the seed chose.
    pub kinds: Vec<Kind>,
    /// How long the region took to form.
    pub formed_ms: u64,
    /// When faults began, since the run did.
    pub faults_from_ms: u64,
    /// Times.
    pub measured: Measured,
    /// Every fault.
    pub done: Vec<Done>,
    /// What had to come back.
    pub healed: Vec<Healed>,
    /// Every change of a node's status.
    pub changes: Vec<Change>,
    /// Writes of new jobs that were acknowledged.
    pub writes: usize,
    /// And those of them that were not there at the end.
    pub lost: usize,
    /// What came of all operations of all users.
    pub outcomes: BTreeMap<String, usize>,
    /// What the relay did.
    pub packets: Passed,
    /// Agents that ended by themselves.
    pub endings: Vec<Ended>,
    /// How often each property was looked at.
    pub checks: BTreeMap<String, u64>,
    /// What does not hold.
    pub violations: Vec<Found>,
}

impl Report {
    /// The command that repeats its schedule.
    #[must_use]
    pub fn command(&self) -> String {
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.about().name).collect();
        let faults = if names.is_empty() { String::new() } else { format!(" --faults {}", names.join(",")) };
        let extent = match self.extent {
            Extent::Lasts(length) => format!("--seconds {}", length.as_secs()),
            Extent::Kills(count) => format!("--kills {count}"),
        };
        let Layout { servers, clients, .. } = self.layout;
        format!(
            "wayfarer-chaos run --seed {} {extent} --servers {servers} --clients {clients}{faults}",
            self.seed
        )
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        let verdict = if self.violations.is_empty() { "everything held" } else { "NOT EVERYTHING HELD" };
        writeln!(page, "# Seed {}: {verdict}\n\n`{}`\n", self.seed, self.command())?;
        writeln!(page, "| what | measured |\n| --- | --- |")?;
        writeln!(page, "| longest write after a leader was killed | {} |", self.measured.failover.says())?;
        writeln!(page, "| a machine gone: its node down | {} |", self.measured.node_down.says())?;
        writeln!(page, "| back: its node ready | {} |", self.measured.node_back.says())?;
        writeln!(page, "| processes killed with -9 | {} |", self.kills)?;
        writeln!(page, "| registrations acknowledged; lost | {}; {} |", self.writes, self.lost)?;
        writeln!(page, "| operations by outcome | {:?} |", self.outcomes)?;
        writeln!(page, "| the region formed | {} ms |", self.formed_ms)?;
        let Passed { passed, dropped, doubled } = self.packets;
        writeln!(page, "| packets passed, dropped, doubled | {passed}, {dropped}, {doubled} |")?;
        writeln!(page, "\n## After the last fault\n\n| what | after | at the latest |\n| --- | --- | --- |")?;
        for healed in &self.healed {
            let after = healed.after_ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
            writeln!(page, "| {} | {after} | {} ms |", healed.what, healed.limit_ms)?;
        }
        writeln!(page, "\n## Violations\n")?;
        if self.violations.is_empty() {
            writeln!(page, "None.")?;
        }
        for found in &self.violations {
            writeln!(page, "- at {} ms, {}:\n\n```\n{}\n```\n", found.at_ms, found.property, found.what)?;
        }
        writeln!(
            page,
            "\n## Faults\n\n| from ms | to ms | what | hit | note |\n| --- | --- | --- | --- | --- |"
        )?;
        for done in &self.done {
            let end = done.end_ms.map_or(String::new(), |ms| ms.to_string());
            let hit: Vec<String> = done.hit.iter().map(ToString::to_string).collect();
            let led = if done.led { " (led)" } else { "" };
            let note = done.note.as_deref().unwrap_or_default();
            writeln!(page, "| {} | {end} | {} | {}{led} | {note} |", done.at_ms, done.what, hit.join(", "))?;
        }
        writeln!(
            page,
            "\n## Agents that ended by themselves\n\n| at ms | who | with |\n| --- | --- | --- |"
        )?;
        for ended in &self.endings {
            writeln!(page, "| {} | {} | {:?} |", ended.at_ms, ended.agent, ended.ending)?;
        }
        writeln!(page, "\n## Properties, and how often each was looked at\n")?;
        for (name, count) in &self.checks {
            writeln!(page, "- {name}: {count}")?;
        }
        Ok(())
    }

    /// Writes both into a directory: `report.md` and `report.json`.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("report.md"), self.page())?;
        fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?)
    }

    /// One row of the page of results.
    #[must_use]
    pub fn row(&self, build: &str) -> String {
        let failover = &self.measured.failover;
        let times = |quantile: Option<u64>| quantile.map_or("-".to_owned(), |ms| ms.to_string());
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.about().name).collect();
        let kinds = match self.extent {
            Extent::Kills(_) => format!("{} kills", self.kills),
            Extent::Lasts(_) if names.is_empty() => "as the seed chose".to_owned(),
            Extent::Lasts(_) => names.join(", "),
        };
        format!(
            "| {build} | {} | {kinds}: {} in {} s | {} | {} / {} | {} / {} | {} | {} |",
            self.seed,
            self.done.len(),
            self.lasted_ms / 1_000,
            self.outcomes.values().sum::<usize>(),
            times(failover.quantile(0.5)),
            times(failover.quantile(1.0)),
            times(self.measured.node_down.quantile(0.5)),
            times(self.measured.node_down.quantile(1.0)),
            self.lost,
            self.violations.len()
        )
    }
}

/// Where rows go in the page of results.
const ROWS_END: &str = "<!-- runs on processes end -->";

/// Adds a run's row to the page of results.
///
/// # Errors
///
/// When the page is not there, or has no place for rows.
pub fn record(page: &Path, row: &str) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let Some((before, after)) = text.split_once(ROWS_END) else {
        return Err(io::Error::other(format!("{} has no line {ROWS_END}", page.display())));
    };
    fs::write(page, format!("{before}{row}\n{ROWS_END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_before_the_end_of_the_table() {
        let dir = tempfile::tempdir().expect("a directory");
        let page = dir.path().join("page.md");
        fs::write(&page, format!("head\n{ROWS_END}\ntail\n")).expect("a file");
        record(&page, "| one |").expect("it has a place");
        record(&page, "| two |").expect("it still has");
        let text = fs::read_to_string(&page).expect("it is there");
        assert_eq!(text, format!("head\n| one |\n| two |\n{ROWS_END}\ntail\n"));
        fs::write(&page, "nothing").expect("a file");
        assert!(record(&page, "| three |").is_err());
    }
}
