use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use rand::{SeedableRng, rngs::SmallRng};

use crate::{Damage, Files};

/// What a start on damaged files came to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// It was noticed, and the agent helped itself.
    Detected,
    /// It was noticed, and the agent does not start before a person has looked.
    Refused,
    /// Everything is as it was.
    Harmless,
    /// Something is not as it was, and nobody said so.
    Silent,
}

/// How a start on damaged files went in a process of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rehearsal {
    /// The process ended as it should; what came of it is to be judged on another copy.
    Ended,
    /// The first starts ended the process from within, as a library does that panics in a destructor; a later one did not.
    Aborted,
    /// No start survived.
    NeverStarts,
}

/// Files of one kind of agent: made by the product, and opened by it again.
pub trait Subject {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The files as they have to be found again.
    fn files(&self) -> &Files;

    /// The files as they were earlier.
    fn older(&self) -> &Files;

    /// Starts on a copy and tells what came of it.
    ///
    /// # Errors
    ///
    /// When the trial itself went wrong; that says nothing about the product.
    fn judge(&self, dir: &Path) -> impl Future<Output = anyhow::Result<Verdict>>;

    /// Starts on a copy in a process of its own, again when that is aborted, as whoever looks after agents does.
    ///
    /// # Errors
    ///
    /// When no process could be started.
    fn rehearse(&self, _dir: &Path) -> anyhow::Result<Rehearsal> {
        Ok(Rehearsal::Ended)
    }
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many damages came to what.
    pub counts: BTreeMap<Verdict, usize>,
    /// The damages that were served in silence.
    pub silent: Vec<Damage>,
    /// The damages that wait for a person.
    pub refused: Vec<Damage>,
    /// The damages that aborted the process at first.
    pub aborted: Vec<Damage>,
}

impl Findings {
    /// How many came to this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    /// How many damages were done.
    pub fn places(&self) -> usize {
        self.counts.values().sum()
    }
}

/// Does `places` damages to a subject's files, each to a fresh copy below `scratch`. The seed decides which.
///
/// # Errors
///
/// When a trial went wrong, or undamaged files are not found again.
pub async fn sweep(
    subject: &impl Subject,
    scratch: &Path,
    places: usize,
    seed: u64,
) -> anyhow::Result<Findings> {
    let judge = async |files: &Files| {
        let dir = tempfile::tempdir_in(scratch).context("no directory for a copy")?;
        files.write(dir.path()).context("could not write a copy")?;
        subject.judge(dir.path()).await
    };
    let whole = judge(subject.files()).await.context("without any damage")?;
    anyhow::ensure!(whole == Verdict::Harmless, "{}: undamaged files came to {whole:?}", subject.name());
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut findings = Findings::default();
    for damage in Damage::plan(subject.files(), subject.older(), places, &mut rng) {
        let mut files = subject.files().clone();
        damage.apply(&mut files, subject.older());
        let dir = tempfile::tempdir_in(scratch).context("no directory for a copy")?;
        files.write(dir.path()).context("could not write a copy")?;
        let verdict = match subject.rehearse(dir.path())? {
            Rehearsal::Ended => judge(&files).await,
            Rehearsal::Aborted => {
                findings.aborted.push(damage.clone());
                subject.judge(dir.path()).await
            }
            Rehearsal::NeverStarts => Ok(Verdict::Refused),
        };
        let verdict = verdict.with_context(|| format!("{}: {damage}", subject.name()))?;
        *findings.counts.entry(verdict).or_default() += 1;
        match verdict {
            Verdict::Silent => findings.silent.push(damage),
            Verdict::Refused => findings.refused.push(damage),
            Verdict::Detected | Verdict::Harmless => {}
        }
    }
    Ok(findings)
}
