use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{History, Observation, Rows, all, observation::Moment};

/// A property does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{property} at {at:?}: {what}")]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// When that was seen.
    pub at: Moment,
    /// What was seen, with everything that is needed to find it again.
    pub what: String,
}

/// Something that must hold.
///
/// One instance follows one run. What it remembers of earlier observations it keeps itself.
pub trait Property: Send {
    /// Its name: the number in the list of invariants and the claim, e.g. `I1 one leader per term`.
    fn name(&self) -> &'static str;

    /// Looks at one more observation. The moments never go back.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let _unused = seen;
        Ok(())
    }

    /// Looks at the newest state, once for each index that is seen of it: what asks nothing but the rows belongs here. Comes
    /// after [`Property::step`] of the same observation.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn changed(&mut self, seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let _unused = (seen, rows);
        Ok(())
    }

    /// Looks at the cluster after everything had time to heal, and at all that users did. May be asked again and again
    /// until it holds or the time is over, so it changes nothing.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn end(&self, last: &Observation, history: &History) -> Result<(), String> {
        let _unused = (last, history);
        Ok(())
    }
}

/// Up to which index the state was looked at.
#[derive(Debug, Default)]
pub(crate) struct LookedAt {
    index: Option<u64>,
}

impl LookedAt {
    /// Returns the newest rows when they are later than all that were looked at.
    pub(crate) fn news<'a>(&mut self, seen: &'a Observation) -> Option<&'a Arc<Rows>> {
        let rows = seen.newest_rows().filter(|rows| self.index.is_none_or(|index| rows.index > index))?;
        self.index = Some(rows.index);
        Some(rows)
    }
}

/// Asks a property about one more observation, and about the rows in it when they are news.
pub(crate) fn ask(
    property: &mut (impl Property + ?Sized),
    seen: &Observation,
    news: Option<&Arc<Rows>>,
) -> Result<(), String> {
    property.step(seen)?;
    news.map_or(Ok(()), |rows| property.changed(seen, rows))
}

/// Every property together, with counts of how often each was looked at.
pub struct Checker {
    properties: Vec<Box<dyn Property>>,
    looked_at: LookedAt,
    checks: BTreeMap<&'static str, u64>,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker").field("checks", &self.checks).finish_non_exhaustive()
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new(all())
    }
}

impl Checker {
    /// Follows a run with these properties; [`Checker::default`] takes those of [`all`].
    pub fn new(properties: Vec<Box<dyn Property>>) -> Self {
        Self { properties, looked_at: LookedAt::default(), checks: BTreeMap::new() }
    }

    /// Looks at one more observation and lists what does not hold.
    pub fn step(&mut self, seen: &Observation) -> Vec<Violation> {
        let mut found = Vec::new();
        let news = self.looked_at.news(seen);
        for property in &mut self.properties {
            let name = property.name();
            *self.checks.entry(name).or_default() += 1;
            if let Err(what) = ask(property.as_mut(), seen, news) {
                found.push(Violation { property: name, at: seen.at, what });
            }
        }
        found
    }

    /// Looks at the end and lists what does not hold. A run that waits for the cluster to heal asks again until the list
    /// is empty or its deadline is over.
    pub fn end(&mut self, last: &Observation, history: &History) -> Vec<Violation> {
        let mut found = Vec::new();
        for property in &self.properties {
            let name = property.name();
            *self.checks.entry(name).or_default() += 1;
            if let Err(what) = property.end(last, history) {
                found.push(Violation { property: name, at: last.at, what });
            }
        }
        found
    }

    /// How often each property was looked at, for the table of a run.
    pub fn checks(&self) -> &BTreeMap<&'static str, u64> {
        &self.checks
    }
}
